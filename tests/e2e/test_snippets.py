"""The snippets of the README and docs/integrating.md work as pasted, against one running stack."""

import asyncio
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import LocalStack

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGE = (ROOT / "docs/integrating.md").read_text()
EXAMPLES = ROOT / "docs/examples"
PATIENCE_SECONDS = 60
MAVEN_SECONDS = 300
"""The first time it fetches its plugins and the two libraries."""


def adapted(stack: LocalStack, snippet: str) -> str:
    """The snippet with this stack's ports and folder in place of the usual ones."""
    usual = {
        "http://127.0.0.1:8085": stack.where["bridge"],
        "http://127.0.0.1:12111": stack.where["sandbox"],
        ".stack/env": str(stack.folder / "env"),
        "/tmp/checkout.json": str(stack.folder / "checkout.json"),  # noqa: S108 - the README's own words
    }
    for theirs, ours in usual.items():
        snippet = snippet.replace(theirs, ours)
    return snippet


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    stack = LocalStack.start("run", tmp_path_factory.mktemp("snippets") / "stack")
    try:
        stack.wait_for("Paid once")
        yield stack
    finally:
        stack.end()


def snippet(language: str) -> str:
    match = re.search(rf"test_snippets\.py\. -->\n```{language}\n(.*?)```", README, re.DOTALL)
    assert match is not None, f"no tested {language} snippet in the README"
    return match[1]


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")


@needs_curl
def test_the_curl_lines_buy_a_ticket(stack: LocalStack) -> None:
    script = f"set -eu\n{adapted(stack, snippet('bash'))}"
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    answers = [json.loads(answer) for answer in re.findall(r"\{.*?\}", ran.stdout)]
    assert answers[0]["status"] == "pending"
    assert [answer["paymentStatus"] for answer in answers[1:]] == ["PENDING", "COMPLETED", "COMPLETED"]


@needs_curl
async def test_ten_lines_of_python_receive_the_events(stack: LocalStack) -> None:
    first = second = ""
    async with running(stack, sys.executable, "-c", adapted(stack, snippet("python"))) as subscriber:
        while not second:  # it does not print when it is subscribed: buy until it prints a purchase
            await asyncio.to_thread(shell, stack, "purchase")
            with suppress(TimeoutError):
                first = await line_of(subscriber, seconds=2)
                second = await line_of(subscriber, seconds=2)
    assert first.startswith("com.bookticket.payment.")
    assert {first.split()[2], second.split()[2]} == {"PENDING", "COMPLETED"}


# --- docs/integrating.md ---------------------------------------------------------------------------------------------


def printed(name: str) -> str:
    """The snippet of the page with this name."""
    [snippet] = re.findall(rf"<!-- tested: {re.escape(name)} -->\n```[a-z]+\n(.*?)```", PAGE, re.DOTALL)
    return str(snippet)


