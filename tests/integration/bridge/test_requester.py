import asyncio
import json
import random
import time
from typing import Any

import pytest
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from bridge.errors import (
    BadReplyError,
    BridgeError,
    BrokerUnavailableError,
    BusyError,
    DeadlineExceededError,
    FaultError,
    NoServiceError,
)
from bridge.requester import Requester
from contracts import envelope
from contracts.commands import CommandType
from contracts.faults import FaultCode
from tests.integration.bridge.conftest import until
from tests.integration.bridge.peer import Answer, Command, Peer, fault, reply
from tests.proxy import Mode, behind_proxy


def status(number: int) -> bytes:
    return json.dumps({"transactionId": f"cs_test_{number}"}).encode()


async def ask(requester: Requester, number: int = 1) -> Any:
    answer = await requester.call(CommandType.PAYMENT_STATUS, status(number), {envelope.REQUEST_ID: "r-1"})
    return json.loads(answer.body)


async def outcome(requester: Requester, number: int = 1) -> Any:
    try:
        return (await ask(requester, number))["transactionId"]
    except BridgeError as error:
        return type(error)


async def test_a_command_carries_the_whole_envelope(requester: Requester, peer: Peer) -> None:
    before = time.time()
    await ask(requester, 5)
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
    assert command.headers == {"x-request-id": "r-1"}


async def test_a_fault_is_raised_with_all_it_says(requester: Requester, peer: Peer) -> None:
    async def refuse(_: Command) -> Answer:
        return fault("ALREADY_PAID", bookingId=7, amount=1.5)

    peer.handler = refuse
    with pytest.raises(FaultError) as caught:
        await ask(requester)
    assert caught.value.code is FaultCode.ALREADY_PAID
    assert caught.value.fault is not None
    assert caught.value.fault.booking_id == 7


@pytest.mark.parametrize(
    "answer",
    [
        Answer(body=b"{}", type="fault"),
        Answer(body=b"{}", type="checkout.create.reply"),
        Answer(body=b"not json", type="fault"),
        Answer(body=b"", type=""),
    ],
)
async def test_an_answer_that_is_none_is_not_passed_on(requester: Requester, peer: Peer, answer: Answer) -> None:
    async def confuse(_: Command) -> Answer:
        return answer

    peer.handler = confuse
    with pytest.raises(BadReplyError):
        await ask(requester)


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
    async with Requester(amqp_url=amqp_url, timeout_seconds=0.5, max_in_flight=1000) as requester:
        await until(lambda: requester.ready)
        outcomes = [
            result
            for start in range(0, 1000, 250)
            for result in await asyncio.gather(*(outcome(requester, number) for number in range(start, start + 250)))
        ]
        answered = {number: result for number, result in enumerate(outcomes) if result is not DeadlineExceededError}
        assert answered == {number: f"cs_test_{number}" for number in answered}
        assert 0 < len(answered) < len(outcomes)
        assert requester.in_flight == 0
        # A command that the broker dropped at its expiration was never answered.
        await until(lambda: requester.counters.stray == 3 * len(peer.commands) - len(answered))
        assert requester.counters.expired == len(outcomes) - len(answered)


async def test_an_answer_in_the_same_turn_of_the_loop_as_the_end_of_its_call_is_an_answer(
    requester: Requester, peer: Peer
) -> None:
    """Thrown away, it would be neither answered nor counted as stray, and the caller would repeat what is done."""
    await peer.fall_silent()
    asking = asyncio.create_task(ask(requester, 9))
    await until(lambda: requester.in_flight == 1)
    [(correlation_id, call)] = requester._calls.items()
    document = {"paymentId": 1, "bookingId": 1, "paymentStatus": "PENDING", "transactionId": "cs_test_9"}
    properties = Basic.Properties(correlation_id=correlation_id, message_type="payment.status.reply")
    call.fail(BrokerUnavailableError())
    await requester._on_reply(
        DeliveredMessage(
            delivery=Basic.Deliver(),
            header=ContentHeader(properties=properties),
            body=json.dumps(document).encode(),
            channel=peer.channel,
        )
    )
    assert (await asking)["transactionId"] == "cs_test_9"
    assert (requester.counters.answered, requester.counters.unavailable, requester.counters.stray) == (1, 0, 0)


async def test_with_the_service_gone_every_caller_is_answered_by_its_own_deadline(amqp_url: str, peer: Peer) -> None:
    """F5: nobody queues behind another."""
    await peer.fall_silent()
    async with Requester(amqp_url=amqp_url, timeout_seconds=1, max_in_flight=1000) as requester:
        await until(lambda: requester.ready)
        started = time.monotonic()
        outcomes = await asyncio.gather(*(outcome(requester, number) for number in range(500)))
        assert set(outcomes) == {DeadlineExceededError}
        assert time.monotonic() - started < 10  # one after the other would be 500 s
        assert requester.in_flight == 0


async def test_a_command_that_no_queue_takes_fails_at_once(requester: Requester, peer: Peer) -> None:
    """F10."""
    await peer.unbind(CommandType.PAYMENT_STATUS)
    try:
        with pytest.raises(NoServiceError):
            await ask(requester)
    finally:
        await peer.bind(CommandType.PAYMENT_STATUS)
    assert (await ask(requester, 3))["transactionId"] == "cs_test_3"
    assert requester.counters.unroutable == 1


