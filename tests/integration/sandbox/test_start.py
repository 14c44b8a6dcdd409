"""``python -m deploy.sandbox``: start, stop, and what it says when it cannot start."""

import asyncio
import os
import signal
import socket
import sys

import aiohttp


async def _start(**settings: str) -> asyncio.subprocess.Process:
    environment = {**os.environ, **settings}
    arguments = (sys.executable, "-m", "deploy.sandbox")
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*arguments, env=environment, stdout=pipe, stderr=pipe)


async def test_it_says_where_it_listens_and_stops_when_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = await _start(SANDBOX_HOST="127.0.0.1", SANDBOX_PORT=str(port))
    assert process.stdout is not None
    try:
        said = (await asyncio.wait_for(process.stdout.readline(), 30)).decode().strip()
        assert said == f"The sandbox listens on http://127.0.0.1:{port}"
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/_sandbox/stats") as answer:
            assert answer.status == 200
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, errors) == (0, b"")


async def test_wrong_settings_end_with_one_sentence_and_exit_code_2() -> None:
    process = await _start(SANDBOX_HOST="a b", SANDBOX_PORT="many")
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 2
    assert errors.decode() == (
        "The sandbox cannot start: SANDBOX_HOST must be a host name or an address, not 'a b'; "
        "SANDBOX_PORT must be a number from 1 to 65535, not 'many'.\n"
    )


async def test_a_taken_port_ends_with_one_sentence_and_exit_code_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await _start(SANDBOX_HOST="127.0.0.1", SANDBOX_PORT=str(port))
        _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert errors.decode() == (
        f"The sandbox cannot listen on 127.0.0.1:{port}: another program has that port; choose one with SANDBOX_PORT.\n"
    )
