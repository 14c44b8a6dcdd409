"""What the state machine drives: replicas that can be killed, a gateway with keys and a clock, and what must hold.

All that a replica does to the world goes through a `_Line`. A killed replica's lines are cut first and its tasks are
cancelled then, so nothing of it reaches the world afterwards, as after `kill -9`.
"""

import asyncio
import inspect
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import cycle
from typing import Any, TypeVar
from uuid import uuid4

from contracts.events import PaymentEvent
from service.application.asking import Asked
from service.application.budget import Priority, Turn
from service.application.news import Heard, News
from service.application.ports import CommandContext, OutboxRow
from service.application.steps import Steps
from service.domain.errors import IllegalTransitionError, PaymentServiceError, StoreUnavailableError
from service.domain.outcomes import Expired, Open, Opened, Outcome, Paid, Processing, Refused, Unknown, UnknownCause
from service.domain.payment import AttentionReason, FailureReason, Payment, PaymentStatus
from service.domain.status import ChangeKind
from service.entrypoints.broker import UnpublishedError
from service.entrypoints.relay import Relay
from service.entrypoints.settler import Settler
from tests.fakes import FakeGateway, FakeSession, FakeStore
from tests.service_support import MovableClock, policy

REFUSED_MINOR = 66_600
"""An amount that the gateway always refuses."""
STOOD = AttentionReason.PAID_DIFFERENTLY.value

_KEYS_KEPT = timedelta(hours=24)
_ENDS_AFTER = timedelta(minutes=30)
_ON_ITS_WAY = timedelta(seconds=10)
"""So long may a call whose sender has given up, or died, still reach the gateway."""
_ITERATIONS = 2_000

_Result = TypeVar("_Result")

_pace: ContextVar[Iterator[int]] = ContextVar("_pace", default=cycle((0,)))  # noqa: B039 - nothing to share in zeros


async def _dawdle() -> None:
    for _ in range(next(_pace.get())):
        await asyncio.sleep(0)


class _ClockLoop(asyncio.SelectorEventLoop):
    """Its time is the machine's, so deadlines pass when the machine says so."""

    def __init__(self, clock: MovableClock) -> None:
        super().__init__()
        self._machine_clock = clock

    def time(self) -> float:
        return self._machine_clock.now().timestamp()


@dataclass(eq=False)
class _Call:
    sent_at: datetime
    work: Callable[[], Any]


class Ledger(FakeGateway):
    """The fake gateway with what makes repeats dangerous: keys that are forgotten, ends that pass, late calls."""

    def __init__(self, clock: MovableClock) -> None:
        super().__init__(clock)
        self._clock: MovableClock = clock
        self._keys: dict[str, tuple[datetime, Opened]] = {}
        self._wire: list[_Call] = []
        self.late_calls = 0
        """So many calls end in silence and are done later, if ever."""

    async def open(
        self,
        payment: Payment,
        *,
        timeout_seconds: float,  # noqa: ARG002
        proven_absent: bool = False,
        turn: Turn | None = None,  # noqa: ARG002
    ) -> Outcome:
        key = payment.reference + ("-absent" if proven_absent else "")
        return await self._send(lambda: self._made(key, payment))

    async def find(self, payment: Payment, *, timeout_seconds: float) -> Opened | Unknown | None:  # noqa: ARG002
        return await self._send(lambda: self._found(payment))

    async def look_up(
        self,
        payment: Payment,
        *,
        timeout_seconds: float,  # noqa: ARG002
        priority: Priority = Priority.WAITED,  # noqa: ARG002
        turn: Turn | None = None,  # noqa: ARG002
    ) -> Outcome:
        return await self._send(lambda: self.stands(payment.session_id))

    async def expire(self, payment: Payment, *, timeout_seconds: float) -> Outcome:  # noqa: ARG002
        return await self._send(lambda: self._ended(payment.session_id))

    def stands(self, session_id: str | None) -> Outcome:
        session = self.made[session_id or ""]
        if isinstance(session.stands, Open) and session.opened.expires_at <= self._clock.now():
            self.stand(session_id or "", Expired())
        return session.stands

    def deliver(self, *, until: datetime | None = None) -> None:
        """Calls whose sender is gone arrive after all; with `until`, those that cannot linger until then."""
        for call in list(self._wire):
            if until is None or until - call.sent_at > _ON_ITS_WAY:
                self._wire.remove(call)
                call.work()

    def lose_calls(self) -> None:
        self._wire.clear()

    def heal(self) -> None:
        self.fault, self.lost_answers, self.late_calls = None, 0, 0
        self.deliver()

    async def _send(self, work: Callable[[], Any]) -> Any:
        call = _Call(self._clock.now(), work)
        self._wire.append(call)
        await asyncio.sleep(0)
        await _dawdle()
        if self.late_calls:
            self.late_calls -= 1
            return Unknown(cause=UnknownCause.TIMEOUT)
        if call in self._wire:
            self._wire.remove(call)
        if self.fault is not None:
            return Unknown(cause=self.fault)
        answer = work()
        await _dawdle()
        return self._answer(answer)

    def _made(self, key: str, payment: Payment) -> Outcome:
        now = self._clock.now()
        at, opened = self._keys.get(key, (None, None))
        if at is not None and opened is not None and now - at < _KEYS_KEPT:
            return opened  # as it was then
        if payment.money.minor == REFUSED_MINOR or payment.expires_at < now + _ENDS_AFTER:
            return Refused(detail="refused")
        session_id = f"cs_test_{uuid4().hex}"
        opened = Opened(
            session_id=session_id, payment_url=f"https://pay.example/{session_id}", expires_at=payment.expires_at
        )
        self.made[session_id] = FakeSession(opened=opened, payment=payment, stands=Open())
        self._keys[key] = now, opened
        return opened

    def _found(self, payment: Payment) -> Opened | None:
        for session_id, session in self.made.items():
            if session.payment.reference == payment.reference:
                is_open = isinstance(self.stands(session_id), Open)
                return session.opened if is_open else replace(session.opened, payment_url=None)
        return None

    def _ended(self, session_id: str | None) -> Outcome:
        if isinstance(self.stands(session_id), Open):
            self.stand(session_id or "", Expired())
        return self.stands(session_id)


