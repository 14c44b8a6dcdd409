"""Bad, odd and hostile commands: where each ends, that nothing is done for it, and that good ones flow on meanwhile."""

import asyncio
import dataclasses
import gzip
import json
import random
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiormq
import pytest
import pytest_asyncio
from aiormq.exceptions import ChannelPreconditionFailed

from contracts import envelope, topology
from contracts.commands import CommandType
from tests.integration.service.messages import raw
from tests.integration.service.messages.rig import CREATE, MARK, STATUS, VERIFY, Message, Rig, a_create, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOW, HOUR = int(time.time()), 3600
UNKNOWN_SESSION = "cs_test_unknown1"


@dataclass(frozen=True, kw_only=True)
class Bad:
    """A create with something wrong. `told` is whether its sender, who waits, gets a fault."""

    reason: str
    text: str
    body: bytes | None = None
    members: dict[str, Any] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)
    told: bool = True


def body(content: bytes, text: str) -> Bad:
    return Bad(reason="invalid", text=text, body=content)


def without(*names: str, text: str, **properties: Any) -> Bad:
    return Bad(reason="invalid", text=text, properties=dict.fromkeys(names) | properties)


NOT_JSON = "The body is not valid JSON."
NOT_AN_OBJECT = "The body must be a JSON object."
BAD_TYPE = "content_type must be application/json, without an encoding"
BAD_ID = "is required, as 1 to 255 printable characters"
NO_MEMBERS = "bookingId is required; userId is required; amount is required."

