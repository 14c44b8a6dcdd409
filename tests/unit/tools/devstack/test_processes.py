"""Processes are recorded and ended by pid, and never confused with other processes."""

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tools.devstack import processes
from tools.devstack.processes import LocalError

SLEEPS = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)",
]


def _spawn(argv: list[str], folder: Path) -> int:
    environment = dict(os.environ) | {"MARK": str(folder)}
    return processes.spawn(argv, env=environment, log=folder / "log.log", pid_file=folder / "it.pid")


async def _until(condition: Callable[[], bool]) -> None:
    assert await processes.wait_until(condition, seconds=120)


async def _up(folder: Path) -> None:
    await _until(lambda: "up" in processes.read_text(folder / "log.log"))


async def test_a_process_is_ended_by_its_pid_file(tmp_path: Path) -> None:
    pid = _spawn(SLEEPS, tmp_path)
    assert processes.running(pid)
    await processes.stop_recorded(tmp_path / "it.pid", mark=str(tmp_path))
    assert not processes.running(pid)
    assert not (tmp_path / "it.pid").exists()


async def test_a_stubborn_process_is_killed_after_the_patience_with_it(tmp_path: Path) -> None:
    pid = _spawn(STUBBORN, tmp_path)
    await _up(tmp_path)
    await processes.stop(pid, patience_seconds=0.2)
    assert not processes.running(pid)


async def test_a_stranger_with_the_pid_of_ours_is_left_alone_and_ctrl_c_does_not_reach_ours(tmp_path: Path) -> None:
    pid = _spawn(SLEEPS, tmp_path)
    await processes.stop_recorded(tmp_path / "it.pid", mark="/somewhere/else")
    assert processes.running(pid)
    assert os.getsid(pid) == pid, "a session of its own"
    await processes.kill(pid)


async def test_the_log_of_the_process_before_is_kept(tmp_path: Path) -> None:
    for _ in range(2):
        pid = _spawn(SLEEPS, tmp_path)
        await _up(tmp_path)
        await processes.kill(pid)
    assert (tmp_path / "log.previous.log").read_text() == "up\n"
    assert processes.last_lines(tmp_path / "log.log") == "up"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tie one process to another")
async def test_a_process_can_be_made_to_die_with_its_parent(tmp_path: Path) -> None:
    starts = (
        "import os, signal, sys; from pathlib import Path; from tools.devstack import processes;"
        "folder = Path(sys.argv[1]);"
        "processes.spawn([sys.executable, '-c', 'import time; time.sleep(60)'], env=dict(os.environ),"
        "log=folder / 'child.log', pid_file=folder / 'child.pid', dies_with_us=signal.SIGTERM);"
        "print('up', flush=True); signal.pause()"
    )
    parent = _spawn([sys.executable, "-c", starts, str(tmp_path)], tmp_path)
    await _up(tmp_path)
    child = processes.read_pid(tmp_path / "child.pid")
    assert child is not None
    # setpriv has to have become the program first.
    await _until(lambda: "time.sleep" in processes.read_text(Path(f"/proc/{child}/cmdline")))
    os.kill(parent, signal.SIGKILL)
    await _until(lambda: not processes.running(child) and not processes.running(parent))


async def test_a_command_that_fails_tells_its_status_and_words() -> None:
    status, said = await processes.run([sys.executable, "-c", "print('no'); raise SystemExit(3)"])
    assert (status, said) == (3, "no\n")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell their own range")
def test_free_ports_differ_and_no_connection_of_a_stranger_takes_one_meanwhile() -> None:
    ports = processes.free_ports(20)
    assert len(set(ports)) == 20
    with socket.create_server(("127.0.0.1", 0)) as given:
        strangers = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        assert max(ports) < strangers <= given.getsockname()[1]


async def test_a_process_is_known_while_it_becomes_another_program(tmp_path: Path) -> None:
    """As a script does that ends in `exec`: for a moment it then has neither a command line nor an environment."""
    script = tmp_path / "again"
    script.write_text('#!/bin/sh\nexec "$0"\n')
    script.chmod(0o755)
    pid = _spawn([str(script)], tmp_path)
    try:
        assert [look for look in range(300) if not processes.belongs_to(pid, f"MARK={tmp_path}")] == []
    finally:
        await processes.kill(pid)


async def test_a_start_that_fails_or_takes_too_long_shows_the_end_of_its_log(tmp_path: Path) -> None:
    async def ready() -> bool:
        return False

    pid, log = _spawn(SLEEPS, tmp_path), tmp_path / "log.log"
    await _up(tmp_path)
    with pytest.raises(LocalError, match=r"^it did not become ready within 0 s\. The last lines of .*:\nup$"):
        await processes.wait_until_ready("it", pid, log, ready, seconds=0)
    await processes.kill(pid)
    with pytest.raises(LocalError, match=r"^it ended at its start\. The last lines of .*:\nup$"):
        await processes.wait_until_ready("it", pid, log, ready, seconds=120)


async def test_whatever_becomes_of_a_connection_to_a_process_that_dies_it_does_not_serve() -> None:
    class Reset(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise AttributeError(request.url)

    async with httpx.AsyncClient(transport=Reset()) as client:
        assert not await processes.is_serving(client, "http://127.0.0.1/")
