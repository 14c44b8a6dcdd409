"""`Prefer: wait=N` as callers of the bridge see it, and what it costs the bridge."""

import asyncio
import re
import signal

import httpx
import pytest

from bridge.rpc_client import LONG_POLL_GRACE_SECONDS, RpcClient
from contracts import envelope
from tests.integration.bridge.conftest import BASE, IDENTITY, client_of, until
from tests.integration.bridge.peer import Answer, Command, Peer, reply
from tests.integration.bridge.processes import running
from tests.integration.bridge.test_uvicorn_protocol import head
from tests.kit.bridge import an_app, an_rpc_client, calls

VERIFY = f"{BASE}/checkout/verify/cs_test_a1"
PREFER = {"Prefer": "wait=30"}


class Deferring:
    """A service that defers its replies to long polls until it is released; `dies`: for ever."""

    def __init__(self, *, dies: bool = False) -> None:
        self.release = asyncio.Event()
        self._dies = dies

    async def __call__(self, command: Command) -> Answer | None:
        seconds = command.headers.get(envelope.WAIT_SECONDS)
        if seconds is None:
            return reply(command, source="local", paymentStatus="PENDING")
        if self._dies:
            return None
        await self.release.wait()
        answer = reply(command)
        answer.headers[envelope.WAIT_SECONDS] = seconds
        return answer


async def test_the_wish_goes_along_with_a_deadline_that_fits(
    client: httpx.AsyncClient, peer: Peer, rpc_client: RpcClient
) -> None:
    service = peer.handler = Deferring()
    asking = asyncio.create_task(client.get(VERIFY, headers={"Prefer": "respond-async, Wait=300"}))
    await until(lambda: len(peer.commands) == 1)
    assert (rpc_client.in_flight, rpc_client.long_polls) == (0, 1)
    [command] = peer.commands
    assert command.headers[envelope.WAIT_SECONDS] == "60"
    patience = int(command.properties.expiration or 0) / 1000
    assert 60 + LONG_POLL_GRACE_SECONDS <= patience < 60 + LONG_POLL_GRACE_SECONDS + 1
    service.release.set()
    answer = await asking
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (200, "wait=60")
    assert "retry-after" not in answer.headers
    assert rpc_client.long_polls == 0


async def test_without_the_wish_or_where_nobody_knows_how_to_wait_nothing_changes(
    client: httpx.AsyncClient, peer: Peer
) -> None:
    answer = await client.get(VERIFY, headers=PREFER)  # of a service that never defers
    assert (answer.status_code, "Preference-Applied" in answer.headers) == (200, False)
    peer.handler = Deferring()
    peer.commands.clear()
    answer = await client.get(VERIFY, headers={"Prefer": "wait=soon"})
    assert (answer.status_code, answer.json()["paymentStatus"], answer.headers["retry-after"]) == (200, "PENDING", "2")
    assert "Preference-Applied" not in answer.headers
    await client.get(f"{BASE}/status/cs_test_a1", headers=PREFER)  # only a verify waits
    await client.post(f"{BASE}/checkout/create", json={"bookingId": 1, "userId": 2, "amount": 3}, headers=PREFER)
    assert [envelope.WAIT_SECONDS in command.headers for command in peer.commands] == [False] * 3


async def test_long_polls_are_counted_apart_and_beyond_the_bound_nobody_waits(amqp_url: str, peer: Peer) -> None:
    service = peer.handler = Deferring()
    async with an_rpc_client(amqp_url, timeout_seconds=10, max_in_flight=1, max_long_polls=3) as rpc_client:
        await until(lambda: rpc_client.ready)
        async with client_of(an_app(rpc_client)) as client:
            asking = [asyncio.create_task(client.get(VERIFY, headers=PREFER)) for _ in range(3)]
            await until(lambda: rpc_client.long_polls == 3)
            answer = await client.get(VERIFY, headers=PREFER)
            assert (answer.status_code, answer.json()["paymentStatus"]) == (200, "PENDING")
            assert "Preference-Applied" not in answer.headers
            assert "payment_bridge_long_polls 3.0" in (await client.get("/actuator/prometheus")).text
            service.release.set()
            assert {each.json()["paymentStatus"] for each in await asyncio.gather(*asking)} == {"COMPLETED"}
            page = (await client.get("/actuator/prometheus")).text
            # How long callers wanted to wait is no figure about us.
            [counted] = re.findall(r"request_duration_seconds_count{.*checkout/verify.*} (.*)", page)
            assert counted == "1.0"


async def test_when_the_service_that_deferred_its_reply_dies_a_caller_still_gets_an_answer(
    client: httpx.AsyncClient, peer: Peer, rpc_client: RpcClient
) -> None:
    peer.handler = Deferring(dies=True)
    answer = await client.get(VERIFY, headers={"Prefer": "wait=1"}, timeout=30)
    assert (answer.status_code, answer.json()["paymentStatus"]) == (200, "PENDING")
    assert (answer.headers["retry-after"], "Preference-Applied" in answer.headers) == ("2", False)
    assert [envelope.WAIT_SECONDS in command.headers for command in peer.commands] == [True, False]
    assert calls(rpc_client, "expired", "answered") == [1, 1]


async def test_a_caller_who_hangs_up_waits_no_more(
    port: int, peer: Peer, rpc_client: RpcClient, caplog: pytest.LogCaptureFixture
) -> None:
    peer.handler = Deferring()
    request = head("Prefer: wait=60", method="GET", path=VERIFY)
    writers = [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(10)]
    for writer in writers:
        writer.write(request)
    await until(lambda: rpc_client.long_polls == 10)
    for number, writer in enumerate(writers):
        writer.transport.abort() if number % 2 else writer.close()
    await until(lambda: rpc_client.long_polls == 0)
    assert calls(rpc_client, "gone") == [10]
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        page = (await client.get("/actuator/prometheus")).text
    assert 'payment_bridge_calls_total{result="gone"} 10.0' in page
    assert 'status="0"} 10.0' in page


async def test_a_connection_serves_on_after_a_long_poll(port: int, peer: Peer, rpc_client: RpcClient) -> None:
    service = peer.handler = Deferring()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=IDENTITY) as client:
        for _ in range(2):
            asking = asyncio.create_task(client.get(VERIFY, headers=PREFER))
            await until(lambda: rpc_client.long_polls == 1)
            service.release.set()
            assert (await asking).json()["paymentStatus"] == "COMPLETED"
            service.release.clear()
            assert (await client.get(VERIFY)).json()["paymentStatus"] == "PENDING"
    assert calls(rpc_client, "gone") == [0]


async def test_a_lost_broker_ends_long_polls_at_once(
    client: httpx.AsyncClient, peer: Peer, rpc_client: RpcClient
) -> None:
    peer.handler = Deferring()
    asking = asyncio.create_task(client.get(VERIFY, headers=PREFER))
    await until(lambda: rpc_client.long_polls == 1)
    assert rpc_client._connection.channel is not None
    await rpc_client._connection.channel.connection.close()
    answer = await asking
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


async def test_a_stop_answers_long_polls_at_once(peer: Peer, amqp_url: str) -> None:
    peer.handler = Deferring()
    async with running(amqp_url) as bridge:
        asking = [asyncio.create_task(bridge.client.get(VERIFY, headers={"Prefer": "wait=60"})) for _ in range(5)]
        await until(lambda: len(peer.commands) == 5)
        bridge.process.send_signal(signal.SIGTERM)
        for answer in await asyncio.gather(*asking):
            assert (answer.status_code, answer.json()["paymentStatus"]) == (200, "PENDING")
        await bridge.end()
