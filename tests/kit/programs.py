"""Programs of this checkout as processes that tests start, and whose output they look at."""

import asyncio
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.kit.forks import Process, fork
from tools.devstack.processes import free_ports
from tools.devstack.stack_settings import CHECKOUT

FORKED = {"service", "bridge", "console"}
SETPRIV = shutil.which("setpriv")
DIES_WITH_US = (SETPRIV, "--pdeathsig", "KILL") if SETPRIV else ()
"""So that a killed test run leaves nothing behind."""
PORTS = ("SERVICE_PORT", "BRIDGE_PORT", "CONSOLE_PORT")
END_SECONDS = 180.0
"""Ends a hang."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The exit status of a process and its output."""

    status: int
    said: str


async def start(*arguments: str, folder: Path = CHECKOUT, **environment: str) -> Process:
    """Python with these arguments, in this checkout or another one, with nothing else in its environment.

    Its ports are free ones unless they are named: a stack may have the usual ones. Our programs are forked.
    """
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    ours = {"PYTHONPATH": str(folder), "LOG_FORMAT": "json", "PATH": os.environ["PATH"], **ports}
    return await spawn(*arguments, folder=folder, environment=ours | environment)


async def spawn(*arguments: str, folder: Path, environment: dict[str, str], out: int | None = None) -> Process:
    """The same with this environment alone. `out`: a descriptor for its output, its `stdout` without one."""
    ours = arguments[0] == "-m" and arguments[1] in FORKED and folder == CHECKOUT
    if ours and "LD_PRELOAD" not in environment:  # a library with another clock comes in at the start alone
        return await fork(*arguments[1:], folder=folder, environment=environment, out=out)
    return await asyncio.create_subprocess_exec(
        *(*DIES_WITH_US, sys.executable, *arguments),
        env=environment,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE if out is None else out,
        stderr=asyncio.subprocess.STDOUT,
    )


async def ended(*arguments: str, folder: Path = CHECKOUT, **environment: str) -> Ended:
    """The same, once it has ended by itself."""
    process = await start(*arguments, folder=folder, **environment)
    try:
        async with asyncio.timeout(END_SECONDS):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ended(status=process.returncode or 0, said=said.decode())
