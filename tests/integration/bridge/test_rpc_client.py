import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from bridge import errors
from bridge.broker_connection import UNHEARD_SECONDS, BrokerConnection
from bridge.errors import BridgeError
from bridge.pending_calls import LongPoll
from bridge.rpc_client import RpcClient
from contracts import envelope
from contracts.commands import CommandType
from contracts.faults import Fault, FaultCode
from tests.integration.bridge.conftest import until
from tests.integration.bridge.peer import Answer, Command, Gate, Peer, fault, reply
from tests.kit.bridge import an_rpc_client, calls
from tools.chaos.proxy import Mode, behind_proxy


def status(number: int) -> bytes:
    return json.dumps({"transactionId": f"cs_test_{number}"}).encode()


async def ask(rpc_client: RpcClient, number: int = 1) -> Any:
    answer = await rpc_client.call(CommandType.PAYMENT_STATUS, status(number), {envelope.REQUEST_ID: "r-1"})
    return json.loads(answer.body)


async def outcome(rpc_client: RpcClient, number: int = 1) -> Any:
    try:
        return (await ask(rpc_client, number))["transactionId"]
    except BridgeError as error:
        return error.refusal


@asynccontextmanager
async def connected(url: str, **bounds: Any) -> AsyncIterator[RpcClient]:
    async with an_rpc_client(url, **bounds) as rpc_client:
        await until(lambda: rpc_client.ready)
        yield rpc_client


async def test_a_command_carries_the_whole_envelope(rpc_client: RpcClient, peer: Peer) -> None:
    before = time.time()
    await ask(rpc_client, 5)
    [command] = peer.commands
    properties = command.properties
    assert command.body == status(5)
    assert properties.message_type == "payment.status"
    assert properties.content_type == "application/json"
    assert properties.message_id
    assert properties.correlation_id
    assert properties.message_id != properties.correlation_id
    assert envelope.is_reply_to(properties.reply_to)
    assert properties.timestamp is not None
    deadline = properties.timestamp.timestamp() + int(properties.expiration or 0) / 1000
    assert before + 4.9 < deadline < time.time() + 5.1
    assert command.headers == {"x-request-id": "r-1", "x-clock-unknown": "true"}


async def test_a_fault_is_raised_with_all_it_says_and_an_answer_that_is_none_is_not_passed_on(
    rpc_client: RpcClient, peer: Peer
) -> None:
    async def answer(_: Command) -> Answer:
        return answers.pop(0)

    peer.handler = answer
    answers = [fault("ALREADY_PAID", bookingId=7, amount=1.5)]
    with pytest.raises(BridgeError) as caught:
        await ask(rpc_client)
    said = Fault(code=FaultCode.ALREADY_PAID, message="It did not work.", retryable=False, booking_id=7, amount=1.5)
    assert caught.value.refusal.fault == said
    for body, kind in ((b"{}", "fault"), (b"{}", "checkout.create.reply"), (b"not json", "fault"), (b"", "")):
        answers.append(Answer(body=body, type=kind))
        assert await outcome(rpc_client) is errors.BAD_REPLY


async def test_no_answer_goes_to_another_caller_however_late_replies_are(amqp_url: str, peer: Peer) -> None:
    """F13 Late, duplicate, foreign reply: dropped and counted; correlation strict.

    Fast and slow ones mixed, some past their deadline, each reply sent twice and with strangers in between.
    """
    generator = random.Random(13)  # noqa: S311

    async def answer(command: Command) -> None:
        await asyncio.sleep(generator.choice([0, 0, 0.01, 0.1, 0.7]))
        await peer.send(command, reply(command), correlation_id="stranger")
        await peer.send(command, reply(command))
        await peer.send(command, reply(command))

    peer.handler = answer
    async with connected(amqp_url, timeout_seconds=0.5, max_in_flight=1000) as rpc_client:
        outcomes = [
            result
            for start in range(0, 1000, 250)
            for result in await asyncio.gather(*(outcome(rpc_client, number) for number in range(start, start + 250)))
        ]
        answered = {number: result for number, result in enumerate(outcomes) if result is not errors.DEADLINE_EXCEEDED}
        assert answered == {number: f"cs_test_{number}" for number in answered}
        assert 0 < len(answered) < len(outcomes)
        assert rpc_client.in_flight == 0
        # A command that the broker dropped at its expiration was never answered.
        await until(lambda: calls(rpc_client, "stray") == [3 * len(peer.commands) - len(answered)])
        assert calls(rpc_client, "expired") == [len(outcomes) - len(answered)]


