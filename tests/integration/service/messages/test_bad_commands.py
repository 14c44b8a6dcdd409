"""Bad, odd and hostile commands: where each ends, that nothing is done for it, and that good ones are still served."""

import dataclasses
import gzip
import json
import struct
import time
from collections.abc import AsyncIterator
from typing import Any

import aiormq
import pytest
import pytest_asyncio
from aiormq.exceptions import ChannelPreconditionFailed

from contracts import envelope, topology
from contracts.commands import CommandType
from tests.integration.service.messages import raw
from tests.integration.service.messages.rig import CREATE, MARK, STATUS, VERIFY, Message, Rig, a_create, until

NOW, HOUR = int(time.time()), 3600


NOT_JSON, NOT_AN_OBJECT = "The body is not valid JSON.", "The body must be a JSON object."
BAD_TYPE = "content_type must be application/json, in UTF-8"
BAD_ENCODING = "content_encoding must be absent or UTF-8: a compressed body is not read"
BAD_TIME = "timestamp must be in whole seconds since 1970, and not in milliseconds or microseconds"
BAD_ID = "is required, as 1 to 255 printable characters"
BAD_KEY = "idempotency-key must be 1 to 255 printable ASCII characters"
BAD_URL = "successUrl must be an absolute URL of at most 2048 printable ASCII characters."
LATE = "the sender's deadline has passed"
UNKNOWN = ("unknown-type", "type must be checkout.create")
HEADERS = ("invalid", "more than 64 headers")
TOO_LARGE = ("too-large", "over 65536 bytes")

# What is sent -> the dead letter's reason and text, then the body (bytes, or members of a good create) and properties.
BAD: dict[str, tuple[str, str, Any, dict[str, Any]]] = {
    # B16, and what B1-B9 are as messages
    "not JSON": ("invalid", NOT_JSON, b"{bookingId", {}),
    "empty": ("invalid", NOT_JSON, b"", {}),
    "null": ("invalid", NOT_AN_OBJECT, b"null", {}),
    "a list": ("invalid", NOT_AN_OBJECT, b"[]", {}),
    "an empty object": ("invalid", "bookingId is required; userId is required; amount is required.", b"{}", {}),
    "not UTF-8": ("invalid", NOT_JSON, b'{"bookingId":"\xff"}', {}),
    "nested 30,000 deep": ("invalid", NOT_JSON, b"[" * 30_000, {}),
    "NaN": ("invalid", "The body holds a number that is not a number.", b'{"bookingId":1,"userId":2,"amount":NaN}', {}),
    "60,000 digits": ("invalid", "The body holds a number that is too long.", b'{"amount":%s}' % (b"9" * 60_000), {}),
    "a repeated member": ("invalid", "The body names a field more than once.", b'{"amount":1,"amount":2}', {}),
    "an unknown member": ("invalid", "succesUrl is not a known field.", {"succesUrl": "x"}, {}),
    "a NUL in a URL": ("invalid", BAD_URL, {"successUrl": "https://shop.example/\x00"}, {}),
    "another content type": ("invalid", BAD_TYPE, {}, {"content_type": "text/plain"}),
    "no content type": ("invalid", BAD_TYPE, {}, {"content_type": None}),
    "another charset": ("invalid", BAD_TYPE, {}, {"content_type": "application/json; charset=ISO-8859-1"}),
    "an unknown encoding": ("invalid", BAD_ENCODING, {}, {"content_encoding": "UTF-16"}),
    "a gzip bomb": ("invalid", BAD_ENCODING, gzip.compress(bytes(10**7)), {"content_encoding": "gzip"}),
    # B17
    "an unknown type": (*UNKNOWN, {}, {"type": "checkout.pay"}),
    "a newer version": (*UNKNOWN, {}, {"type": "checkout.create.v2"}),
    "another queue's type": (*UNKNOWN, {}, {"type": "payment.status"}),
    "no type": (*UNKNOWN, {}, {"type": None}),
    # B18
    "no message id": ("invalid", f"message_id {BAD_ID}", {}, {"message_id": None}),
    "an empty message id": ("invalid", f"message_id {BAD_ID}", {}, {"message_id": ""}),
    "a line break in the message id": ("invalid", f"message_id {BAD_ID}", {}, {"message_id": "a\r\nb"}),
    "no correlation id": ("invalid", f"correlation_id {BAD_ID}", {}, {"correlation_id": None}),
    # B21
    "no timestamp": ("invalid", "timestamp is required", {}, {"timestamp": None}),
    "a timestamp in the year 9999": ("invalid", BAD_TIME, {}, {"timestamp": 253402300799}),
    "a timestamp in milliseconds": ("invalid", BAD_TIME, {}, {"timestamp": NOW * 10**3}),
    "a timestamp in microseconds": ("invalid", BAD_TIME, {}, {"timestamp": NOW * 10**6}),
    "a timestamp in nanoseconds": ("invalid", BAD_TIME, {}, {"timestamp": NOW * 10**9}),
    "a deadline that has passed": ("expired", LATE, {}, {"timestamp": NOW - HOUR, "expiration": "60000"}),
    "no deadline, but very old": ("expired", LATE, {}, {"timestamp": NOW - HOUR}),
    # B22
    "65 headers": (*HEADERS, {}, {"headers": {f"h{number}": number for number in range(63)}}),
    "1,000 headers": (*HEADERS, {}, {"headers": {f"h{number}": number for number in range(1000)}}),
    "the mark of what cannot be read": (
        "invalid",
        "a property cannot be read",
        {},
        {"headers": {"x-unreadable-property": "a\nb"}},
    ),
    "a key that is a table": ("invalid", BAD_KEY, {}, {"headers": {"idempotency-key": {"a": [1]}}}),
    "a key with a line break": ("invalid", BAD_KEY, {}, {"headers": {"idempotency-key": "a\nb"}}),
    "a caller with a line break": (
        "invalid",
        "x-caller must be printable ASCII without blanks",
        {},
        {"headers": {"x-caller": "7\nadmin"}},
    ),
    # B23
    "65,537 bytes": (*TOO_LARGE, b" " * 65_537, {}),
    "16 MB": (*TOO_LARGE, b"[" * 16 * 2**20, {}),
}


