"""What our receiver makes of bytes is what aiormq's makes of them."""

import asyncio
from datetime import UTC, datetime
from typing import Final

import pytest
from aiormq.connection import FrameReceiver
from pamqp import frame
from pamqp.body import ContentBody
from pamqp.commands import Basic, Channel
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from runtime.amqp_receiver import Receiver

PROPERTIES: Final = Basic.Properties(
    content_type="application/json",
    headers={"x-request-id": "r" * 300, "attempts": 3},
    correlation_id="ü",
    timestamp=datetime(2026, 1, 2, tzinfo=UTC),
    message_type="checkout.create",
)
FRAMES: Final[list[frame.FrameTypes]] = [
    Basic.Deliver("tag-1", 2**40, redelivered=False, exchange="payments.commands", routing_key="checkout.create"),
    ContentHeader(body_size=300, properties=PROPERTIES),
    ContentBody(bytes(range(200))),
    ContentBody(b"x" * 100),
    Basic.Deliver("ü", 1, redelivered=True, exchange="", routing_key="r" * 255),
    ContentHeader(body_size=0),
    Basic.Ack(7, multiple=False),
    Basic.Ack(2**62, multiple=True),
    Basic.Nack(8, multiple=True),
    Heartbeat(),
    Basic.Return(312, "NO_ROUTE", "payments.commands", "checkout.create"),
    Channel.CloseOk(),
]
HEAD: Final = b"\x01\x00\x01\x00\x00\x00\x05"
WRONG: Final = {
    "nothing": b"",
    "the half of a frame": HEAD + b"\x00",
    "another version of the protocol": b"AMQP\x00\x00\x09\x01",
    "no end": HEAD + b"\x00" * 5 + b"\x00",
    "an unknown method": HEAD + b"\x00" * 5 + b"\xce",
    "a confirm that is too short": HEAD + b"\x00\x3c\x00\x50\x01\xce",
    "a delivery that is too short": HEAD + b"\x00\x3c\x00\x3c\x09\xce",
    "a header that is too short": b"\x02" + HEAD[1:] + b"\x00" * 5 + b"\xce",
    "an unknown kind": b"\x09" + HEAD[1:] + b"\x00" * 5 + b"\xce",
    "no content": b"\x03\x00\x01\x00\x00\x00\x00\xce",
    "a routing key that is no UTF-8": b"\x01\x00\x01\x00\x00\x00\x11\x00\x3c\x00\x3c\x01t"
    + bytes(9)
    + b"\x00\x01\xff\xce",
}


def both(data: bytes, *, size: int = 10_000, lost: Exception | None = None) -> list[list[object]]:
    """What both receivers find in data that come in pieces of so many bytes, until what they raise in the end."""

    async def found(receiver: type[FrameReceiver]) -> list[object]:
        reader = asyncio.StreamReader()
        frames, each = list[object](), receiver(reader)

        async def read() -> None:
            try:
                while True:
                    _, channel, content = await each.get_frame()
                    assert content is not None
                    frames.append((channel, type(content), frame.marshal(content, channel)))
            except Exception as error:  # noqa: BLE001 - the kind is compared
                frames.append(type(error))

        reading = asyncio.create_task(read())
        for at in range(0, len(data), size):
            reader.feed_data(data[at : at + size])
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        if lost is None:
            reader.feed_eof()
        else:
            reader.set_exception(lost)
        await reading
        return frames

    return [asyncio.run(found(receiver)) for receiver in (Receiver, FrameReceiver)]


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 50, 10_000])
def test_frames_are_those_of_the_library_in_whatever_pieces_they_come(size: int) -> None:
    ours, theirs = both(b"".join(frame.marshal(each, 3) for each in FRAMES), size=size)
    assert ours == theirs
    assert len(ours) == len(FRAMES) + 1


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_raises_what_it_raises_in_the_library(wrong: str) -> None:
    good = b"" if "version" in wrong else frame.marshal(Basic.Ack(1), 3)
    ours, theirs = both(good + WRONG[wrong])
    assert ours == theirs


@pytest.mark.parametrize("lost", [ConnectionResetError(), TimeoutError(), OSError()])
def test_the_loss_of_the_connection_is_the_library_s(lost: Exception) -> None:
    ours, theirs = both(frame.marshal(Basic.Ack(1), 3), lost=lost)
    assert ours == theirs


def test_an_end_that_was_there_before_is_no_loss() -> None:
    async def ended(receiver: type[FrameReceiver]) -> bool:
        reader = asyncio.StreamReader()
        reader.feed_data(frame.marshal(Basic.Ack(1), 3))
        reader.feed_eof()
        return [channel async for _, channel, _ in receiver(reader)] == [3]

    assert [asyncio.run(ended(each)) for each in (Receiver, FrameReceiver)] == [True, True]
