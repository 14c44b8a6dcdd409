"""`make run` and `make demo` as a person meets them: real processes, Ctrl-C, a taken port, two at once."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from deploy.local.processes import free_ports
from deploy.local.settings import CHECKOUT

UP_SECONDS = 90
# What Ctrl-C may take at most.
END_SECONDS = 10

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a stack in a folder of the test's own, on ports of its own; ends it whatever happens."""
    started: list[subprocess.Popen[str]] = []

    def begin(command: str, folder: str = "one", **settings: str) -> subprocess.Popen[str]:
        names = ("BRIDGE_PORT", "SERVICE_PORT", "SANDBOX_PORT", "STOREFRONT_PORT")
        ports = dict(zip(names, map(str, free_ports(4)), strict=True))
        environment = {name: value for name, value in os.environ.items() if name not in {"AMQP_URL", "DATABASE_URL"}}
        with (tmp_path / f"{folder}.txt").open("w") as out:
            stack = subprocess.Popen(
                [sys.executable, "-m", "deploy.local", command],
                cwd=CHECKOUT,
                env=environment | ports | {"STACK_DIR": str(tmp_path / folder)} | settings,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
            )
        started.append(stack)
        return stack

    yield begin
    for stack in started:
        if stack.poll() is None:
            stack.send_signal(signal.SIGINT)
        stack.wait(timeout=2 * END_SECONDS)


def _said(tmp_path: Path, folder: str = "one") -> str:
    return (tmp_path / f"{folder}.txt").read_text()


def _left(tmp_path: Path) -> list[str]:
    """Processes whose command line or environment names the test's folder, ourselves apart."""
    left = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), process.environ().get("BOOKTICKET_FOLDER", "")]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(tmp_path) in word for word in words):
            left.append(" ".join(words))
    return left


def _wait_until_up(tmp_path: Path, *stacks: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + UP_SECONDS
    for stack, folder in zip(stacks, ("one", "two"), strict=False):
        while "Everything is up" not in _said(tmp_path, folder):
            assert stack.poll() is None, _said(tmp_path, folder)
            assert time.monotonic() < deadline, _said(tmp_path, folder)
            time.sleep(0.1)


@pytest.mark.parametrize("seconds", [0, 1.5, 5])
def test_ctrl_c_during_the_start_leaves_nothing_running(start: Start, tmp_path: Path, seconds: float) -> None:
    stack = start("run")
    while "BookTicket payments" not in _said(tmp_path):
        assert stack.poll() is None, _said(tmp_path)
        time.sleep(0.01)
    time.sleep(seconds)
    stack.send_signal(signal.SIGINT)
    assert stack.wait(timeout=END_SECONDS) == 130
    assert _left(tmp_path) == []
    assert "Traceback" not in _said(tmp_path)


def test_a_taken_port_is_one_sentence_and_nothing_is_started(start: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        assert start("demo", BRIDGE_PORT=port).wait(timeout=20) == 1
    assert _said(tmp_path) == (f"Port {port} is taken by another program: end it, or set BRIDGE_PORT to a free port.\n")
    assert _left(tmp_path) == []


def test_a_part_that_dies_at_its_start_is_named_with_its_last_words(start: Start, tmp_path: Path) -> None:
    assert start("demo", PAYMENT_CURRENCY="doubloons").wait(timeout=UP_SECONDS) == 1
    assert "service ended at its start" in _said(tmp_path)
    assert "PAYMENT_CURRENCY" in _said(tmp_path)
    assert _left(tmp_path) == []


def test_two_stacks_run_side_by_side_and_end_alone(start: Start, tmp_path: Path) -> None:
    one, two = start("run"), start("run", "two")
    _wait_until_up(tmp_path, one, two)
    first, second = (json.loads((tmp_path / name / "stack.json").read_text()) for name in ("one", "two"))
    assert set(first) == {"bridge", "service", "sandbox", "amqp", "database", "pids"}
    assert not set(first["pids"].values()) & set(second["pids"].values())
    assert "Paid once, known everywhere." in _said(tmp_path)
    for page in (f"{first['bridge']}/docs", f"{first['service']}/asyncapi"):
        assert page in _said(tmp_path)
        assert httpx.get(page, trust_env=False).headers["content-type"].startswith("text/html")

    one.send_signal(signal.SIGTERM)
    assert one.wait(timeout=END_SECONDS) == 0
    assert not (tmp_path / "one" / "stack.json").exists()
    assert httpx.get(f"{second['bridge']}/actuator/health/readiness", trust_env=False).status_code == 200

    os.kill(second["pids"]["bridge"], signal.SIGKILL)
    assert two.wait(timeout=END_SECONDS) == 1
    assert "bridge has ended unexpectedly" in _said(tmp_path, "two")
    assert _left(tmp_path) == []


def test_data_is_kept_and_a_killed_stack_takes_its_parts_along(start: Start, tmp_path: Path) -> None:
    one = start("run")
    _wait_until_up(tmp_path, one)
    one.kill()
    one.wait()
    assert start("demo").wait(timeout=UP_SECONDS) == 0
    assert "payment       2" in _said(tmp_path)
    assert _left(tmp_path) == []
