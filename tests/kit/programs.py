"""Programs of this checkout as processes that tests start, and whose output they look at."""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tools.devstack.processes import free_ports
from tools.devstack.stack_settings import CHECKOUT

PORTS = ("SERVICE_PORT", "BRIDGE_PORT", "CONSOLE_PORT")
END_SECONDS = 180.0
"""Ends a hang."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The exit status of a process and its output."""

    status: int
    said: str


async def start(*arguments: str, folder: Path = CHECKOUT, **environment: str) -> asyncio.subprocess.Process:
    """Python with these arguments, in this checkout or another one, with nothing else in its environment.

    Its ports are free ones unless they are named: a stack may have the usual ones.
    """
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    ours = {"PYTHONPATH": str(folder), "LOG_FORMAT": "json", "PATH": os.environ["PATH"], **ports}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, *arguments),
        env=ours | environment,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
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