@pytest.mark.parametrize(("reason", "text", "body", "properties"), BAD.values(), ids=BAD.keys())
async def test_a_bad_command_is_dead_lettered_once_and_its_sender_gets_a_fault(
    rig: Rig, reason: str, text: str, body: Any, properties: dict[str, Any]
) -> None:
    """Unless it waits no longer."""
    gets_a_fault = reason != "expired"
    content = body if isinstance(body, bytes) else json.dumps(a_create(**body)).encode()
    with rig.replies_since() as replies:
        async with rig.nothing_done():
            mark = await rig.ask_later(CREATE, content, **properties)
            letter = await rig.parked(CREATE, mark)
            assert (letter.headers["x-reason"], letter.headers["x-reason-text"]) == (reason, text)
            assert letter.body == content
            if gets_a_fault:
                [fault] = await until(replies)
                assert fault.type == "fault"
                sent = letter.properties
                assert fault.properties.correlation_id == (sent.correlation_id or sent.message_id)
                message = f"The command is not valid: {text}"
                assert fault.document == {"code": "VALIDATION_ERROR", "message": message, "retryable": False}
                assert fault.headers.get("x-reason") in {reason, None}
                of_envelope = body == {} or reason == "too-large" or "content_encoding" in properties
                assert ("x-reason" in fault.headers) == of_envelope, "whose fault it is"
        await rig.created()
        assert len(replies()) == 1 + gets_a_fault
    copies = [each for each in await rig.dead_letters(CREATE) if each.headers.get(MARK) == mark]
    assert len(copies) == 1
    assert letter.headers.get("x-delivery-count", 0) == 0  # at the first attempt


@pytest.mark.parametrize(
    "properties",
    [
        {"timestamp": NOW + HOUR, "expiration": "240000"},
        {"timestamp": NOW - HOUR, "expiration": "240000", "headers": {"x-clock-unknown": "true"}},
    ],
)
async def test_a_command_by_a_clock_that_is_ahead_or_was_never_compared_counts_from_its_arrival(
    rig: Rig, properties: dict[str, Any]
) -> None:
    """T6: RabbitMQ drops what waits longer than its expiration, by one clock."""
    assert (await rig.ask(CREATE, a_create(), **properties)).type == "checkout.create.reply"


async def test_17_mb_are_dead_lettered_or_refused_by_the_broker_itself_and_nothing_else_is_disturbed(
    rig: Rig,
) -> None:  # B23
    channel = await rig.connection.channel(publisher_confirms=True)
    publisher = dataclasses.replace(rig, channel=channel)
    async with rig.nothing_done():
        try:
            mark = await publisher.send(CREATE, b"[" * 17 * 2**20)
        except ChannelPreconditionFailed:  # from RabbitMQ 4 on
            assert channel.is_closed
        else:
            assert (await rig.parked(CREATE, mark)).headers["x-reason"] == "too-large"
            await channel.close()
    await rig.created()


GOOD_TYPES = [
    *("application/json;charset=UTF-8", 'application/json; charset="utf-8"', "Application/JSON ; Charset=utf8 ;v=1"),
    "application/json;",
]


@pytest.mark.parametrize("encoding", ["UTF-8", "utf-8", "identity"])
async def test_a_command_may_name_its_charset_wherever_clients_write_it(rig: Rig, encoding: str) -> None:  # B18
    """Spring's converter does in both; replies are as ever."""
    for content_type in GOOD_TYPES:
        reply = await rig.ask(CREATE, a_create(), content_type=content_type, content_encoding=encoding)
        assert reply.type == "checkout.create.reply"
        assert (reply.properties.content_type, reply.properties.content_encoding) == ("application/json", None)