async def test_an_answer_in_the_same_turn_of_the_loop_as_the_end_of_its_call_is_an_answer(
    rpc_client: RpcClient, peer: Peer
) -> None:
    """Thrown away, it would be neither answered nor counted as stray, and the caller would repeat what is done."""
    await peer.fall_silent()
    asking = asyncio.create_task(ask(rpc_client, 9))
    await until(lambda: rpc_client.in_flight == 1)
    [(correlation_id, call)] = rpc_client._calls.items()
    document = {"paymentId": 1, "bookingId": 1, "paymentStatus": "PENDING", "transactionId": "cs_test_9"}
    properties = Basic.Properties(correlation_id=correlation_id, message_type="payment.status.reply")
    call.fail(BridgeError(errors.UNAVAILABLE))
    await rpc_client._on_reply(
        DeliveredMessage(
            delivery=Basic.Deliver(),
            header=ContentHeader(properties=properties),
            body=json.dumps(document).encode(),
            channel=peer.channel,
        )
    )
    assert (await asking)["transactionId"] == "cs_test_9"
    assert calls(rpc_client, "answered", "unavailable", "stray") == [1, 0, 0]


async def test_with_the_service_gone_every_caller_is_answered_by_its_own_deadline(amqp_url: str, peer: Peer) -> None:
    """F5: nobody queues behind another."""
    await peer.fall_silent()
    async with connected(amqp_url, timeout_seconds=1, max_in_flight=1000) as rpc_client:
        async with asyncio.timeout(100):  # one after the other would be 500 s
            outcomes = await asyncio.gather(*(outcome(rpc_client, number) for number in range(500)))
        assert set(outcomes) == {errors.DEADLINE_EXCEEDED}
        assert rpc_client.in_flight == 0


async def test_a_command_that_no_queue_takes_fails_at_once(rpc_client: RpcClient, peer: Peer) -> None:
    """F10."""
    await peer.unbind(CommandType.PAYMENT_STATUS)
    try:
        assert await outcome(rpc_client) is errors.NO_SERVICE
    finally:
        await peer.bind(CommandType.PAYMENT_STATUS)
    assert (await ask(rpc_client, 3))["transactionId"] == "cs_test_3"
    assert calls(rpc_client, "unroutable") == [1]


async def test_beyond_the_bounds_calls_are_refused_at_once_and_one_command_leaves_room_for_the_others(
    amqp_url: str, peer: Peer
) -> None:
    async def create() -> Any:
        return await rpc_client.call(CommandType.CREATE_CHECKOUT, b'{"bookingId": 1}', {envelope.REQUEST_ID: "r-1"})

    gate = peer.handler = Gate()
    async with connected(amqp_url, timeout_seconds=20, max_in_flight=10) as rpc_client:
        creates = [asyncio.create_task(create()) for _ in range(8)]
        await until(lambda: rpc_client.in_flight == 8)
        with pytest.raises(BridgeError) as refused:
            await create()
        assert refused.value.refusal is errors.BUSY
        asked = [asyncio.create_task(ask(rpc_client, number)) for number in range(2)]
        await until(lambda: len(peer.commands) == 10)
        assert await outcome(rpc_client) is errors.BUSY
        gate.opened.set()
        assert [answer["transactionId"] for answer in await asyncio.gather(*asked)] == ["cs_test_0", "cs_test_1"]
        await asyncio.gather(*creates)
        assert (await create()).body
        assert calls(rpc_client, "busy", "answered") == [2, 11]