def shell(stack: LocalStack, *names: str) -> str:
    """The output of the page's blocks, pasted one after the other."""
    lines = "".join(adapted(stack, printed(name)) for name in names)
    command = ["bash", "-c", f"set -eu\n{lines}"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def environment(stack: LocalStack) -> dict[str, str]:
    """The environment, with AMQP_URL as the page's line sets it."""
    line = adapted(stack, printed("address"))
    said = subprocess.run(["bash", "-c", f'{line}\necho "$AMQP_URL"'], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == stack.where["amqp"]
    return os.environ | {"AMQP_URL": said.stdout.strip()}


@asynccontextmanager
async def running(
    stack: LocalStack, *command: str, folder: Path | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process with the page's environment."""
    process = await asyncio.create_subprocess_exec(
        *command, env=environment(stack), cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def line_of(process: asyncio.subprocess.Process, *, seconds: float = PATIENCE_SECONDS) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(seconds):
        return (await process.stdout.readline()).decode().strip()


async def told_of_a_purchase(process: asyncio.subprocess.Process, stack: LocalStack) -> None:
    """The waiting subscriber prints the two lines that the page promises."""
    await asyncio.sleep(1)  # the page's booking is the clock's second, in which another test may have bought
    bought = await asyncio.to_thread(shell, stack, "purchase")
    booking = re.findall(r'"bookingId": ?(\d+)', bought)[-1]
    assert '"COMPLETED"' in bought
    lines = [(await line_of(process)).split() for _ in range(2)]
    assert [line[1:] for line in lines] == [["1", booking, "PENDING"], ["2", booking, "COMPLETED"]]
    assert lines[0][0] == lines[1][0]


def test_every_snippet_of_the_page_is_run() -> None:
    languages = re.findall(r"^```([a-z]+)$", PAGE, re.MULTILINE)
    assert len(languages) == len(re.findall(r"^<!-- tested: .* -->\n```[a-z]+$", PAGE, re.MULTILINE)) == 7


@needs_curl
async def test_an_event_arrives_in_python(stack: LocalStack, tmp_path: Path) -> None:
    (tmp_path / "events.py").write_text(printed("events.py"))
    async with running(stack, sys.executable, "events.py", folder=tmp_path) as subscriber:
        assert await line_of(subscriber) == "waiting for events"
        await told_of_a_purchase(subscriber, stack)


def why_no_java() -> str | None:
    if shutil.which("mvn") is None:
        return "there is no Maven on this machine"
    said = subprocess.run(["mvn", "-version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"Java version: (\d+)", said)
    return None if found and int(found[1]) >= 17 else "Maven has no Java 17 or newer on this machine"


@needs_curl
@pytest.mark.thorough
async def test_an_event_arrives_in_java(stack: LocalStack, tmp_path: Path) -> None:
    if reason := why_no_java():
        pytest.skip(reason)
    for name in ("pom.xml", "src/main/java/PaymentEvents.java"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(printed(name))
    command = re.search(r"then `(mvn [^`]*)`", PAGE)
    assert command is not None
    async with running(stack, *command[1].split(), folder=tmp_path) as subscriber:
        said = await line_of(subscriber, seconds=MAVEN_SECONDS)
        if "Could not transfer" in said or "could not be resolved" in said:
            pytest.skip(f"Maven cannot fetch what it needs: {said}")
        assert said == "waiting for events"
        await told_of_a_purchase(subscriber, stack)


@needs_curl
def test_waiting_is_heeded_as_the_page_says(stack: LocalStack) -> None:
    said = shell(stack, "purchase", "waiting").splitlines()
    assert said[-2].strip().lower() == "preference-applied: wait=10"
    assert json.loads(said[-1])["paymentStatus"] == "COMPLETED"


@needs_curl
def test_stripe_fails_as_the_page_says(stack: LocalStack) -> None:
    said = shell(stack, "purchase", "faults").splitlines()
    down, expired = json.loads(said[-2]), json.loads(said[-1])
    assert (down["status"], down["paymentStatus"], down["retryable"]) == (502, "GATEWAY_ERROR", True)
    assert expired["paymentStatus"] == "FAILED"
    assert httpx.get(f"{stack.where['sandbox']}/_sandbox/ledger", trust_env=False).json() == []


async def test_the_examples_do_a_purchase_over_rabbitmq_alone(stack: LocalStack, tmp_path: Path) -> None:
    """A create that nobody answers, its event, the payment, a status that is asked for; and the subscriber's table."""
    booking, store = time.time_ns(), tmp_path / "payments.sqlite"
    commander = (sys.executable, str(EXAMPLES / "commander.py"))
    subscriber = (
        sys.executable,
        str(EXAMPLES / "subscriber.py"),
        "--store",
        str(store),
        "--queue",
        "examples.payments",
    )
    async with running(stack, *subscriber) as listening:
        assert "waiting for events" in await line_of(listening)
        async with running(stack, *commander, "create", str(booking), "7", "449.97") as creating:
            status, payment_url = (await line_of(creating)).split()
        assert status == "PENDING"
        assert payment_url.startswith(stack.where["sandbox"])
        [session] = re.findall(r"cs_test_[A-Za-z0-9]+", payment_url)
        card = {"card": "4242 4242 4242 4242"}
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.post(f"{stack.where['sandbox']}/_sandbox/sessions/{session}/pay", json=card)
        for kind, answer in (("verify", "checkout.verify.reply"), ("status", "payment.status.reply")):
            async with running(stack, *commander, kind, session) as asking:
                said = await line_of(asking)
            assert said.startswith(answer)
            assert "COMPLETED" in said
        async with running(stack, *commander, "status", "cs_test_nobody") as asking:
            assert (await line_of(asking)).startswith("fault")
        while "COMPLETED (2)" not in await line_of(listening):
            assert listening.returncode is None
    with closing(sqlite3.connect(store)) as database:
        states = database.execute("SELECT status, sequence FROM payments WHERE booking_id = ?", [booking]).fetchall()
        assert states == [("COMPLETED", 2)]
