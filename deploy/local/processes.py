"""Processes of our own: each in a session of its own, known by its pid from the first moment, ended by that pid."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

POLL_SECONDS: Final = 0.05
KILL_SECONDS: Final = 5.0
EXEC_LOOKS: Final = 10
"""A process that SIGKILL does not end hangs in the kernel; nobody can wait for that."""


class LocalError(Exception):
    """Something on this machine stands in the way; the message is one sentence for the person at the terminal."""


def free_ports(count: int) -> tuple[int, ...]:
    """Ports of 127.0.0.1 that nobody listens on. All are held at once while choosing, so they differ."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = tuple(int(each.getsockname()[1]) for each in held)
    for each in held:
        each.close()
    return ports


def spawn(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    log: Path,
    pid_file: Path,
    wrapper: Sequence[str] = (),
    dies_with_us: signal.Signals | None = None,
) -> int:
    """Starts a program in a session of its own, so that Ctrl-C reaches us alone and we choose the order of the end.

    Args:
        argv: The program (a full path) and its arguments.
        env: Its whole environment.
        log: Where its output goes; what an earlier process wrote there is kept as `<name>.previous.log`.
        pid_file: Written at once, so that whoever cleans up after us knows the process even if we are killed next.
        wrapper: A program and arguments that become another user and then the program.
        dies_with_us: The signal that Linux sends it should we be killed without a chance to end it.

    Returns:
        Its process id, which is its process group's too.
    """
    setpriv = shutil.which("setpriv")
    if dies_with_us and setpriv and sys.platform == "linux":
        # After the wrapper, as the kernel forgets the signal when a process becomes another user.
        argv = [setpriv, "--pdeathsig", dies_with_us.name.removeprefix("SIG"), *argv]
    argv = [*wrapper, *argv]
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_suffix(".previous.log"))
    # posix_spawn, as subprocess.Popen objects insist on outliving their processes and ours may outlive us.
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
    """The pid in such a file, None without one."""
    text = read_text(pid_file).strip()
    return int(text) if text.isdecimal() else None


def read_text(file: Path) -> str:
    """What a file holds, nothing without one."""
    try:
        return file.read_text()
    except FileNotFoundError:
        return ""


def running(pid: int) -> bool:
    """Whether a process still runs. Our own dead children are reaped on the way, other people's zombies are dead."""
    try:
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _zombie(pid)


def _zombie(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        # The first thread of a dying process is shown as a zombie while others still hold its ports and files.
        return state == "Z" and len(list(Path(f"/proc/{pid}/task").iterdir())) == 1
    except OSError:
        return False


def belongs_to(pid: int, mark: str) -> bool:
    """Whether a process has `mark` in its command line or environment, as its pid may now be a stranger's."""
    if not Path("/proc/self").exists():
        return mark in _ps(pid)
    for _ in range(EXEC_LOOKS):
        shown = _shown(pid)
        if shown or not running(pid):
            return os.fsencode(mark) in shown
        time.sleep(POLL_SECONDS)
    return False


def _shown(pid: int) -> bytes:
    """Its command line and environment; nothing for the moment in which it becomes another program (exec)."""
    with contextlib.suppress(OSError):
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        return environment and environment + Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _ps(pid: int) -> str:
    """The command line and environment as `ps` shows them, where there is no /proc (macOS)."""
    return subprocess.run(
        ["ps", "-E", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout


async def stop(pid: int, *, first: signal.Signals = signal.SIGTERM, patience_seconds: float = 8.0) -> None:
    """Ends a process started by `spawn`: a polite signal, then the whole group by SIGKILL. Returns once it is gone."""
    if running(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, first)
        await _gone(pid, within_seconds=patience_seconds)
    await kill(pid)


async def kill(pid: int) -> None:
    """Ends a process started by `spawn` and its whole group at once, and waits until it is gone."""
    # macOS answers "not permitted" for a group of which only zombies are left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    await _gone(pid, within_seconds=KILL_SECONDS)


async def _gone(pid: int, *, within_seconds: float) -> None:
    deadline = time.monotonic() + within_seconds
    while True:
        if not running(pid) or time.monotonic() > deadline:
            return
        await asyncio.sleep(POLL_SECONDS)


async def stop_recorded(
    pid_file: Path, *, mark: str, first: signal.Signals = signal.SIGTERM, patience_seconds: float = 8.0
) -> None:
    """Ends the process that a pid file names, if it runs and is ours by `mark`, and removes the file."""
    pid = read_pid(pid_file)
    if pid is not None and running(pid) and belongs_to(pid, mark):
        await stop(pid, first=first, patience_seconds=patience_seconds)
    forget(pid_file)


def forget(file: Path) -> None:
    """Removes a file, if it is there."""
    file.unlink(missing_ok=True)


async def run(argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Runs a program to its end and returns its exit status and everything it said. Cancelling ends the program."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await process.communicate()
    except BaseException:
        if process.returncode is None:
            process.terminate()
            await process.wait()
        raise
    return process.returncode or 0, said.decode(errors="replace")


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a log, for a message about why its writer died."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        lines = []
    return "\n".join(lines) or "(it wrote nothing)"
