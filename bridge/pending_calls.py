"""Calls that wait for their replies, and how they end."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel

from bridge.errors import CallerGoneError


class CallResult(StrEnum):
    """How a call ended."""

    ANSWERED = "answered"
    """By a reply or a fault."""
    BUSY = "busy"
    UNAVAILABLE = "unavailable"
    UNROUTABLE = "unroutable"
    EXPIRED = "expired"
    GONE = "gone"
    """The caller of a long poll hung up."""


class RpcObserver(Protocol):
    """Counts calls."""

    def on_call(self, result: CallResult) -> None:
        """A call has ended."""

    def on_stray_reply(self) -> None:
        """A reply was dropped because no call waits for it: it is late, a duplicate, or foreign."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LongPoll:
    """The service may defer its reply by `seconds`. `watch` takes what to call if the caller hangs up meanwhile."""

    seconds: int
    watch: Callable[[Callable[[], None] | None], None]


@dataclass(kw_only=True, slots=True, eq=False)
class PendingCall:
    """A call that waits for its reply; a context manager that registers it for the reply, and for its return.

    Without publisher confirms (they would cost a frame and two futures per call, and the reply is the confirmation)
    aiormq does not notice by itself that the broker returned a message: it looks up in two maps of the channel which
    future gets a `PublishError`.

    `deadline` ends the call at its time, or at once when it has failed for another reason. Thousands may wait at a
    time, so each of them takes one small object.
    """

    calls: dict[str, "PendingCall"]
    channel: Channel
    message_id: str
    correlation_id: str
    tag: int
    deadline: asyncio.Timeout
    reply: asyncio.Future[DeliveredMessage]
    is_long_poll: bool
    failure: Exception | None = None

    def __enter__(self) -> None:
        self.calls[self.correlation_id] = self
        self.channel.message_id_delivery_tag[self.message_id] = self.tag
        self.channel.confirmations[self.tag] = self.reply

    def __exit__(self, *_: object) -> None:
        del self.calls[self.correlation_id]
        del self.channel.message_id_delivery_tag[self.message_id]
        del self.channel.confirmations[self.tag]

    def fail(self, failure: Exception) -> None:
        """End the call now, unless its time is over."""
        if not self.deadline.expired():
            self.failure = failure
            self.deadline.reschedule(0)

    def hang_up(self) -> None:
        """The caller has left."""
        if not self.reply.done():
            self.fail(CallerGoneError())