class Subscriber:
    """Takes events as a broker does, and insists on their order and their bytes."""

    def __init__(self) -> None:
        self.faults: deque[str] = deque()
        self.bodies: dict[str, bytes] = {}
        self.last: Counter[int] = Counter()

    async def event(self, row: OutboxRow) -> None:
        await _dawdle()
        fault = self.faults.popleft() if self.faults else None
        if fault == "refused":
            raise UnpublishedError(fault)
        assert self.bodies.setdefault(row.event_id, row.body) == row.body, "an event came again with other bytes"
        last = self.last[row.payment_id]
        assert row.sequence in {last, last + 1}, f"event {row.sequence} of payment {row.payment_id} after {last}"
        self.last[row.payment_id] = row.sequence
        await _dawdle()
        if fault == "unconfirmed":
            raise UnpublishedError(fault)


class _Line:
    """A replica's way to something shared."""

    def __init__(self, port: Any, replica: "Replica", faults: deque[str] | None = None) -> None:
        self._port = port
        self._replica = replica
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._port, name)
        if not inspect.iscoroutinefunction(member):
            return member

        async def call(*args: Any, **named: Any) -> Any:
            self._replica.check()
            await _dawdle()
            fault = self._faults.popleft() if self._faults else None
            if fault == "refused":
                raise StoreUnavailableError
            answer = await member(*args, **named)
            await _dawdle()
            self._replica.check()
            if fault == "lost":
                raise StoreUnavailableError
            return answer

        return call


@dataclass(frozen=True, kw_only=True)
class _WatchedSteps(Steps):
    """Notes what the settler would only log, and what a shared call tells nobody once its callers have left."""

    surprises: list[Exception]

    async def settle(self, payment: Payment, *, context: CommandContext) -> Payment:
        return await self._watched(super().settle(payment, context=context))

    async def _open(self, payment: Payment, context: CommandContext, turn: Turn | None = None) -> Payment:
        return await self._watched(super()._open(payment, context, turn))

    async def _ask(self, payment: Payment, context: CommandContext) -> Asked:
        return await self._watched(super()._ask(payment, context))

    async def _watched(self, call: Coroutine[Any, Any, _Result]) -> _Result:
        try:
            return await call
        except Exception as error:
            if not isinstance(error, PaymentServiceError) or isinstance(error, IllegalTransitionError):
                self.surprises.append(error)
            raise


class _ShortNews(News):
    """Time stands still here: nobody waits by the clock on the wall."""

    async def wait(self, payment_id: int, *, seconds: float, reading: bool = False) -> Heard:  # noqa: ARG002
        return await super().wait(payment_id, seconds=0, reading=reading)


