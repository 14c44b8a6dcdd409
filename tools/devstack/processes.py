"""Child processes: each in its own session, recorded by pid as soon as it starts, ended by that pid."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import httpx
import psutil

POLL_SECONDS: Final = 0.05
KILL_SECONDS: Final = 5.0
"""How long to wait after SIGKILL: a process that outlives it hangs in the kernel."""
EXEC_LOOKS: Final = 10
FIRST_PORT: Final = 10_240
ENOUGH_PORTS: Final = 5_000


class LocalError(Exception):
    """The machine or its settings prevent the work; the message is one sentence for the person at the terminal."""


def free_ports(count: int) -> tuple[int, ...]:
    """Distinct ports of 127.0.0.1 that nobody listens on, and that the kernel gives to nobody who names no port.

    A program listens on its port seconds after it was chosen. Meanwhile the kernel would give a port of its own range
    to the next connection of anybody.
    """
    ports: set[int] = set()
    while len(ports) < count:
        chosen = random.choice(_port_range())  # noqa: S311 - no secret
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", chosen)) as free:
            ports.add(int(free.getsockname()[1]))
    return tuple(ports)


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of 127.0.0.1."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _port_range() -> range:
    """Ports below those that Linux gives out by itself; any (0) where that range begins too low to leave some."""
    first = read_text(Path("/proc/sys/net/ipv4/ip_local_port_range")) or "32768"
    ours = range(FIRST_PORT, int(first.split()[0]))
    return ours if len(ours) >= ENOUGH_PORTS else range(1)


def spawn(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    log: Path,
    pid_file: Path,
    wrapper: Sequence[str] = (),
    dies_with_us: signal.Signals | None = None,
) -> int:
    """Starts a program in its own session, so that Ctrl-C reaches only us and we choose the order of the shutdown.

    Args:
        argv: The program (a full path) and its arguments.
        env: Its whole environment.
        log: Receives its output; the output of an earlier process is kept as `<name>.previous.log`.
        pid_file: Written at once, so that a later cleanup finds the process even if we are killed next.
        wrapper: A program and arguments that change the user and then start the program.
        dies_with_us: The signal that Linux sends the process when we are killed.

    Returns:
        Its process id, which is also its process group.
    """
    setpriv = shutil.which("setpriv")
    if dies_with_us and setpriv and sys.platform == "linux":
        # After the wrapper: the kernel clears the signal when a process changes its user.
        argv = [setpriv, "--pdeathsig", dies_with_us.name.removeprefix("SIG"), *argv]
    argv = [*wrapper, *argv]
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_suffix(".previous.log"))
    # posix_spawn: a subprocess.Popen object warns when its process outlives it, and ours may.
    pid = os.posix_spawn(
        argv[0],
        [os.fspath(argument) for argument in argv],
        dict(env),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.fspath(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE],
    )
    pid_file.write_text(f"{pid}\n")
    return pid


def read_pid(pid_file: Path) -> int | None:
    """The pid in the first line of a pid file; None without one."""
    text = read_text(pid_file).partition("\n")[0].strip()
    return int(text) if text.isdecimal() else None


def read_text(file: Path) -> str:
    """The content of a file; empty without one."""
    try:
        return file.read_text()
    except FileNotFoundError:
        return ""


def running(pid: int) -> bool:
    """Whether a process still runs. Reaps our own dead children; zombies of others count as dead."""
    try:
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        pass
    try:
        process = psutil.Process(pid)
        # The main thread of a dying process shows as a zombie while other threads still hold its ports and files.
        return bool(process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1)
    except psutil.NoSuchProcess:
        return False


def belongs_to(pid: int, mark: str) -> bool:
    """Whether a process has `mark` in its command line or environment: its pid may have been reused."""
    for _ in range(EXEC_LOOKS):
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if environment := process.environ():  # it is empty during an exec
                return any(mark in word for word in (*process.cmdline(), *map("=".join, environment.items())))
        if not running(pid):
            return False
        time.sleep(POLL_SECONDS)
    return False


async def stop(pid: int, *, first: signal.Signals = signal.SIGTERM, patience_seconds: float = 8.0) -> None:
    """Ends a process started by `spawn`: signal `first`, then SIGKILL for the whole group. Returns once it is gone."""
    if running(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, first)
        await wait_until(lambda: not running(pid), seconds=patience_seconds)
    await kill(pid)


async def kill(pid: int) -> None:
    """Ends a process started by `spawn` and its whole group by SIGKILL, and waits until it is gone."""
    # macOS answers "not permitted" for a group of which only zombies are left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    await wait_until(lambda: not running(pid), seconds=KILL_SECONDS)


async def stop_recorded(
    pid_file: Path, *, mark: str, first: signal.Signals = signal.SIGTERM, patience_seconds: float = 8.0
) -> None:
    """Ends the process of a pid file, if it runs and has our `mark`, and removes the file."""
    pid = read_pid(pid_file)
    if pid is not None and running(pid) and belongs_to(pid, mark):
        await stop(pid, first=first, patience_seconds=patience_seconds)
    remove(pid_file)


def remove(file: Path) -> None:
    """Removes a file, if it exists."""
    file.unlink(missing_ok=True)


async def run(argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Runs a program to its end; its exit status and its output. Cancelling ends the program."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    except BaseException:
        if process.returncode is None:
            process.terminate()
            await process.wait()
        raise
    return process.returncode or 0, output.decode(errors="replace")


async def wait_until(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Whether the condition became true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


async def wait_until_ready(
    name: str, pid: int, log: Path, ready: Callable[[], Awaitable[bool]], *, seconds: float
) -> None:
    """Waits until a started process is `ready`.

    Raises:
        LocalError: It ended, or is not ready within `seconds`; shows the end of its log.
    """
    deadline = time.monotonic() + seconds
    while running(pid):
        if await ready():
            return
        if time.monotonic() > deadline:
            raise LocalError(death_notice(name, log, f"did not become ready within {seconds:.0f} s"))
        await asyncio.sleep(POLL_SECONDS)
    raise LocalError(death_notice(name, log, "ended at its start"))


async def wait_until_serving(name: str, pid: int, log: Path, url: str, *, seconds: float) -> None:
    """`wait_until_ready` for a process that answers 200 at `url`."""
    async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
        await wait_until_ready(name, pid, log, lambda: is_serving(client, url), seconds=seconds)


async def is_serving(client: httpx.AsyncClient, url: str) -> bool:
    """Whether a GET is answered 200."""
    try:
        return (await client.get(url)).status_code == httpx.codes.OK
    except (httpx.TransportError, AttributeError):  # anyio's, of a connection that is reset as soon as it is open
        return False


def death_notice(name: str, log: Path, how: str) -> str:
    """One sentence about a process in trouble, and the end of its log."""
    return f"{name} {how}. The last lines of {log}:\n{last_lines(log)}"


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a log, for a message about a process that failed."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        lines = []
    return "\n".join(lines) or "(it wrote nothing)"
