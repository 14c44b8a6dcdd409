"""Calls that wait for a reply, and what became of those that waited."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel

from bridge.errors import CallerGoneError
from bridge.wire import Publication


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """The service may hold the answer for `seconds`. `watch` is told what to call if the caller hangs up meanwhile."""

    seconds: int
    watch: Callable[[Callable[[], None] | None], None]


@dataclass(kw_only=True, slots=True)
class Call:
    """A waiting call. `deadline` ends it at its time, or at once when it has failed for another reason."""

    reply: asyncio.Future[DeliveredMessage]
    deadline: asyncio.Timeout
    is_held: bool
    failure: Exception | None = None

    def fail(self, failure: Exception) -> None:
        """End it now, unless its time is over."""
        if not self.deadline.expired():
            self.failure = failure
            self.deadline.reschedule(0)

    def leave(self) -> None:
        """Its caller has hung up."""
        if not self.reply.done():
            self.fail(CallerGoneError())


class Waiting:
    """Registers a call for its reply, and for its return if no queue takes it.

    Without publisher confirms (they would cost a frame and two futures per call, and the reply is the confirmation)
    aiormq knows no returned message by itself: it finds whom to tell, with `PublishError`, in these two maps of the
    channel.
    """

    __slots__ = ("_call", "_calls", "_channel", "_correlation_id", "_message_id", "_tag")

    def __init__(
        self, calls: dict[str, Call], channel: Channel, publication: Publication, tag: int, call: Call
    ) -> None:
        self._calls, self._call = calls, call
        self._channel, self._tag = channel, tag
        self._correlation_id, self._message_id = publication.correlation_id, publication.message_id

    def __enter__(self) -> None:
        self._calls[self._correlation_id] = self._call
        self._channel.message_id_delivery_tag[self._message_id] = self._tag
        self._channel.confirmations[self._tag] = self._call.reply

    def __exit__(self, *_: object) -> None:
        del self._calls[self._correlation_id]
        del self._channel.message_id_delivery_tag[self._message_id]
        del self._channel.confirmations[self._tag]


@dataclass(kw_only=True, slots=True)
class Counters:
    """What happened since the start. `stray`: replies that nobody waits for (late, twice, or not ours), dropped.

    `gone`: held calls whose caller has left.
    """

    answered: int = 0
    busy: int = 0
    unavailable: int = 0
    unroutable: int = 0
    expired: int = 0
    gone: int = 0
    stray: int = 0
