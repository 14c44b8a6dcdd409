"""The balancer forwards connections whole, to whoever accepts, and ends those that nobody takes."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator

import pytest

from tools.compose import balancer
from tools.devstack.processes import free_ports

WAIT_SECONDS = 60


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers only after the caller has said all."""
    said = await reader.read(-1)
    writer.write(said.upper())
    writer.close()


@pytest.fixture
async def behind() -> AsyncIterator[int]:
    async with await asyncio.start_server(shout, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@contextlib.asynccontextmanager
async def balanced(name: str, port: int) -> AsyncIterator[int]:
    (here,) = free_ports(1)
    serving = asyncio.create_task(balancer.serve({here: (name, port)}, host="127.0.0.1"))
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", here)
                writer.close()
                break
            await asyncio.sleep(0.01)
    yield here
    os.kill(os.getpid(), signal.SIGTERM)
    await serving


async def said(port: int, text: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer), contextlib.suppress(ConnectionResetError):
        writer.write(text)
        writer.write_eof()
        async with asyncio.timeout(WAIT_SECONDS):
            return await reader.read(-1)
    return b""


async def test_both_directions_arrive_whole_and_end_one_by_one(behind: int) -> None:
    text = b"abc" * 200_000
    async with balanced("localhost", behind) as port:
        assert await asyncio.gather(*(said(port, text) for _ in range(5))) == [text.upper()] * 5


async def test_an_address_that_does_not_accept_is_passed_over(behind: int) -> None:
    """`localhost` has one for IPv6 too, where nobody listens; of a scaled service, containers may be gone."""
    async with balanced("localhost", behind) as port:
        for _ in range(20):
            assert await said(port, b"a") == b"A"


@pytest.mark.parametrize("name", ["127.0.0.1", "no-such-host.invalid"])
async def test_a_connection_that_nobody_takes_just_ends(name: str) -> None:
    (nobody,) = free_ports(1)
    async with balanced(name, nobody) as port:
        assert await said(port, b"a") == b""


def test_a_rule_is_a_port_a_name_and_a_port() -> None:
    assert balancer.parse("8085=bridge:8086") == (8085, ("bridge", 8086))
    for wrong in ("8085", "8085=bridge", "x=bridge:1", ""):
        with pytest.raises(ValueError, match="invalid literal"):
            balancer.parse(wrong)
