"""`Prefer: wait=N` as callers of the bridge see it, and what it costs the bridge."""

import asyncio
import re
import signal

import httpx
import pytest
from fastapi import FastAPI

from bridge.app import create_app
from bridge.requester import HELD_GRACE_SECONDS, Requester
from contracts import envelope
from tests.integration.bridge.conftest import BASE, IDENTITY, Serve, until
from tests.integration.bridge.peer import Answer, Command, Peer, reply
from tests.integration.bridge.test_http import head, health, process

VERIFY = f"{BASE}/checkout/verify/cs_test_a1"
PREFER = {"Prefer": "wait=30"}


class Holding:
    """A service that holds whoever wants to wait until it is released; `dies`: and then knows nothing of them."""

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
    client: httpx.AsyncClient, peer: Peer, requester: Requester
) -> None:
    service = peer.handler = Holding()
    asking = asyncio.create_task(client.get(VERIFY, headers={"Prefer": "respond-async, Wait=300"}))
    await until(lambda: len(peer.commands) == 1)
    assert (requester.in_flight, requester.held) == (0, 1)
    [command] = peer.commands
    assert command.headers[envelope.WAIT_SECONDS] == "60"
    patience = int(command.properties.expiration or 0) / 1000
    assert 60 + HELD_GRACE_SECONDS <= patience < 60 + HELD_GRACE_SECONDS + 1
    service.release.set()
    answer = await asking
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (200, "wait=60")
    assert "retry-after" not in answer.headers
    assert requester.held == 0


@pytest.mark.parametrize("prefer", ["wait=0", "wait=soon", "respond-async", 'wait="1'])
async def test_what_is_no_wish_to_wait_changes_nothing(client: httpx.AsyncClient, peer: Peer, prefer: str) -> None:
    peer.handler = Holding()
    answer = await client.get(VERIFY, headers={"Prefer": prefer})
    assert (answer.status_code, answer.json()["paymentStatus"]) == (200, "PENDING")
    assert "Preference-Applied" not in answer.headers
    assert answer.headers["retry-after"] == "2"
    assert envelope.WAIT_SECONDS not in peer.commands[0].headers


async def test_only_a_verify_waits(client: httpx.AsyncClient, peer: Peer) -> None:
    await client.get(f"{BASE}/status/cs_test_a1", headers=PREFER)
    order = {"bookingId": 4711, "userId": 42, "amount": 540.9}
    await client.post(f"{BASE}/checkout/create", json=order, headers=PREFER)
    assert [envelope.WAIT_SECONDS in command.headers for command in peer.commands] == [False, False]


async def test_a_service_that_does_not_know_how_to_wait_is_no_error(client: httpx.AsyncClient) -> None:
    answer = await client.get(VERIFY, headers=PREFER)
    assert (answer.status_code, "Preference-Applied" in answer.headers) == (200, False)


async def test_held_calls_are_counted_apart_and_beyond_the_bound_nobody_waits(amqp_url: str, peer: Peer) -> None:
    service = peer.handler = Holding()
    async with Requester(amqp_url=amqp_url, timeout_seconds=10, max_in_flight=1, max_held=3) as requester:
        await until(lambda: requester.ready)
        transport = httpx.ASGITransport(create_app(requester))
        async with httpx.AsyncClient(transport=transport, base_url="http://bridge", headers=IDENTITY) as client:
            asking = [asyncio.create_task(client.get(VERIFY, headers=PREFER)) for _ in range(3)]
            await until(lambda: requester.held == 3)
            answer = await client.get(VERIFY, headers=PREFER)
            assert (answer.status_code, answer.json()["paymentStatus"]) == (200, "PENDING")
            assert "Preference-Applied" not in answer.headers
            assert "payment_bridge_held_calls 3.0" in (await client.get("/actuator/prometheus")).text
            service.release.set()
            assert {each.json()["paymentStatus"] for each in await asyncio.gather(*asking)} == {"COMPLETED"}
            page = (await client.get("/actuator/prometheus")).text
            # How long callers wanted to wait is no figure about us.
            [counted] = re.findall(r"request_duration_seconds_count{.*checkout/verify.*} (.*)", page)
            assert counted == "1.0"


async def test_when_the_service_that_holds_it_dies_a_caller_still_gets_an_answer(
    client: httpx.AsyncClient, peer: Peer, requester: Requester
) -> None:
    peer.handler = Holding(dies=True)
    answer = await client.get(VERIFY, headers={"Prefer": "wait=1"}, timeout=30)
    assert (answer.status_code, answer.json()["paymentStatus"]) == (200, "PENDING")
    assert (answer.headers["retry-after"], "Preference-Applied" in answer.headers) == ("2", False)
    assert [envelope.WAIT_SECONDS in command.headers for command in peer.commands] == [True, False]
    assert (requester.counters.expired, requester.counters.answered) == (1, 1)


async def test_a_caller_who_hangs_up_waits_no_more(
    serve: Serve, app: FastAPI, peer: Peer, requester: Requester, caplog: pytest.LogCaptureFixture
) -> None:
    peer.handler = Holding()
    port = await serve(app)
    request = head("Prefer: wait=60", method="GET", path=VERIFY)
    writers = [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(10)]
    for writer in writers:
        writer.write(request)
    await until(lambda: requester.held == 10)
    for number, writer in enumerate(writers):
        writer.transport.abort() if number % 2 else writer.close()
    await until(lambda: requester.held == 0)
    assert requester.counters.gone == 10
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        page = (await client.get("/actuator/prometheus")).text
    assert 'payment_bridge_calls_total{result="gone"} 10.0' in page
    assert 'status="0"} 10.0' in page


async def test_a_connection_serves_on_after_a_held_answer(
    serve: Serve, app: FastAPI, peer: Peer, requester: Requester
) -> None:
    service = peer.handler = Holding()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{await serve(app)}", headers=IDENTITY) as client:
        for _ in range(2):
            asking = asyncio.create_task(client.get(VERIFY, headers=PREFER))
            await until(lambda: requester.held == 1)
            service.release.set()
            assert (await asking).json()["paymentStatus"] == "COMPLETED"
            service.release.clear()
            assert (await client.get(VERIFY)).json()["paymentStatus"] == "PENDING"
    assert requester.counters.gone == 0


async def test_a_lost_broker_ends_held_calls_at_once(
    client: httpx.AsyncClient, peer: Peer, requester: Requester
) -> None:
    peer.handler = Holding()
    asking = asyncio.create_task(client.get(VERIFY, headers=PREFER))
    await until(lambda: requester.held == 1)
    assert requester._channel is not None
    await requester._channel.connection.close()
    answer = await asking
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


async def test_a_stop_answers_who_is_held(peer: Peer, amqp_url: str, unused_tcp_port: int) -> None:
    peer.handler = Holding()
    async with (
        process(BRIDGE_PORT=str(unused_tcp_port), AMQP_URL=amqp_url) as bridge,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{unused_tcp_port}", headers=IDENTITY, timeout=60) as client,
    ):
        await health(unused_tcp_port, wanted=200)
        asking = [asyncio.create_task(client.get(VERIFY, headers={"Prefer": "wait=60"})) for _ in range(5)]
        await until(lambda: len(peer.commands) == 5)
        bridge.send_signal(signal.SIGTERM)
        for answer in await asyncio.gather(*asking):
            assert (answer.status_code, answer.json()["paymentStatus"]) == (200, "PENDING")
        await bridge.communicate()
    assert bridge.returncode == 0
