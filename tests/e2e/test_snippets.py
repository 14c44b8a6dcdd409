"""What the README and docs/integrating.md tell a newcomer to paste works, as pasted, against one running stack."""

import asyncio
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local import processes

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGE = (ROOT / "docs/integrating.md").read_text()
EXAMPLES = ROOT / "docs/examples"
START_SECONDS = 180
PATIENCE_SECONDS = 60
MAVEN_SECONDS = 300
"""The first time it fetches its plugins and the two libraries."""


@dataclass(frozen=True, kw_only=True)
class RunningStack:
    folder: Path
    where: dict[str, Any]

    def adapted(self, snippet: str) -> str:
        """The snippet with this stack's ports and folder in place of the usual ones."""
        usual = {
            "http://127.0.0.1:8085": self.where["bridge"],
            "http://127.0.0.1:12111": self.where["sandbox"],
            ".stack/stack.json": str(self.folder / "stack.json"),
            "/tmp/checkout.json": str(self.folder / "checkout.json"),  # noqa: S108 - the README's own words
        }
        for theirs, ours in usual.items():
            snippet = snippet.replace(theirs, ours)
        return snippet


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    folder = tmp_path_factory.mktemp("stack")
    names = ("BRIDGE_PORT", "SERVICE_PORT", "SANDBOX_PORT", "STOREFRONT_PORT")
    ports = {name: str(port) for name, port in zip(names, processes.free_ports(len(names)), strict=True)}
    environment = {**os.environ, **ports, "STACK_DIR": str(folder)}
    said = folder / "said.txt"
    with said.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.local", "run"], cwd=ROOT, env=environment, stdout=out, stderr=out
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while "Paid once" not in said.read_text():
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < deadline, said.read_text()
            time.sleep(0.2)
        yield RunningStack(folder=folder, where=json.loads((folder / "stack.json").read_text()))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


def snippet(language: str) -> str:
    match = re.search(rf"test_snippets\.py\. -->\n```{language}\n(.*?)```", README, re.DOTALL)
    assert match is not None, f"no tested {language} snippet in the README"
    return match[1]


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")


@needs_curl
def test_the_curl_lines_buy_a_ticket(stack: RunningStack) -> None:
    script = f"set -eu\n{stack.adapted(snippet('bash'))}"
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    answers = [json.loads(answer) for answer in re.findall(r"\{.*?\}", ran.stdout)]
    assert answers[0]["status"] == "pending"
    assert [answer["paymentStatus"] for answer in answers[1:]] == ["PENDING", "COMPLETED", "COMPLETED"]


async def buy(stack: RunningStack) -> None:
    payments = f"{stack.where['bridge']}/api/v1/internal/payments"
    identity = {"X-User-Id": "7", "X-User-Roles": "SERVICE_ACCOUNT"}
    async with httpx.AsyncClient(headers=identity, trust_env=False) as client:
        order = {"bookingId": time.time_ns(), "userId": 7, "amount": 449.97}
        session = (await client.post(f"{payments}/checkout/create", json=order)).json()["sessionId"]
        card = {"card": "4242 4242 4242 4242"}
        await client.post(f"{stack.where['sandbox']}/_sandbox/sessions/{session}/pay", json=card)
        state = (await client.get(f"{payments}/checkout/verify/{session}")).json()
    assert state["paymentStatus"] == "COMPLETED"


async def test_ten_lines_of_python_receive_the_events(stack: RunningStack) -> None:
    subscriber = await asyncio.create_subprocess_exec(
        sys.executable, "-c", stack.adapted(snippet("python")), stdout=asyncio.subprocess.PIPE
    )
    assert subscriber.stdout is not None
    try:
        async with asyncio.timeout(60):
            # It has no word for "subscribed": buy until it tells of a purchase.
            while True:
                await buy(stack)
                try:
                    async with asyncio.timeout(2):
                        first = await subscriber.stdout.readline()
                        second = await subscriber.stdout.readline()
                        break
                except TimeoutError:
                    continue
    finally:
        subscriber.terminate()
        await subscriber.wait()
    assert first.startswith(b"com.bookticket.payment.")
    assert {first.split()[2], second.split()[2]} == {b"PENDING", b"COMPLETED"}


# --- docs/integrating.md ---------------------------------------------------------------------------------------------


def printed(name: str) -> str:
    """The snippet of the page with this name."""
    [snippet] = re.findall(rf"<!-- tested: {re.escape(name)} -->\n```[a-z]+\n(.*?)```", PAGE, re.DOTALL)
    return str(snippet)


def shell(stack: RunningStack, *names: str) -> str:
    """What the page's lines say when they are pasted one block after the other."""
    lines = "".join(stack.adapted(printed(name)) for name in names)
    command = ["bash", "-c", f"set -eu\n{lines}"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def environment(stack: RunningStack) -> dict[str, str]:
    """With AMQP_URL as the page's line sets it."""
    line = stack.adapted(printed("address"))
    said = subprocess.run(["bash", "-c", f'{line}\necho "$AMQP_URL"'], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == stack.where["amqp"]
    return os.environ | {"AMQP_URL": said.stdout.strip()}


@asynccontextmanager
async def running(
    stack: RunningStack, *command: str, folder: Path | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process with the page's environment, ended at the end."""
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


async def told_of_a_purchase(process: asyncio.subprocess.Process, stack: RunningStack) -> None:
    """The subscriber, which says that it waits, says the two lines that the page promises."""
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
async def test_an_event_arrives_in_python(stack: RunningStack, tmp_path: Path) -> None:
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
async def test_an_event_arrives_in_java(stack: RunningStack, tmp_path: Path) -> None:
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
def test_waiting_is_heeded_as_the_page_says(stack: RunningStack) -> None:
    said = shell(stack, "purchase", "waiting").splitlines()
    assert said[-2].strip().lower() == "preference-applied: wait=10"
    assert json.loads(said[-1])["paymentStatus"] == "COMPLETED"


@needs_curl
def test_stripe_fails_as_the_page_says(stack: RunningStack) -> None:
    said = shell(stack, "purchase", "faults").splitlines()
    down, expired = json.loads(said[-2]), json.loads(said[-1])
    assert (down["status"], down["paymentStatus"], down["retryable"]) == (502, "GATEWAY_ERROR", True)
    assert expired["paymentStatus"] == "FAILED"
    assert httpx.get(f"{stack.where['sandbox']}/_sandbox/ledger", trust_env=False).json() == []


async def test_the_examples_do_a_purchase_over_rabbitmq_alone(stack: RunningStack, tmp_path: Path) -> None:
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