async def test_beyond_the_bound_calls_are_refused_at_once(amqp_url: str, peer: Peer) -> None:
    release = asyncio.Event()

    async def wait(command: Command) -> Answer:
        await release.wait()
        return reply(command)

    peer.handler = wait
    async with Requester(amqp_url=amqp_url, timeout_seconds=20, max_in_flight=3) as requester:
        await until(lambda: requester.ready)
        waiting = [asyncio.create_task(ask(requester, number)) for number in range(3)]
        await until(lambda: len(peer.commands) == 3)
        with pytest.raises(BusyError):
            await ask(requester)
        release.set()
        assert [answer["transactionId"] for answer in await asyncio.gather(*waiting)] == [
            "cs_test_0",
            "cs_test_1",
            "cs_test_2",
        ]
        assert (await ask(requester, 9))["transactionId"] == "cs_test_9"


async def create(requester: Requester) -> Any:
    return await requester.call(CommandType.CREATE_CHECKOUT, b'{"bookingId": 1}', {envelope.REQUEST_ID: "r-1"})


async def test_one_command_leaves_room_for_the_others(amqp_url: str, peer: Peer) -> None:
    release = asyncio.Event()

    async def wait(command: Command) -> Answer:
        if command.type == CommandType.CREATE_CHECKOUT:
            await release.wait()
        return reply(command)

    peer.handler = wait
    async with Requester(amqp_url=amqp_url, timeout_seconds=20, max_in_flight=10) as requester:
        await until(lambda: requester.ready)
        creates = [asyncio.create_task(create(requester)) for _ in range(8)]
        await until(lambda: requester.in_flight == 8)
        with pytest.raises(BusyError):
            await create(requester)
        assert (await ask(requester, 9))["transactionId"] == "cs_test_9"
        release.set()
        await asyncio.gather(*creates)
        assert (await create(requester)).body


async def test_a_cancelled_call_leaves_nothing_behind(requester: Requester, peer: Peer) -> None:
    release = asyncio.Event()

    async def wait(command: Command) -> Answer:
        await release.wait()
        return reply(command)

    peer.handler = wait
    task = asyncio.create_task(ask(requester))
    await until(lambda: len(peer.commands) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert requester.in_flight == 0
    release.set()
    await until(lambda: requester.counters.stray == 1)
    assert (await ask(requester, 2))["transactionId"] == "cs_test_2"


async def test_a_lost_connection_fails_all_who_wait_and_comes_back_by_itself(amqp_url: str, peer: Peer) -> None:
    """F12 Requests in flight when the broker goes: waiters fail on disconnect. F7: new calls fail fast.

    No restart is needed.
    """

    async def never(_: Command) -> None:
        return None

    peer.handler = never
    async with (
        behind_proxy(amqp_url) as (network, url),
        Requester(amqp_url=url, timeout_seconds=60, max_in_flight=500) as requester,
    ):
        for round_number in range(1, 4):
            await until(lambda: requester.ready)
            peer.commands.clear()
            waiting = [asyncio.create_task(outcome(requester, number)) for number in range(100)]
            await until(lambda: len(peer.commands) == 100)
            await network.set(Mode.DOWN)
            async with asyncio.timeout(2):
                assert set(await asyncio.gather(*waiting)) == {BrokerUnavailableError}
            assert not requester.ready
            with pytest.raises(BrokerUnavailableError):
                await ask(requester)
            await network.set(Mode.NORMAL)
            assert requester.counters.unavailable == 101 * round_number
        await until(lambda: requester.ready)

        async def again(command: Command) -> Answer:
            return reply(command)

        peer.handler = again
        assert (await ask(requester, 8))["transactionId"] == "cs_test_8"


async def test_without_a_broker_calls_fail_fast_from_the_start(unused_tcp_port: int) -> None:
    async with Requester(
        amqp_url=f"amqp://127.0.0.1:{unused_tcp_port}/", timeout_seconds=60, max_in_flight=5
    ) as requester:
        async with asyncio.timeout(2):
            with pytest.raises(BrokerUnavailableError):
                await ask(requester)


async def test_a_missing_exchange_is_no_service_and_not_the_end(amqp_url: str, peer: Peer) -> None:
    """Publishing to it closes the channel: the requester must get itself a new one."""
    async with Requester(amqp_url=amqp_url, timeout_seconds=5, max_in_flight=5) as requester:
        await until(lambda: requester.ready)
        await peer.channel.exchange_delete("payments.commands")
        async with asyncio.timeout(2):
            assert issubclass(await outcome(requester), (BrokerUnavailableError, NoServiceError))
        await peer.channel.exchange_declare("payments.commands", exchange_type="direct", durable=True)
        for command in CommandType:
            await peer.bind(command)
        await until(lambda: requester.ready)
        assert (await ask(requester, 4))["transactionId"] == "cs_test_4"


async def test_leaving_ends_waiting_calls_and_every_task(amqp_url: str, peer: Peer) -> None:
    await peer.fall_silent()
    before = asyncio.all_tasks()
    async with Requester(amqp_url=amqp_url, timeout_seconds=60, max_in_flight=5) as requester:
        await until(lambda: requester.ready)
        waiting = asyncio.create_task(outcome(requester))
        await until(lambda: requester.in_flight == 1)
    assert await waiting is BrokerUnavailableError
    await until(lambda: asyncio.all_tasks() <= before)
