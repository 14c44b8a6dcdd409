"""Deferred replies: a sender who verifies a payment may wait for its final status instead of polling.

Waiting occupies nothing: the command is acknowledged, and an address and the last known status are kept, some 2 KiB.
One loop looks payments up, many in one statement: those that a notification names, those that a sender has just begun
to wait for (they may have become final a moment before), and every few seconds all of them, as a notification may be
lost.

A service that is killed forgets its pending replies. Therefore senders ask again a little after the time they gave.
"""

import asyncio
import contextvars
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Protocol

from contracts import body, envelope
from contracts.commands import CommandType
from contracts.replies import StatusSource
from runtime import logs, tracing
from runtime.aio import PeriodicLoop, wait_or_timeout
from service.application import translation
from service.application.ports import PUBLISH_SECONDS, Store, UnpublishedError
from service.domain.errors import StoreUnavailableError
from service.domain.payment import Payment
from service.entrypoints.publisher import Publisher

_log = logging.getLogger(__name__)

MAX_PENDING: Final = 20_000
LOOK_UP_SECONDS: Final = 5.0
"""Between two look-ups of all payments that are waited for."""
_BATCH: Final = 500
"""Payments in one statement."""
_SENDERS: Final = 32
"""Replies that are published at once."""
_REPLY_TYPE: Final = envelope.reply_type(CommandType.VERIFY_CHECKOUT)


class LongPollObserver(Protocol):
    """Counts how long polls end."""

    def on_long_poll(self, result: str) -> None:
        """One ended: final, timeout, stopping, refused (too many were pending) or lost (could not be published)."""


@dataclass(kw_only=True, eq=False, slots=True)
class PendingReply:
    """A sender who waits: its address, the reply if the status does not change, and the fields of its log lines."""

    reply_to: str
    correlation_id: str | None
    wait_seconds: int
    last_known: bytes
    headers: Mapping[str, str]
    log_fields: Mapping[str, Any]
    trace_parent: str | None = None
    timer: asyncio.TimerHandle | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Reply:
    to: PendingReply
    result: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


class LongPoll:
    """One per process. Not thread-safe: all calls come from the event loop. `len()`: how many replies are pending."""

    def __init__(
        self, *, store: Store, publisher: Publisher, observer: LongPollObserver, limit: int = MAX_PENDING
    ) -> None:
        self.limit: Final = limit
        self._store = store
        self._publisher = publisher
        self._observer = observer
        self._pending: dict[int, set[PendingReply]] = {}
        self._count = 0
        self._due: set[int] = set()
        self._woken = asyncio.Event()
        self._all_due_at = -math.inf
        self._replies: asyncio.Queue[_Reply] = asyncio.Queue()
        self._stopping = False
        self._no_context = contextvars.Context()  # a delivery's own would keep the delivery in memory

    def __len__(self) -> int:
        return self._count

    def defer(self, payment_id: int, reply: PendingReply, *, seconds: float) -> bool:
        """Reply when the payment is final, or with the last known status after `seconds`; False: reply at once."""
        if self._stopping or self._count >= self.limit:
            self._observer.on_long_poll("refused")
            return False
        self._pending.setdefault(payment_id, set()).add(reply)
        self._count += 1
        reply.timer = asyncio.get_running_loop().call_later(
            max(0.0, seconds), self._time_out, payment_id, reply, context=self._no_context
        )
        self._look_up(payment_id)
        return True

    def notify(self, payment_id: int) -> None:
        """The payment has become final."""
        if payment_id in self._pending:
            self._look_up(payment_id)

    def resync(self) -> None:
        """Notifications may have been missed: look all payments up."""
        self._all_due_at = -math.inf
        self._woken.set()

    async def run(self) -> None:
        """Look up and reply until cancelled."""
        loop = PeriodicLoop(
            trouble="payments of pending replies cannot be looked up", poll_seconds=1.0, passing=StoreUnavailableError
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(loop.run(self._pass, wait=self._wait), name="long-poll-look-up")
            for number in range(_SENDERS):
                group.create_task(self._send(), name=f"long-poll-send-{number}")

    async def stop(self) -> None:
        """Send every pending reply at once, with the last known status, and defer no further ones."""
        self._stopping = True
        for payment_id in list(self._pending):
            for reply in self._release(payment_id):
                self._replies.put_nowait(_Reply(to=reply, result="stopping", body=reply.last_known))
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                await self._replies.join()
        except TimeoutError:
            _log.warning("%d pending replies could not be sent", self._replies.qsize())

    def _look_up(self, payment_id: int) -> None:
        self._due.add(payment_id)
        self._woken.set()

    async def _wait(self, seconds: float) -> None:
        await wait_or_timeout(self._woken, seconds)
        self._woken.clear()

    async def _pass(self) -> float:
        """Look up the payments that are due, in batches."""
        now = asyncio.get_running_loop().time()
        if now >= self._all_due_at:
            self._all_due_at = now + LOOK_UP_SECONDS
            self._due.update(self._pending)
        while batch := list(islice(self._due, _BATCH)):
            self._due.difference_update(batch)
            try:
                payments = await self._store.final_among(batch)
            except StoreUnavailableError:
                self._due.update(batch)
                raise
            for payment in payments:
                self._reply_final(payment)
        return LOOK_UP_SECONDS

    def _reply_final(self, payment: Payment) -> None:
        state, known = translation.state_reply(payment, StatusSource.GATEWAY)
        content = body.write(state)
        for reply in self._release(payment.id):
            headers = known | {envelope.WAIT_SECONDS: str(reply.wait_seconds)}
            reply.headers = {name: value for name, value in reply.headers.items() if name != envelope.ATTENTION}
            self._replies.put_nowait(_Reply(to=reply, result="final", body=content, headers=headers))

    def _time_out(self, payment_id: int, reply: PendingReply) -> None:
        pending = self._pending[payment_id]
        pending.remove(reply)
        self._count -= 1
        if not pending:
            del self._pending[payment_id]
        headers = {envelope.WAIT_SECONDS: str(reply.wait_seconds)}
        self._replies.put_nowait(_Reply(to=reply, result="timeout", body=reply.last_known, headers=headers))

    def _release(self, payment_id: int) -> set[PendingReply]:
        """Remove and return the pending replies of a payment."""
        pending = self._pending.pop(payment_id, set())
        self._count -= len(pending)
        for reply in pending:
            if reply.timer is not None:
                reply.timer.cancel()
        return pending

    async def _send(self) -> None:
        while True:
            reply = await self._replies.get()
            # In the trace of the sender who waits, below what deferred it, which has long ended.
            deferred = reply.to.trace_parent
            name = f"send {_REPLY_TYPE}"
            with tracing.span(name, "producer", parent=deferred) as span, logs.context(**reply.to.log_fields):
                span.set({"payment.long_poll": reply.result})
                await self._publish(reply)
            self._replies.task_done()

    async def _publish(self, reply: _Reply) -> None:
        to = reply.to
        try:
            await self._publisher.answer(
                reply.body,
                reply_to=to.reply_to,
                correlation_id=to.correlation_id,
                message_type=_REPLY_TYPE,
                headers={**to.headers, **reply.headers},
            )
        except UnpublishedError as error:  # its sender asks again
            self._observer.on_long_poll("lost")
            _log.warning("a pending reply could not be sent (%s)", error)
            return
        self._observer.on_long_poll(reply.result)
        _log.info("%s: replied after waiting (%s)", CommandType.VERIFY_CHECKOUT, reply.result)