async def test_a_cancelled_call_leaves_nothing_behind(rpc_client: RpcClient, peer: Peer) -> None:
    gate = peer.handler = Gate()
    task = asyncio.create_task(ask(rpc_client))
    await until(lambda: len(peer.commands) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert rpc_client.in_flight == 0
    gate.opened.set()
    await until(lambda: calls(rpc_client, "stray") == [1])
    assert (await ask(rpc_client, 2))["transactionId"] == "cs_test_2"


async def test_a_lost_connection_fails_all_who_wait_and_comes_back_by_itself(
    amqp_url: str, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    """F12 Requests in flight when the broker goes: waiters fail on disconnect. F7: new calls fail fast.

    No restart is needed, and an outage is at most one warning.
    """
    gate = peer.handler = Gate()
    async with (
        behind_proxy(amqp_url) as (network, url),
        an_rpc_client(url, timeout_seconds=60, max_in_flight=500) as rpc_client,
    ):
        for round_number in range(1, 4):
            await until(lambda: rpc_client.ready)
            peer.commands.clear()
            waiting = [asyncio.create_task(outcome(rpc_client, number)) for number in range(100)]
            await until(lambda: len(peer.commands) == 100)
            await network.set(Mode.DOWN)
            async with asyncio.timeout(30):
                assert set(await asyncio.gather(*waiting)) == {errors.UNAVAILABLE}
            assert not rpc_client.ready
            assert await outcome(rpc_client) is errors.UNAVAILABLE
            await network.set(Mode.NORMAL)
            assert calls(rpc_client, "unavailable") == [101 * round_number]
        await until(lambda: rpc_client.ready)
        where = url.rpartition("@")[2].partition("/")[0]
        assert 1 <= caplog.text.count(f"Lost RabbitMQ at {where}: ") <= 3
        assert caplog.text.count(f"No connection to RabbitMQ at {where}: ") <= 3
        gate.opened.set()
        assert (await ask(rpc_client, 8))["transactionId"] == "cs_test_8"


async def test_a_missing_exchange_is_told_by_its_name_and_makes_the_bridge_unready(
    amqp_url: str, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    """T3: publishing to it closes the channel. Another is opened on the same connection, once the exchange is back."""
    async with connected(amqp_url, timeout_seconds=5, max_in_flight=5) as rpc_client:
        await peer.channel.exchange_delete("payments.commands")
        async with asyncio.timeout(30):
            assert await outcome(rpc_client) is errors.UNAVAILABLE
        assert not rpc_client.ready
        await until(lambda: "no exchange 'payments.commands'" in caplog.text)
        for _ in range(3):
            await asyncio.sleep(0.1)
            assert await outcome(rpc_client) is errors.UNAVAILABLE
        await peer.channel.exchange_declare("payments.commands", exchange_type="direct", durable=True)
        for command in CommandType:
            await peer.bind(command)
        await until(lambda: rpc_client.ready)
        assert (await ask(rpc_client, 4))["transactionId"] == "cs_test_4"
        assert caplog.text.count("no exchange 'payments.commands'") == 1
        assert "Lost RabbitMQ" not in caplog.text


async def test_a_virtual_host_that_does_not_let_us_in_is_told_in_words_and_not_at_each_try(
    amqp_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """T12: missing, without a right, or full; the library names the reason by its place in memory, anew at each try."""
    async with an_rpc_client(f"{amqp_url}-is-not-there") as rpc_client:
        told = rpc_client._connection.warnings._last
        await until(lambda: any(left_out >= 3 for _, left_out in told.values()))
        assert not rpc_client.ready
    assert "does not let the user into the virtual host" in caplog.text
    assert "object at 0x" not in caplog.text


async def test_a_channel_by_which_nothing_comes_back_is_replaced_and_those_who_wait_on_it_go_on_waiting(
    amqp_url: str, peer: Peer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T16: a channel that RabbitMQ 3.10 has forgotten answers nothing for ever, and says nothing."""
    monkeypatch.setattr("bridge.broker_connection.TRUSTED_SECONDS", 0.5)
    monkeypatch.setattr("bridge.broker_connection.KEPT_SECONDS", 0.1)
    gate = peer.handler = Gate()
    async with connected(amqp_url, timeout_seconds=0.3) as rpc_client:
        poll = LongPoll(seconds=60, watch=lambda _: None)
        headers = {envelope.REQUEST_ID: "r-1"}
        patient = asyncio.create_task(rpc_client.call(CommandType.PAYMENT_STATUS, status(5), headers, long_poll=poll))
        await until(lambda: len(peer.commands) == 1)
        old = rpc_client._connection.channel
        while rpc_client._connection.channel is old:
            assert await outcome(rpc_client) is errors.DEADLINE_EXCEEDED
        assert "No reply comes from RabbitMQ at" in caplog.text
        assert rpc_client.ready
        gate.opened.set()
        assert json.loads((await patient).body)["transactionId"] == "cs_test_5"
        assert old is not None
        await until(lambda: old.is_closed)
        rpc_client.timeout_seconds = 30
        assert (await ask(rpc_client, 6))["transactionId"] == "cs_test_6"


async def test_a_new_channel_by_which_no_first_reply_comes_is_replaced_before_any_call_expires(
    amqp_url: str, peer: Peer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T16: it may have been opened while the others of a cluster still took a frozen node for alive."""
    monkeypatch.setattr("bridge.broker_connection.UNHEARD_SECONDS", 0.1)
    gate = peer.handler = Gate()
    async with connected(amqp_url, timeout_seconds=60) as rpc_client:
        old = rpc_client._connection.channel
        early = asyncio.create_task(ask(rpc_client, 7))
        await until(lambda: rpc_client._connection.channel is not old)
        assert "No reply comes from RabbitMQ at" in caplog.text
        gate.opened.set()
        assert (await early)["transactionId"] == "cs_test_7"  # by the channel that was replaced
        peer.handler = second = Gate()
        new = rpc_client._connection.channel
        late = asyncio.create_task(ask(rpc_client, 8))
        await asyncio.sleep(1)  # two looks at the connection
        assert rpc_client._connection.channel is new, "RabbitMQ has been heard since: whoever answers is slow"
        second.opened.set()
        assert (await late)["transactionId"] == "cs_test_8"


@pytest.mark.usefixtures("peer")
async def test_a_channel_that_replaces_one_without_a_first_reply_is_given_twice_the_time(amqp_url: str) -> None:
    """T16: perhaps nobody answers at all, and then another channel mends nothing."""
    given = list[float]()

    def is_unheard(_channel: Channel, seconds: float, _since: float) -> bool:
        given.append(seconds)
        return True

    async def on_reply(_: DeliveredMessage) -> None:
        """None comes."""

    connection = BrokerConnection(
        amqp_url=amqp_url,
        on_reply=on_reply,
        on_lost=lambda _: None,
        is_waiting=lambda _: False,
        is_unheard=is_unheard,
    )
    running = asyncio.create_task(connection.run())
    await until(lambda: len(given) >= 4)
    running.cancel()
    await asyncio.wait([running])
    assert given[:4] == [UNHEARD_SECONDS, 2 * UNHEARD_SECONDS, 4 * UNHEARD_SECONDS, 8 * UNHEARD_SECONDS]


async def test_a_service_that_answers_late_costs_no_channel(amqp_url: str, peer: Peer) -> None:
    async def answer(command: Command) -> Answer | None:
        return None if command.body == status(1) else reply(command)

    peer.handler = answer
    async with connected(amqp_url, timeout_seconds=1) as rpc_client:
        old = rpc_client._connection.channel
        late = asyncio.create_task(outcome(rpc_client, 1))
        await until(lambda: len(peer.commands) == 1)
        rpc_client.timeout_seconds = 30
        await ask(rpc_client, 2)
        assert await late is errors.DEADLINE_EXCEEDED
        await asyncio.sleep(1)  # two looks at the connection
        assert rpc_client._connection.channel is old


async def test_leaving_ends_waiting_calls_and_every_task(amqp_url: str, peer: Peer) -> None:
    await peer.fall_silent()
    before = asyncio.all_tasks()
    async with connected(amqp_url, timeout_seconds=60, max_in_flight=5) as rpc_client:
        waiting = asyncio.create_task(outcome(rpc_client))
        await until(lambda: rpc_client.in_flight == 1)
    assert await waiting is errors.UNAVAILABLE
    await until(lambda: asyncio.all_tasks() <= before)
