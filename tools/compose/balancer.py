"""`python -m tools.compose.balancer 8085=bridge:8085 ...`: forwards each port to one of the containers of a service.

It keeps the usual ports where they are when bridge and service are scaled, and stands where a deployment has its own
load balancer. Which containers there are is asked of Docker's DNS for each connection.
"""

import asyncio
import contextlib
import functools
import random
import signal
import socket
import sys
from typing import Final

CONNECT_SECONDS: Final = 1.0
BLOCK: Final = 65536


async def serve(forwards: dict[int, tuple[str, int]], *, host: str = "0.0.0.0") -> None:  # noqa: S104 - a container's
    """Forward connections until SIGTERM. `forwards`: port to listen on -> name and port of those behind it."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    servers = [
        await asyncio.start_server(functools.partial(_forward, *behind), host, port, backlog=2048)
        for port, behind in forwards.items()
    ]
    await stopped.wait()
    for server in servers:
        server.close()


async def _forward(name: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.closing(writer):
        try:
            behind_reader, behind_writer = await _connect(name, port)
        except OSError:
            return  # the caller's connection ends, as it would with nobody at its address
        with contextlib.closing(behind_writer):
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(_copy(reader, behind_writer))
                    both.create_task(_copy(behind_reader, writer))
            except* OSError:
                pass  # one side is gone, so the other one's connection ends too


async def _connect(name: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """To any of the addresses of the name that accepts.

    Raises:
        OSError: none does.
    """
    found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    addresses = [address[:2] for *_, address in found]
    for address in random.sample(addresses, len(addresses)):
        with contextlib.suppress(OSError):  # TimeoutError too
            async with asyncio.timeout(CONNECT_SECONDS):
                return await asyncio.open_connection(*address)
    raise ConnectionRefusedError


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while block := await source.read(BLOCK):
        target.write(block)
        await target.drain()
    target.write_eof()  # the other direction may still have an answer


def parse(text: str) -> tuple[int, tuple[str, int]]:
    """`8085=bridge:8085` as port, name and port.

    Raises:
        ValueError: it is something else.
    """
    here, _, behind = text.partition("=")
    name, _, there = behind.partition(":")
    return int(here), (name, int(there))


if __name__ == "__main__":
    asyncio.run(serve(dict(map(parse, sys.argv[1:]))))