@pytest.mark.parametrize("command", [VERIFY, STATUS])
async def test_every_command_has_its_own_dead_letters(rig: Rig, command: CommandType) -> None:
    mark = await rig.send(command, b"[]")
    assert (await rig.parked(command, mark)).headers["x-reason"] == "invalid"


async def test_a_message_id_with_another_body_is_a_conflict(rig: Rig) -> None:  # B19
    first = a_create()
    mark = await rig.send(CREATE, first, reply_to=envelope.DIRECT_REPLY_TO)
    assert (await rig.reply_to(mark)).type == "checkout.create.reply"
    async with rig.nothing_done():
        other = await rig.send(CREATE, first | {"amount": 1000}, reply_to=envelope.DIRECT_REPLY_TO, message_id=mark)
        letter = await rig.parked(CREATE, other)
        assert (letter.headers["x-reason"], letter.document["amount"]) == ("id-conflict", 1000)
        fault = await rig.reply_to(other)
        assert fault.document["code"] == "VALIDATION_ERROR"


async def test_priority_and_application_are_ignored(rig: Rig) -> None:  # B24
    reply = await rig.ask(CREATE, a_create(), priority=255, app_id="somebody\r\nelse")
    assert reply.type == "checkout.create.reply"


@pytest.mark.parametrize("value", ["a\r\nb", "x" * 129, {"a": 1}, 7, bytearray(b"\xff\xfe"), ""])
async def test_a_request_id_that_could_break_a_log_line_is_replaced(rig: Rig, value: Any) -> None:  # B22
    reply = await rig.ask(CREATE, a_create(), headers={"x-request-id": value, "traceparent": value})
    assert reply.headers["x-request-id"].startswith("generated-")
    [event] = await rig.told((await rig.payment(reply.document["sessionId"]))["id"], events=1)
    assert event.headers["x-request-id"] == reply.headers["x-request-id"]
    assert "traceparent" not in event.headers


ODD_HEADERS = {
    "nested tables": {"a": {"b": {"c": [1, 2.5, None, True, {"d": bytearray(b"\xff")}]}}},
    "binary": {"a": bytearray(b"\x00\xff")},
    "a header without a name": {"": 1},
}


@pytest.mark.parametrize("headers", ODD_HEADERS.values(), ids=ODD_HEADERS.keys())
async def test_odd_headers_harm_nobody(rig: Rig, headers: dict[str, Any]) -> None:
    assert (await rig.ask(CREATE, a_create(), headers=headers)).type == "checkout.create.reply"
    mark = await rig.send(CREATE, b"", headers=headers)
    assert (await rig.parked(CREATE, mark)).headers["x-reason"] == "invalid"


F = raw.field
NUMBERS = (
    F(b"a", b"b", b"\xff") + F(b"c", b"s", b"\xff\xff") + F(b"e", b"l", b"\xff" * 8) + F(b"h", b"V", b"")
    + F(b"f", b"f", struct.pack(">f", 3e38)) + F(b"g", b"d", struct.pack(">d", 1e308))
    + F(b"i", b"x", struct.pack(">I", 2) + b"\xff\xff")
)  # fmt: skip
POISON = {
    # Valid for RabbitMQ, but not for the client library: a consumer that fails to take such a message in stands still.
    "a timestamp in microseconds": {"timestamp": NOW * 1_000_000},
    "the largest timestamp": {"timestamp": 2**64 - 1},
    **{f"a {each} that is not UTF-8": {each: b"\xff\xfe"} for each in ("message_id", "type", "correlation_id")},
    "a content type that is not UTF-8": {"content_type": b"\xff\xfe"},
    "a header of 120,000 bytes": {"headers": {"a": "x" * 120_000}},
    "headers as large as a frame": {"headers": {"a": "x" * 130_800}},
    "a header timestamp beyond all years": {"headers": raw.table(F(b"a", b"T", struct.pack(">Q", 2**62)))},
    "a header that is not UTF-8": {"headers": raw.table(F(b"a", b"S", struct.pack(">I", 2) + b"\xff\xff"))},
    "a header name that is not UTF-8": {"headers": raw.table(F(b"\xff", b"t", b"\x01"))},
    "a decimal header with 255 places": {"headers": raw.table(F(b"a", b"D", struct.pack(">Bi", 255, 1)))},
    "a header of each number": {"headers": raw.table(NUMBERS)},
}


