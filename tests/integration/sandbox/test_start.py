"""``python -m tools.sandbox``: start, stop, and the message when it cannot start."""

import asyncio
import signal
import socket

import httpx

from tests.kit import programs
from tools.devstack.processes import free_ports

SANDBOX = ("-m", "tools.sandbox")


async def test_it_says_where_it_listens_and_stops_on_sigterm() -> None:
    (port,) = free_ports(1)
    process = await programs.start(*SANDBOX, SANDBOX_HOST="127.0.0.1", SANDBOX_PORT=str(port))
    assert process.stdout is not None
    try:
        async with asyncio.timeout(programs.END_SECONDS):
            said = (await process.stdout.readline()).decode().strip()
        assert said == f"The sandbox listens on http://127.0.0.1:{port}"
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"http://127.0.0.1:{port}/_sandbox/stats")).status_code == 200
    finally:
        process.send_signal(signal.SIGTERM)
        rest, _ = await process.communicate()
    assert (process.returncode, rest) == (0, b"")


async def test_a_taken_port_ends_with_one_sentence_and_exit_code_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = await programs.ended(*SANDBOX, SANDBOX_HOST="127.0.0.1", SANDBOX_PORT=str(port))
    reason = "another program has that port; choose one with SANDBOX_PORT"
    assert ended.said == f"The sandbox cannot listen on 127.0.0.1:{port}: {reason}.\n"
    assert ended.status == 1