class Replica:
    """One process of the service."""

    def __init__(self, house: "House") -> None:
        self._alive = True
        self.fuse: int | None = None
        """If set, it dies after so many more crossings of its lines."""
        self.tasks: list[asyncio.Task[Any]] = []
        store = _Line(house.store_port, self, house.store_faults)
        outbox = _Line(house.outbox_port, self, house.store_faults)
        gateway, publisher = _Line(house.gateway_port, self), _Line(house.subscriber, self)
        self.steps = _WatchedSteps(
            store=store,
            gateway=gateway,
            policy=house.rules,
            clock=house.clock,
            news=_ShortNews(),
            surprises=house.surprises,
        )
        self.settler = Settler(steps=self.steps)
        # The alarm only tells a running relay when to look again; here every round is asked for.
        self.relay = Relay(outbox=outbox, publisher=publisher, clock=house.clock, alarm=None)

    @property
    def alive(self) -> bool:
        return self._alive

    def check(self) -> None:
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0 and self._alive:
                self.kill()
        if not self._alive:
            raise asyncio.CancelledError

    @property
    def flights(self) -> list[asyncio.Task[Any]]:
        return [*self.steps._openings._flights.values(), *self.steps._asks._flights.values()]

    def kill(self) -> None:
        self._alive = False
        for task in self.tasks + self.flights:
            task.cancel()


@dataclass(frozen=True, kw_only=True)
class Job:
    """Something to be done in a replica: begun after `delay` turns of the loop, and slow as `pace` says."""

    work: Callable[[Replica], Coroutine[Any, Any, None]]
    replica: int = 0
    delay: int = 0
    pace: tuple[int, ...] = (0,)