@pytest.mark.parametrize("properties", POISON.values(), ids=POISON.keys())
async def test_what_the_client_library_cannot_read_neither_stays_nor_stops_the_consumer(
    rig: Rig, properties: dict[str, Any]
) -> None:
    async with rig.nothing_done():
        await rig.send(CREATE, b"[1]", **properties)
        await _until_dead_lettered(rig)
    await rig.created()
    assert (await rig.ready()).status_code == 200


async def _until_dead_lettered(rig: Rig) -> None:
    """Counts, as the test's own client could not read it. So soon it was the service, and not the delivery limit."""
    queue = topology.DEAD_LETTER_QUEUES[CREATE].name
    await until(lambda: rig.ready_in(queue))
    await rig.channel.queue_purge(queue)


# --- S9: a reply address that is somebody else's ----------------------------------------------------------------------

VICTIM = "victim"
OURS = (topology.COMMAND_QUEUES[CREATE], topology.DEAD_LETTER_QUEUES[CREATE], topology.DELAY_QUEUES[CREATE][0])
MALICIOUS = [
    *(f"{key}|{topology.EVENTS.name}" for key in (VICTIM, "payment.completed", "payments.reply.x", "")),
    *(VICTIM, "x|no.such.exchange", topology.EVENTS.name, "a" * 255),
    *(queue.name for queue in OURS),
    *("payments.replyx", "payments.reply", " payments.reply.x", "PAYMENTS.REPLY.x", "payments.reply.é"),
    *("payments.reply.x y", "payments.reply.x\n", "payments.reply.\x00"),
    *("amq.rabbitmq.reply-t", "x.amq.rabbitmq.reply-to"),
]
QUEUES = [VICTIM, "x", "payments.replyx", "payments.reply", "x.amq.rabbitmq.reply-to", "a" * 255]


@pytest_asyncio.fixture(loop_scope="module")
async def victims(rig: Rig) -> AsyncIterator[list[Message]]:
    """Whatever is published to a queue that one of the addresses might reach, or as an event."""
    caught: list[Message] = []
    await rig.all_sent()  # the events of other tests are no reply to anybody

    async def catch(delivered: aiormq.abc.DeliveredMessage) -> None:
        caught.append(Message(body=bytes(delivered.body), properties=delivered.header.properties))

    tags = []
    for name in QUEUES:
        queue = await rig.channel.queue_declare(name, exclusive=True)
        await rig.channel.queue_bind(name, topology.EVENTS.name, "#")
        tags.append(await rig.channel.basic_consume(queue.queue or "", catch, no_ack=True))
    yield caught
    for tag in tags:
        await rig.channel.basic_cancel(tag.consumer_tag or "")
    for name in QUEUES:
        await rig.channel.queue_delete(name)


async def test_a_reply_address_that_is_somebody_elses_gets_nothing(rig: Rig, victims: list[Message]) -> None:
    async with rig.nothing_done():
        for content in (a_create(), b"[]"):
            for address in MALICIOUS:
                mark = await rig.send(CREATE, content, reply_to=address)
                assert (await rig.parked(CREATE, mark)).headers["x-reason"] == "invalid"
    assert victims == []
    reply = await rig.created()  # which also proves that events would have been caught
    payment = await rig.payment(reply["sessionId"])
    await rig.told(payment["id"], events=1)
    await until(lambda: len(victims) == len(QUEUES))


@pytest.mark.parametrize(
    "address",
    [
        "payments.reply.nobody",
        f"{envelope.DIRECT_REPLY_TO}.g1h2AA5yZXBseUAxMjM0NQAAAA",
        f"{envelope.DIRECT_REPLY_TO}.!!!",
        f"{envelope.DIRECT_REPLY_TO}.",
        f"{envelope.DIRECT_REPLY_TO}x",
        envelope.DIRECT_REPLY_TO + "." + "A" * 220,
    ],
)
async def test_a_reply_that_nobody_waits_for_is_dropped(rig: Rig, address: str) -> None:
    command = a_create()
    await rig.send(CREATE, command, reply_to=address)
    await until(lambda: rig.payments_of(command["bookingId"]))
    await rig.queue_empty(CREATE)
    [payment] = await rig.payments_of(command["bookingId"])
    await rig.told(payment["id"], events=1)
    await rig.created()


@pytest.mark.parametrize("content", [a_create(), b"[]"], ids=["executed", "dead-lettered"])
async def test_an_address_at_which_the_broker_fails_is_given_up(
    rig: Rig, content: Any, caplog: pytest.LogCaptureFixture
) -> None:
    # Base64 of what is no process id: RabbitMQ 3.10 ends the connection with an internal error, each time.
    address = f"{envelope.DIRECT_REPLY_TO}.g1h2AAAA.x=="

    def ended() -> bool:
        return any(getattr(each, "disposition", None) in {"done", "dead_lettered"} for each in caplog.records)

    with caplog.at_level("INFO"):
        await rig.send(CREATE, content, reply_to=address)
        await until(ended)
    await rig.created()
