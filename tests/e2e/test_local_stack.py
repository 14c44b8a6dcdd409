"""`make run` and `make demo` as a person uses them: real processes, Ctrl-C, a taken port, two at once."""

import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.conftest import END_SECONDS, UP_SECONDS, LocalStack

Start = Callable[..., LocalStack]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a stack in a folder of the test's own, and ends it whatever happens."""
    started: list[LocalStack] = []

    def begin(command: str, folder: str = "one", **settings: str) -> LocalStack:
        started.append(LocalStack.start(command, tmp_path / folder, **settings))
        return started[-1]

    yield begin
    for stack in started:
        stack.end()


def left(tmp_path: Path) -> list[str]:
    """Other processes whose command line or environment names the test's folder."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), process.environ().get("BOOKTICKET_FOLDER", "")]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(tmp_path) in word for word in words):
            found.append(" ".join(words))
    return found


@pytest.mark.parametrize(
    "line",
    [
        "BookTicket payments",
        *(pytest.param(each, marks=pytest.mark.thorough) for each in ("ready  sandbox", "ready  migrations")),
    ],
)
def test_ctrl_c_during_the_start_leaves_nothing_running(start: Start, tmp_path: Path, line: str) -> None:
    stack = start("run")
    stack.wait_for(line)
    assert stack.end() == 130
    assert left(tmp_path) == []
    assert "Traceback" not in stack.said


def test_a_taken_port_is_one_sentence_and_nothing_is_started(start: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        stack = start("demo", BRIDGE_PORT=port)
        assert stack.process.wait(timeout=UP_SECONDS) == 1
    assert stack.said == f"Port {port} is taken by another program: end it, or set BRIDGE_PORT to a free port.\n"
    assert left(tmp_path) == []


@pytest.mark.thorough
def test_a_part_that_dies_at_its_start_is_named_with_its_last_words(start: Start, tmp_path: Path) -> None:
    stack = start("demo", PAYMENT_CURRENCY="doubloons")
    assert stack.process.wait(timeout=UP_SECONDS) == 1
    assert "service ended at its start" in stack.said
    assert "PAYMENT_CURRENCY" in stack.said
    assert left(tmp_path) == []


@pytest.mark.thorough
def test_two_stacks_run_side_by_side_and_end_alone_and_data_is_kept(start: Start, tmp_path: Path) -> None:
    """One is killed and started again on its data, the other loses a part; neither leaves a process behind."""
    one, two = start("run"), start("run", "two")
    for stack in (one, two):
        stack.wait_for("Everything is up")
    first, second = one.where, two.where
    assert set(first) == {"bridge", "service", "console", "sandbox", "amqp", "database", "pids"}
    assert not set(first["pids"].values()) & set(second["pids"].values())
    assert "Paid once, known everywhere." in one.said
    one.wait_for("  logs ")  # the last line of the addresses
    for page in (f"{first['bridge']}/docs", f"{first['service']}/asyncapi"):
        assert page in one.said
        assert httpx.get(page, trust_env=False, timeout=END_SECONDS).headers["content-type"].startswith("text/html")

    one.end(signal.SIGKILL)
    readiness = f"{second['bridge']}/actuator/health/readiness"
    assert httpx.get(readiness, trust_env=False, timeout=END_SECONDS).status_code == 200
    os.kill(second["pids"]["bridge"], signal.SIGKILL)
    assert two.process.wait(timeout=END_SECONDS) == 1
    assert "bridge has ended unexpectedly" in two.said

    again = start("run")
    again.wait_for("Everything is up")
    (paid,) = set(re.findall(r"transaction +(cs_test_\w+)", one.said))
    status = f"{again.where['bridge']}/api/v1/internal/payments/status/{paid}"
    who = {"X-User-Id": "1", "X-User-Roles": "SERVICE_ACCOUNT"}
    kept = httpx.get(status, headers=who, trust_env=False, timeout=END_SECONDS).json()
    assert kept["paymentStatus"] == "COMPLETED"
    assert again.end(signal.SIGTERM) == 0
    assert not (again.folder / "stack.json").exists()
    assert not (again.folder / "env").exists()
    assert left(tmp_path) == []