class House:
    """Two replicas on one store and one gateway, and the loop that runs them."""

    def __init__(self) -> None:
        self.clock = MovableClock()
        self.rules = policy()
        self.store = FakeStore()
        self.ledger = Ledger(self.clock)
        self.subscriber = Subscriber()
        self.store_faults: deque[str] = deque()
        self.surprises: list[Exception] = []
        self.replicas = [Replica(self), Replica(self)]
        self._loop = _ClockLoop(self.clock)
        self._checked: dict[int, Payment] = {}
        self.broken = False
        """Something did not hold: what follows from it must not hide it."""

    @property
    def store_port(self) -> Any:
        return self.store

    @property
    def outbox_port(self) -> Any:
        return self.store.outbox

    @property
    def gateway_port(self) -> Any:
        return self.ledger

    async def look(self) -> None:
        """Bring what is seen of the store up to date; a store in memory always is."""

    def close(self) -> None:
        self._loop.close()

    def advance(self, seconds: float) -> None:
        self.ledger.deliver(until=self.clock.now() + timedelta(seconds=seconds))
        self.clock.advance(seconds)

    def do(self, *jobs: Job, kill: tuple[int, int] | None = None) -> None:
        """Run the jobs to their end; with `kill`, a replica dies after so many turns of the loop."""
        try:
            self._loop.run_until_complete(self._do(jobs, kill))
        except BaseException:
            self.broken = True
            raise

    async def _do(self, jobs: tuple[Job, ...], kill: tuple[int, int] | None) -> None:
        tasks = [asyncio.create_task(self._run(job)) for job in jobs]
        for job, task in zip(jobs, tasks, strict=True):
            self.replicas[job.replica].tasks.append(task)
        cut_off: list[asyncio.Task[Any]] = []
        for turn in range(_ITERATIONS):  # never waits: what hangs is seen
            if kill is not None and turn == kill[1]:
                cut_off = self.replicas[kill[0]].flights
                self.replicas[kill[0]].kill()
                self.replicas[kill[0]] = Replica(self)
            if all(task.done() for task in tasks + cut_off) and not any(replica.flights for replica in self.replicas):
                break
            await asyncio.sleep(0)
        else:
            raise AssertionError("a handler never ends, or a flight stays in the air")
        self._raise_errors(tasks)

    def _raise_errors(self, tasks: list[asyncio.Task[Any]]) -> None:
        for replica in self.replicas:
            replica.tasks.clear()
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _run(self, job: Job) -> None:
        for _ in range(job.delay):
            await asyncio.sleep(0)
        _pace.set(cycle(job.pace))
        await job.work(self.replicas[job.replica])

    # --- what must hold after each step ---------------------------------------------------------------------------

    def check(self) -> None:
        self.broken = True  # until all was seen to hold
        if self.surprises:
            raise self.surprises[0]
        self._check_bookings()
        for payment in self.store.payments.values():
            if self._checked.get(payment.id) is not payment:
                self._check_changed(payment)
                self._checked[payment.id] = payment
        self.broken = False

    def _check_bookings(self) -> None:
        live = Counter(p.booking_id for p in self.store.payments.values() if p.status is not PaymentStatus.FAILED)
        assert max(live.values(), default=0) <= 1, "two live payments for one booking"
        payable = Counter(
            session.payment.booking_id
            for session_id, session in self.ledger.made.items()
            if isinstance(self.ledger.stands(session_id), Open | Processing | Paid)
        )
        assert max(payable.values(), default=0) <= 1, "two sessions of one booking took money or may take it"

    def _check_changed(self, payment: Payment) -> None:
        before = self._checked.get(payment.id)
        if before is not None and before.status.is_final:
            same = before.status, before.reason, before.session_id, before.content
            assert same == (payment.status, payment.reason, payment.session_id, payment.content), "final is not final"
        if before is None or before.version != payment.version:
            self._check_history(payment)
        self._check_word_of_the_gateway(payment)

    def _check_history(self, payment: Payment) -> None:
        journal = self.store._journal[payment.id]
        assert [line.version for line in journal] == list(range(payment.version + 1)), "the journal has gaps"
        rows = [each.row for each in self.store.outbox._waiting if each.row.payment_id == payment.id]
        assert [row.sequence for row in rows] == list(range(1, payment.version + 1)), "not one event for each change"
        for line, row in zip(journal[1:], rows, strict=True):
            told = PaymentEvent.model_validate_json(row.body).data
            assert (told.status, told.sequence) == (line.status, line.version), "an event tells what did not happen"
        once = Counter(line.kind for line in journal if line.kind != ChangeKind.ATTENTION)
        assert max(once.values()) == 1, "a change was made twice"
        finals = {line.status for line in journal} - {PaymentStatus.PENDING}
        assert finals <= {payment.status}, "a final status changed"

    def _check_word_of_the_gateway(self, payment: Payment) -> None:
        stands = self.ledger.stands(payment.session_id) if payment.session_id else None
        if payment.status is PaymentStatus.COMPLETED:
            fitting = Paid(money=payment.money, reference=payment.reference, livemode=payment.livemode)
            assert stands == fitting, "COMPLETED without money that fits"
        if payment.status is PaymentStatus.FAILED and payment.reason == FailureReason.EXPIRED:
            assert stands == Expired(), "FAILED, and the gateway did not say so"
        if payment.status is PaymentStatus.FAILED and payment.reason != FailureReason.EXPIRED:
            late = payment.expires_at < self.clock.now() + _ENDS_AFTER
            assert stands is None, "a refused payment has a session"
            assert late or payment.money.minor == REFUSED_MINOR, "FAILED, and the gateway did not say so"

    # --- what must hold in the end --------------------------------------------------------------------------------

    def heal(self) -> None:
        """No more faults; time passes, and the service does what it does by itself."""
        self.ledger.heal()
        self.store_faults.clear()
        self.subscriber.faults.clear()
        for _ in range(12):
            self.advance(301)
            self.do(Job(work=lambda replica: replica.settler.settle_next()))
            self.do(Job(work=lambda replica: replica.relay.flush()))
            self.check()
            if self.is_quiet:
                break

    @property
    def is_quiet(self) -> bool:
        sent = all(each.sent_at for each in self.store.outbox._waiting)
        return sent and not any(self._is_unfinished(payment) for payment in self.store.payments.values())

    def check_healed(self) -> None:
        unfinished = [payment for payment in self.store.payments.values() if self._is_unfinished(payment)]
        assert not unfinished, "a payment stays PENDING without a reason"
        told = {payment.id: payment.version for payment in self.store.payments.values() if payment.version}
        assert dict(self.subscriber.last) == told, "an event was lost"
        written = {each.row.event_id for each in self.store.outbox._waiting}
        assert set(self.subscriber.bodies) == written, "an event was told under another id"
        known = {payment.session_id for payment in self.store.payments.values() if payment.session_id}
        assert set(self.ledger.made) == known, "a session at the gateway that no payment knows"

    def _is_unfinished(self, payment: Payment) -> bool:
        if payment.status.is_final:
            return False
        return not (payment.session_id and self.is_held_up(payment))

    def is_held_up(self, payment: Payment) -> bool:
        """Money is on its way, or is there and does not fit, and a person knows."""
        stands = self.ledger.stands(payment.session_id)
        return isinstance(stands, Processing) or (isinstance(stands, Paid) and payment.attention == STOOD)
