"""Held answers: who asks how a payment stands, and would rather wait for its outcome than come again.

Nothing is occupied meanwhile. The command is acknowledged; what stays is an address and the last known answer, some
2 KiB. Whatever may have become final is looked up in one place and many at once: what the news names, what somebody has
just begun to wait for (it may have become final a moment before), and every few seconds all of it, as news may be lost.

A service that is killed forgets whom it held. So whoever asks asks again a little after the time it gave.
"""

import asyncio
import contextvars
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from contracts import body, envelope, logs
from contracts.commands import CommandType
from contracts.replies import StatusSource
from service.application import translation
from service.application.ports import Store
from service.domain.errors import StoreUnavailableError
from service.domain.payment import Payment
from service.entrypoints.broker import PUBLISH_SECONDS, Publisher, UnpublishedError
from service.entrypoints.rounds import Rounds

_log = logging.getLogger(__name__)

MAX_HELD: Final = 20_000
LOOK_SECONDS: Final = 5.0
"""Between two looks at all that is waited for."""
_BATCH: Final = 500
"""Payments looked up in one statement."""
_SENDERS: Final = 32
"""Answers on their way to the broker at once."""
_REPLY_TYPE: Final = envelope.reply_type(CommandType.VERIFY_CHECKOUT)


@dataclass(kw_only=True, eq=False, slots=True)
class Held:
    """Somebody who waits: where the answer goes, what it is if nothing happens, and what log lines say of it."""

    reply_to: str
    correlation_id: str | None
    wait_seconds: int
    last_known: bytes
    headers: Mapping[str, str]
    log_fields: Mapping[str, Any]
    timer: asyncio.TimerHandle | None = None


@dataclass(kw_only=True)
class Counters:
    """How waiting ended since the start. `refused`: answered at once, as too many waited; `lost`: not published."""

    settled: int = 0
    over: int = 0
    leaving: int = 0
    refused: int = 0
    lost: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Answer:
    to: Held
    why: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


class Holds:
    """One per process. Not thread-safe; everything happens in the event loop."""

    def __init__(self, *, store: Store, publisher: Publisher, limit: int = MAX_HELD) -> None:
        self._store = store
        self._publisher = publisher
        self.limit: Final = limit
        self.counters = Counters()
        self._waiting: dict[int, set[Held]] = {}
        self._count = 0
        self._due: set[int] = set()
        self._rung = asyncio.Event()
        self._all_due_at = 0.0
        self._answers: asyncio.Queue[_Answer] = asyncio.Queue()
        self._leaving = False
        self._no_context = contextvars.Context()  # that of a delivery would keep the delivery

    def __len__(self) -> int:
        return self._count

    def hold(self, payment_id: int, held: Held, *, seconds: float) -> bool:
        """Answer when the payment is final, with the last known status after `seconds`; False: answer it yourself."""
        if self._leaving or self._count >= self.limit:
            self.counters.refused += 1
            return False
        self._waiting.setdefault(payment_id, set()).add(held)
        self._count += 1
        held.timer = asyncio.get_running_loop().call_later(
            max(0.0, seconds), self._time_is_over, payment_id, held, context=self._no_context
        )
        self._look_at(payment_id)
        return True

    def hear(self, payment_id: int | None) -> None:
        """A payment has become final; None: any may have. See `News.listen`."""
        if payment_id is None:
            self._all_due_at = 0.0
            self._rung.set()
        elif payment_id in self._waiting:
            self._look_at(payment_id)

    async def run(self) -> None:
        """Look and answer until cancelled."""
        rounds = Rounds(trouble="payments that somebody waits for cannot be looked up", poll_seconds=1.0)
        async with asyncio.TaskGroup() as group:
            group.create_task(rounds.run(self._round, wait=self._pause), name="holds-look")
            for number in range(_SENDERS):
                group.create_task(self._send(), name=f"holds-send-{number}")

    async def leave(self) -> None:
        """Answer everybody at once with the last known status; nobody is held any more."""
        self._leaving = True
        for payment_id in list(self._waiting):
            for held in self._release(payment_id):
                self._answers.put_nowait(_Answer(to=held, why="leaving", body=held.last_known))
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                await self._answers.join()
        except TimeoutError:
            _log.warning("%d held answers could not be sent any more", self._answers.qsize())

    def _look_at(self, payment_id: int) -> None:
        self._due.add(payment_id)
        self._rung.set()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            pass
        self._rung.clear()

    async def _round(self) -> float:
        """Look up what is due, all of it if that is due."""
        now = asyncio.get_running_loop().time()
        if now >= self._all_due_at:
            self._all_due_at = now + LOOK_SECONDS
            self._due.update(self._waiting)
        while batch := list(islice(self._due, _BATCH)):
            self._due.difference_update(batch)
            try:
                payments = await self._store.final_among(batch)
            except StoreUnavailableError:
                self._due.update(batch)
                raise
            for payment in payments:
                self._settle(payment)
        return LOOK_SECONDS

    def _settle(self, payment: Payment) -> None:
        answer = body.write(translation.payment_state(payment))
        source = {envelope.STATUS_SOURCE: StatusSource.GATEWAY.value}
        for held in self._release(payment.id):
            headers = source | {envelope.WAIT_SECONDS: str(held.wait_seconds)}
            self._answers.put_nowait(_Answer(to=held, why="settled", body=answer, headers=headers))

    def _time_is_over(self, payment_id: int, held: Held) -> None:
        waiting = self._waiting[payment_id]
        waiting.remove(held)
        self._count -= 1
        if not waiting:
            del self._waiting[payment_id]
        headers = {envelope.WAIT_SECONDS: str(held.wait_seconds)}
        self._answers.put_nowait(_Answer(to=held, why="over", body=held.last_known, headers=headers))

    def _release(self, payment_id: int) -> set[Held]:
        """All who wait for the payment, who do so no longer."""
        waiting = self._waiting.pop(payment_id, set())
        self._count -= len(waiting)
        for held in waiting:
            if held.timer is not None:
                held.timer.cancel()
        return waiting

    async def _send(self) -> None:
        while True:
            answer = await self._answers.get()
            with logs.context(**answer.to.log_fields):
                await self._publish(answer)
            self._answers.task_done()

    async def _publish(self, answer: _Answer) -> None:
        headers = {**answer.to.headers, **answer.headers}
        try:
            await self._publisher.answer(answer.to, answer.body, message_type=_REPLY_TYPE, headers=headers)
        except UnpublishedError as error:  # its sender asks again
            self.counters.lost += 1
            _log.warning("a held answer could not be sent (%s)", error)
            return
        setattr(self.counters, answer.why, getattr(self.counters, answer.why) + 1)
        _log.info("%s: answered, as waiting ended (%s)", CommandType.VERIFY_CHECKOUT, answer.why)