BAD = {
    # B16, and what B1-B9 are as messages
    "not JSON": body(b"{bookingId", NOT_JSON),
    "empty": body(b"", NOT_JSON),
    "null": body(b"null", NOT_AN_OBJECT),
    "a list": body(b"[]", NOT_AN_OBJECT),
    "an empty object": body(b"{}", NO_MEMBERS),
    "not UTF-8": body(b'{"bookingId":"\xff"}', NOT_JSON),
    "nested 30,000 deep": body(b"[" * 30_000, NOT_JSON),
    "NaN": body(b'{"bookingId":1,"userId":2,"amount":NaN}', "The body holds a number that is not a number."),
    "a number of 60,000 digits": body(
        b'{"bookingId":' + b"9" * 60_000 + b"}", "The body holds a number that is too long."
    ),
    "a repeated member": body(b'{"amount":1,"amount":2}', "The body names a field more than once."),
    "an unknown member": Bad(reason="invalid", text="succesUrl is not a known field.", members={"succesUrl": "x"}),
    "a NUL in a URL": Bad(
        reason="invalid",
        text="successUrl must be an absolute URL of at most 2048 printable ASCII characters.",
        members={"successUrl": "https://shop.example/\x00"},
    ),
    "another content type": without(text=BAD_TYPE, content_type="text/plain"),
    "no content type": without("content_type", text=BAD_TYPE),
    "a gzip bomb": Bad(
        reason="invalid", text=BAD_TYPE, body=gzip.compress(bytes(10**7)), properties={"content_encoding": "gzip"}
    ),
    # B17
    "an unknown type": Bad(
        reason="unknown-type", text="type must be checkout.create", properties={"type": "checkout.pay"}
    ),
    "a newer version": Bad(
        reason="unknown-type", text="type must be checkout.create", properties={"type": "checkout.create.v2"}
    ),
    "another queue's type": Bad(
        reason="unknown-type", text="type must be checkout.create", properties={"type": "payment.status"}
    ),
    "no type": Bad(reason="unknown-type", text="type must be checkout.create", properties={"type": None}),
    # B18
    "no message id": without("message_id", text=f"message_id {BAD_ID}"),
    "an empty message id": without(text=f"message_id {BAD_ID}", message_id=""),
    "a line break in the message id": without(text=f"message_id {BAD_ID}", message_id="a\r\nb"),
    "no correlation id": Bad(
        reason="invalid", text=f"correlation_id {BAD_ID}", properties={"correlation_id": None}, told=False
    ),
    # B21
    "no timestamp": without("timestamp", text="timestamp is required"),
    "a timestamp in the year 9999": Bad(  # which the client library takes for milliseconds
        reason="expired", text="the sender's deadline has passed", properties={"timestamp": 253402300799}, told=False
    ),
    "a timestamp in an hour": without(text="timestamp lies in the future", timestamp=NOW + HOUR),
    "a deadline that has passed": Bad(
        reason="expired",
        text="the sender's deadline has passed",
        properties={"timestamp": NOW - HOUR, "expiration": "60000"},
        told=False,
    ),
    "no deadline, but very old": Bad(
        reason="expired", text="the sender's deadline has passed", properties={"timestamp": NOW - HOUR}, told=False
    ),
    # B22
    "65 headers": without(text="more than 64 headers", headers={f"h{number}": number for number in range(63)}),
    "1,000 headers": without(text="more than 64 headers", headers={f"h{number}": number for number in range(1000)}),
    "an idempotency key that is a table": without(
        text="idempotency-key must be 1 to 255 printable ASCII characters", headers={"idempotency-key": {"a": [1]}}
    ),
    "an idempotency key with a line break": without(
        text="idempotency-key must be 1 to 255 printable ASCII characters", headers={"idempotency-key": "a\nb"}
    ),
    "a caller with a line break": without(
        text="x-caller must be printable ASCII without blanks", headers={"x-caller": "7\nadmin"}
    ),
    # B23
    "65,537 bytes": Bad(reason="too-large", text="over 65536 bytes", body=b" " * 65_537),
    "1 MB": Bad(reason="too-large", text="over 65536 bytes", body=b"{" * 10**6),
    "16 MB": Bad(reason="too-large", text="over 65536 bytes", body=b"[" * 16 * 2**20),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
async def test_what_cannot_be_understood_is_parked_once_and_its_sender_is_told(rig: Rig, bad: Bad) -> None:
    content = a_create(**bad.members) if bad.body is None else bad.body
    properties = {"reply_to": envelope.DIRECT_REPLY_TO} | bad.properties
    with rig.replies_since() as replies:
        async with rig.nothing_done():
            mark = await rig.send(CREATE, content, **properties)
            letter = await rig.parked(CREATE, mark)
            assert (letter.headers["x-reason"], letter.headers["x-reason-text"]) == (bad.reason, bad.text)
            assert letter.body == (content if isinstance(content, bytes) else json.dumps(content).encode())
            if bad.told:
                [fault] = await until(replies)
                assert fault.type == "fault"
                message = f"The command is not valid: {bad.text}"
                assert fault.document == {"code": "VALIDATION_ERROR", "message": message, "retryable": False}
        await rig.created()
        assert len(replies()) == 1 + bad.told
    again = [each for each in await rig.dead_letters(CREATE) if each.headers.get("x-mark") == mark]
    assert len(again) == 1
    assert letter.headers.get("x-delivery-count", 0) == 0  # at the first attempt


async def test_17_mb_are_parked_or_refused_by_the_broker_itself_and_nothing_else_is_disturbed(rig: Rig) -> None:  # B23
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


@pytest.mark.parametrize("command", [VERIFY, STATUS])
async def test_every_command_has_its_own_dead_letters(rig: Rig, command: CommandType) -> None:
    mark = await rig.send(command, b"[]")
    assert (await rig.parked(command, mark)).headers["x-reason"] == "invalid"


async def test_a_message_id_with_another_body_is_parked_as_a_conflict(rig: Rig) -> None:  # B19
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


FIELD = raw.field
POISON = {
    # Valid for RabbitMQ, but not for the client library: a consumer that fails to take such a message in stands still.
    "a timestamp in microseconds": {"timestamp": NOW * 1_000_000},
    "the largest timestamp": {"timestamp": 2**64 - 1},
    "a message id that is not UTF-8": {"message_id": b"\xff\xfe"},
    "a type that is not UTF-8": {"type": b"\xff\xfe"},
    "a correlation id that is not UTF-8": {"correlation_id": b"\xff\xfe"},
    "a content type that is not UTF-8": {"content_type": b"\xff\xfe"},
    "a header of 120,000 bytes": {"headers": {"a": "x" * 120_000}},
    "headers as large as a frame": {"headers": {"a": "x" * 130_800}},
    "a header timestamp beyond all years": {"headers": raw.table(FIELD(b"a", b"T", struct.pack(">Q", 2**62)))},
    "a header that is not UTF-8": {"headers": raw.table(FIELD(b"a", b"S", struct.pack(">I", 2) + b"\xff\xff"))},
    "a header name that is not UTF-8": {"headers": raw.table(FIELD(b"\xff", b"t", b"\x01"))},
    "a decimal header with 255 places": {"headers": raw.table(FIELD(b"a", b"D", struct.pack(">Bi", 255, 1)))},
    "a header of each number": {
        "headers": raw.table(
            FIELD(b"a", b"b", b"\xff")
            + FIELD(b"c", b"s", b"\xff\xff")
            + FIELD(b"e", b"l", b"\xff" * 8)
            + FIELD(b"f", b"f", struct.pack(">f", 3e38))
            + FIELD(b"g", b"d", struct.pack(">d", 1e308))
            + FIELD(b"h", b"V", b"")
            + FIELD(b"i", b"x", struct.pack(">I", 2) + b"\xff\xff")
        )
    },
}


@pytest.mark.parametrize("properties", POISON.values(), ids=POISON.keys())
async def test_what_the_client_library_chokes_on_neither_stays_nor_stops_the_consumer(
    rig: Rig, properties: dict[str, Any]
) -> None:
    async with rig.nothing_done():
        await rig.send(CREATE, b"[1]", **properties)
        await _until_parked(rig)
    await rig.created()
    assert (await rig.ready()).status_code == 200


async def _until_parked(rig: Rig) -> None:
    """Counts, as our own client library would choke, too. So soon it was parked by us, not by the delivery limit."""
    queue = topology.DEAD_LETTER_QUEUES[CREATE].name

    async def found() -> bool:
        declared = await rig.channel.queue_declare(queue, passive=True)
        return bool(declared.message_count)

    await until(found, 10)
    await rig.channel.queue_purge(queue)


# --- S9: a reply address that is somebody else's ----------------------------------------------------------------------

VICTIM = "victim"
MALICIOUS = [
    VICTIM,
    f"{VICTIM}|{topology.EVENTS.name}",
    f"payment.completed|{topology.EVENTS.name}",
    f"payments.reply.x|{topology.EVENTS.name}",
    f"|{topology.EVENTS.name}",
    "x|no.such.exchange",
    topology.EVENTS.name,
    topology.COMMAND_QUEUES[CREATE].name,
    topology.DEAD_LETTER_QUEUES[CREATE].name,
    topology.DELAY_QUEUES[CREATE][0].name,
    "payments.replyx",
    "payments.reply",
    " payments.reply.x",
    "payments.reply.x y",
    "payments.reply.x\n",
    "payments.reply.\x00",
    "payments.reply.é",
    "PAYMENTS.REPLY.x",
    "amq.rabbitmq.reply-t",
    "x.amq.rabbitmq.reply-to",
    "a" * 255,
]


QUEUES = [VICTIM, "x", "payments.replyx", "payments.reply", "x.amq.rabbitmq.reply-to", "a" * 255]


@pytest_asyncio.fixture(loop_scope="module")
async def victims(rig: Rig) -> AsyncIterator[list[Message]]:
    """Whatever is published to a queue that one of the addresses might reach, or as an event."""
    caught: list[Message] = []

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


# --- B26 --------------------------------------------------------------------------------------------------------------

FUZZED, SEED = 2_000, 20261124


def _fuzzed(chance: random.Random) -> tuple[bytes, dict[str, Any]]:  # noqa: C901 - a case per kind of mistake
    """A command with up to four things wrong."""
    members: dict[str, Any] = {"sessionId": UNKNOWN_SESSION}
    properties: dict[str, Any] = {"reply_to": chance.choice([None, envelope.DIRECT_REPLY_TO])}
    text = ["", "x", "a" * 255, "é", b"\xff", "\x00", "application/json", "payment.status", "cs_test_1", None]
    odd: list[Any] = [None, True, -1, 2**63, 1e300, "x", [], {}, "\ud800", "cs_test_" + "a" * 300]
    for _ in range(chance.randrange(5)):
        match chance.randrange(8):
            case 0:
                members[chance.choice(["sessionId", "x", ""])] = chance.choice(odd)
            case 1:
                name = chance.choice(["content_type", "content_encoding", "type", "correlation_id", "message_id"])
                properties[name] = chance.choice(text)
            case 2:
                properties["timestamp"] = chance.choice([None, 0, 1, 2**31, 2**32, 2**53, 2**63, 2**64 - 1])
            case 3:
                properties["reply_to"] = chance.choice([*MALICIOUS, b"\xff"])
            case 4:
                names = [MARK, "x-request-id", "traceparent", "x-attempts", "x-first-failed-at", "x-reason", "x-death"]
                values = [chance.choice([1, -1, 2**62, "é", "\n", None, [None], {"": {}}]) for _ in names]
                properties["headers"] = {
                    name: value for name, value in zip(names, values, strict=True) if chance.random() < 0.4
                }
            case 5:
                properties["priority"] = chance.randrange(256)
            case 6:
                properties["app_id"] = chance.choice(text)
            case _:
                properties["headers"] = raw.table(chance.choice([raw.field(b"\xff", b"t", b"\x01"), b""]))
    content = json.dumps(members).encode()
    match chance.randrange(6):
        case 0:
            content = content[: chance.randrange(len(content))]
        case 1:
            content = chance.randbytes(chance.randrange(200))
        case 2:
            position = chance.randrange(len(content))
            content = content[:position] + chance.randbytes(1) + content[position + 1 :]
    return content, properties


async def test_two_thousand_odd_messages_all_end_and_the_consumer_lives(rig: Rig) -> None:
    """Every one is parked, or answered with a fault (their session is unknown here)."""
    chance = random.Random(SEED)  # noqa: S311 - the same in every run
    before = len(await rig.dead_letters(VERIFY))
    async with rig.nothing_done():
        answered = waiting = 0
        with rig.replies_since() as replies:
            odd = [_fuzzed(chance) for _ in range(FUZZED)]
            for batch in (odd[first : first + 100] for first in range(0, FUZZED, 100)):
                await asyncio.gather(*(rig.send(VERIFY, content, **properties) for content, properties in batch))

            async def all_ended() -> bool:
                parked = len(await rig.dead_letters(VERIFY)) - before
                # An answered command was either parked with a fault or understood, and its session not found.
                nonlocal answered, waiting
                answered = sum(reply.document["code"] == "NOT_FOUND" for reply in replies())
                waiting = FUZZED - parked - answered
                return waiting <= 0

            await until(all_ended, 60)
            assert waiting == 0
            assert answered > 100
    await rig.queue_empty(VERIFY)
    assert await rig.consumers(VERIFY) == 1
    components = (await rig.ready()).json()["components"]
    assert {name: part["status"] for name, part in components.items()} == dict.fromkeys(
        ("broker", "consumers", "database", "readinessState"), "UP"
    )
