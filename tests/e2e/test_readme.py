"""What the README tells a newcomer to paste works, as pasted, against a running stack."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local import processes

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
START_SECONDS = 180


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
    match = re.search(rf"test_readme\.py\. -->\n```{language}\n(.*?)```", README, re.DOTALL)
    assert match is not None, f"no tested {language} snippet in the README"
    return match[1]


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
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
