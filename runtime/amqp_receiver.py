"""Frames that come from RabbitMQ, read as many at a time as have come. A delivery is three frames, a confirm one.

For each, aiormq waits three times in a lock, and pamqp walks through the names of its fields. A test compares what they
find with what this does.
"""

import struct
from typing import Final

from aiormq import connection
from aiormq.connection import FrameReceiver, ReceivedFrame
from aiormq.exceptions import AMQPConnectionError, InvalidFrameError, ProtocolSyntaxError
from pamqp import frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.exceptions import PAMQPException
from pamqp.frame import FrameTypes
from pamqp.header import ContentHeader

_HEAD: Final = struct.Struct(">BHI")
_FRAME_END: Final = 0xCE
_METHOD, _HEADER, _BODY = 1, 2, 3
_ACK: Final = Basic.Ack.index.to_bytes(4, "big")
_DELIVER: Final = Basic.Deliver.index.to_bytes(4, "big")
_TAG_AND_BIT: Final = struct.Struct(">qB")
_READ_BYTES: Final = 64 * 1024


class Receiver(FrameReceiver):
    """As aiormq's, which it replaces."""

    _data = b""
    _at = 0

    async def get_frame(self) -> ReceivedFrame:
        """The next frame: its bytes, the number of its channel, its content.

        Raises:
            AMQPConnectionError: the connection was lost.
            ProtocolSyntaxError: what comes is no AMQP.
            StopAsyncIteration: the connection has ended.
        """
        if self._at == len(self._data) and self.reader.at_eof():
            raise StopAsyncIteration
        while (received := self._next()) is None:
            try:
                data = await self.reader.read(_READ_BYTES)
            except OSError as error:
                raise AMQPConnectionError(f"Server communication error: {error!r}") from error
            if not data:
                raise AMQPConnectionError("Server connection unexpectedly closed")
            self._data, self._at = self._data[self._at :] + data, 0
        return received

    def _next(self) -> ReceivedFrame | None:
        """The frame that has come and was not taken; None if not all of it is there."""
        data, at = self._data, self._at
        if not self.started and data.startswith(b"AMQP"):  # it offers another version
            raise ProtocolSyntaxError("Unexpected AMQP protocol header")
        begin = at + _HEAD.size
        if len(data) < begin:
            return None
        self.started = True
        kind, channel, size = _HEAD.unpack_from(data, at)
        end = begin + size
        if len(data) <= end:
            return None
        self._at = end + 1
        if data[end] != _FRAME_END:
            raise InvalidFrameError("Last byte error")
        try:
            content = _decoded(kind, data[begin:end])
            return size, channel, frame.unmarshal(data[at : end + 1])[2] if content is None else content
        except (PAMQPException, struct.error, ValueError, IndexError) as error:
            raise InvalidFrameError(str(error)) from error


def _decoded(kind: int, content: bytes) -> FrameTypes | None:
    """Of a delivery or a confirm; None of the rest, which is rare."""
    if kind == _BODY and content:
        return ContentBody(content)
    if kind == _HEADER:
        header = ContentHeader()
        header.unmarshal(content)
        return header
    if kind == _METHOD and content.startswith(_DELIVER):
        consumer_tag, at = _short(content, len(_DELIVER))
        tag, redelivered = _TAG_AND_BIT.unpack_from(content, at)
        exchange, at = _short(content, at + _TAG_AND_BIT.size)
        return Basic.Deliver(consumer_tag, tag, bool(redelivered), exchange, _short(content, at)[0])
    if kind == _METHOD and content.startswith(_ACK):
        tag, multiple = _TAG_AND_BIT.unpack_from(content, len(_ACK))
        return Basic.Ack(tag, bool(multiple))
    return None


def _short(content: bytes, at: int) -> tuple[str, int]:
    """The text there, and where it ends."""
    begin = at + 1
    end = begin + content[at]
    return content[begin:end].decode(), end


def receive_at_once() -> None:
    """Have aiormq's connections read so, for which it has no setting. Repeating is harmless."""
    connection.FrameReceiver = Receiver  # type: ignore[misc]
