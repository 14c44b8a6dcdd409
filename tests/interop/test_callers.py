"""The HTTP clients that callers have, with their defaults: create, verify and status over one kept-alive connection."""

import asyncio
import itertools
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.integration.bridge.conftest import BASE, IDENTITY
from tests.integration.service.crash.programs import starting
from tests.integration.service.messages.rig import around
from tests.interop.java import Jar

pytestmark = pytest.mark.asyncio(loop_scope="module")

_PROGRAMS: Final = Path(__file__).with_name("callers")
_RUN_SECONDS: Final = 240
"""It ends a hang; Go compiles before it runs."""
_BOOKINGS: Final = itertools.count(401)


@dataclass(kw_only=True)
class Link:
    """To the bridge, in plain sight: how often it was connected, and the heads of the requests."""

    target: int
    port: int = 0
    connections: int = 0
    sent: bytes = b""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        back, forth = await asyncio.open_connection("127.0.0.1", self.target)
        await asyncio.gather(self._pass(reader, forth, seen=True), self._pass(back, writer, seen=False))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, seen: bool) -> None:
        while data := await reader.read(65536):
            if seen:
                self.sent += data
            writer.write(data)
            await writer.drain()
        writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bridge_port(amqp_url: str, migrated_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[int]:
    """A bridge before a service, each a process."""
    async with (
        around(amqp_url, migrated_url) as rig,
        starting(rig, logs=tmp_path_factory.mktemp("callers")) as programs,
    ):
        _, bridge = await asyncio.gather(programs.service(), programs.bridge(BRIDGE_TIMEOUT_SECONDS="60"))
        yield bridge.port


@asynccontextmanager
async def linked(bridge_port: int) -> AsyncIterator[Link]:
    link = Link(target=bridge_port)
    server = await asyncio.start_server(link.accept, "127.0.0.1", 0)
    async with server:
        link.port = server.sockets[0].getsockname()[1]
        yield link


async def output(*command: str | Path) -> Any:
    """What the program prints, as JSON."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment
    )
    try:
        async with asyncio.timeout(_RUN_SECONDS):
            printed, complained = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, complained.decode()
    return json.loads(printed)


def installed(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"there is no {program} on this machine")
    return found


def is_a_purchase(answers: Any, booking_id: int) -> None:
    assert (answers["create"]["bookingId"], answers["create"]["status"]) == (booking_id, "pending")
    for step in ("verify", "status"):
        assert (answers[step]["bookingId"], answers[step]["paymentStatus"]) == (booking_id, "PENDING")


@pytest.mark.parametrize(
    ("name", "offer"), [("jdk", b"Upgrade: h2c"), ("rest-client", b"Upgrade: h2c"), ("okhttp", b""), ("apache", b"")]
)
async def test_javas_clients_are_served_over_one_connection(
    bridge_port: int, jar: Jar, name: str, offer: bytes
) -> None:
    booking_id = next(_BOOKINGS)
    async with linked(bridge_port) as link:
        answers = await output(jar.java, "-jar", jar.file, "callers", name, link.url, str(booking_id))
    is_a_purchase(answers, booking_id)
    assert link.connections == 1
    assert link.sent.count(b" HTTP/1.1\r\n") == 3
    assert offer in link.sent  # otherwise this test no longer shows what it is for


@pytest.mark.parametrize(("program", "command"), [("go", ("run", "caller.go")), ("node", ("caller.mjs",))])
async def test_the_clients_of_go_and_node_are_served_over_one_connection(
    bridge_port: int, program: str, command: tuple[str, ...]
) -> None:
    booking_id, path = next(_BOOKINGS), installed(program)
    async with linked(bridge_port) as link:
        file = _PROGRAMS / command[-1]
        answers = await output(path, *command[:-1], file, link.url, str(booking_id))
    is_a_purchase(answers, booking_id)
    assert link.connections == 1


async def test_curl_that_offers_http_2_is_served_over_one_connection(bridge_port: int) -> None:
    curl, booking_id = installed("curl"), next(_BOOKINGS)
    identity = [f"-H{name}: {value}" for name, value in IDENTITY.items()]
    common = ("-sS", "--http2", *identity)
    body = json.dumps({"bookingId": booking_id, "userId": 7, "amount": 449.97})
    async with linked(bridge_port) as link:
        create = ("-HContent-Type: application/json", "-d", body, f"{link.url}{BASE}/checkout/create")
        # The second answer alone is printed: that of a repeat, on the first one's connection.
        created = await output(curl, *common, *create, "-o", os.devnull, "--next", *common, *create)
        assert (link.connections, link.sent.count(body.encode())) == (1, 2)
        assert b"Upgrade: h2c" in link.sent
        session = created["sessionId"]
        verified = await output(curl, *common, f"{link.url}{BASE}/checkout/verify/{session}")
        status = await output(curl, *common, f"{link.url}{BASE}/status/{session}")
    is_a_purchase({"create": created, "verify": verified, "status": status}, booking_id)
