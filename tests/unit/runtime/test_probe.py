"""A container's check of the process in it."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator

import pytest

from runtime import probe


@contextlib.asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield str(server.sockets[0].getsockname()[1])


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (b'HTTP/1.1 200 OK\r\na: b\r\n\r\n{"status":"UP"}', 0, 'HTTP/1.1 200 OK {"status":"UP"}'),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\nDOWN 200", 1, "HTTP/1.1 503 Service Unavailable DOWN 200"),
        (b"", 1, "no answer"),
    ],
)
async def test_only_200_is_well_and_the_answer_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: bytes, status: int, said: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["probe", "SERVICE_PORT", "/actuator/health/liveness"])
    async with answering(answer) as port:
        monkeypatch.setenv("SERVICE_PORT", port)
        assert await asyncio.to_thread(probe.main) == status
    assert capsys.readouterr().out == f"{said}\n"


def test_nobody_there_is_not_well(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as bound:  # bound and not listening: it refuses
        bound.bind(("127.0.0.1", 0))
        monkeypatch.setenv("SERVICE_PORT", str(bound.getsockname()[1]))
        monkeypatch.setattr(sys, "argv", ["probe", "SERVICE_PORT", "/"])
        assert probe.main() == 1
    assert capsys.readouterr().out == "Connection refused\n"
