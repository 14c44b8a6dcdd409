"""Processes of our programs that `tests/kit/warm.py` forks: they start in a twentieth of the time."""

import asyncio
import atexit
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.devstack.stack_settings import CHECKOUT

OUTPUT_BYTES = 1 << 24


@functools.cache
def _warm() -> str:
    """The socket of this worker's process that forks; it ends with this one."""
    folder = tempfile.mkdtemp(prefix="bookticket-warm-")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/socket")
        listener.listen(64)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.kit.warm", str(listener.fileno())],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)},
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
        )
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(process.communicate)
    return f"{folder}/socket"


class Forked:
    """A process, with what the tests use of `asyncio.subprocess.Process`."""

    def __init__(self, pid: int, ending: asyncio.StreamReader, asker: asyncio.StreamWriter) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout: asyncio.StreamReader | None = None
        self._end = asyncio.create_task(self._ended(ending, asker))

    async def _ended(self, ending: asyncio.StreamReader, asker: asyncio.StreamWriter) -> int:
        self.returncode = int(await ending.readline())
        asker.close()
        return self.returncode

    async def wait(self) -> int:
        """Its exit status; minus the signal's number if one ended it."""
        return await asyncio.shield(self._end)

    async def communicate(self) -> tuple[bytes, None]:
        """What it still says, once it has ended."""
        assert self.stdout is not None
        said = await self.stdout.read()
        await self.wait()
        return said, None

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Process = asyncio.subprocess.Process | Forked


async def fork(*arguments: str, folder: Path, environment: dict[str, str], out: int | None = None) -> Forked:
    """`python -m` with these arguments. `out`: a descriptor for what it says; without one, it is its `stdout`."""
    said, says = (None, out) if out is not None else os.pipe()
    wish = {"arguments": arguments, "environment": environment, "folder": str(folder)}
    asker = socket.socket(socket.AF_UNIX)
    asker.connect(_warm())
    socket.send_fds(asker, [json.dumps(wish).encode()], [says])
    asker.shutdown(socket.SHUT_WR)
    if said is not None:
        os.close(says)
    ending, writer = await asyncio.open_connection(sock=asker)
    process = Forked(int(await ending.readline()), ending, writer)
    if said is not None:
        process.stdout = stdout = asyncio.StreamReader(limit=OUTPUT_BYTES)
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stdout), os.fdopen(said, "rb", buffering=0)
        )
    return process
