"""What the state machine drives: replicas that can be killed, a gateway with keys and a clock, and what must hold.

A replica reaches everything shared through a `_Link`. Killing it cuts its links before its tasks are cancelled, so that
nothing of it reaches the world afterwards, as after `kill -9`.
"""

import asyncio
import copy
import inspect
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any, TypeVar
from uuid import uuid4

from contracts.events import PaymentEvent
from service.application.checkout import Checkout
from service.application.closing import Closing
from service.application.differences import Difference, DifferenceKind
from service.application.ports import CommandContext, OutboxRow, ToldPage, UnpublishedError
from service.application.status_lookup import LookupResult, StatusLookup
from service.application.waiters import WaiterRegistry, WaitResult
from service.domain.errors import IllegalTransitionError, PaymentServiceError, StoreUnavailableError
from service.domain.outcomes import Expired, Open, Opened, Outcome, Paid, Processing, Refused, Unknown, UnknownCause
from service.domain.payment import AttentionReason, FailureReason, LastOutcome, Payment, PaymentStatus
from service.domain.status import ChangeKind
from tests.kit.clock import MovableClock
from tests.kit.fake_gateway import FakeGateway, FakeSession
from tests.kit.fake_outbox import FakeOutbox
from tests.kit.fake_store import FakeStore
from tests.kit.service import SHOP, policy
from tests.kit.workers import a_relay, a_sweeper
from tests.kit.world import World

BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)
OTHER_DEFAULTS: dict[str, Any] = {"currency": "usd", "success_url": f"{SHOP}/new"}
"""Of the second replica, as in a release that stopped half-way."""
REFUSED_MINOR = 66_600
"""An amount that the gateway always refuses."""
STOOD = AttentionReason.PAID_DIFFERENTLY.value

FOR_A_PERSON = {
    DifferenceKind.PAID_THERE,
    DifferenceKind.SECOND_SESSION,
    DifferenceKind.FAILED_PAID,
    DifferenceKind.FAILED_OPEN,
    DifferenceKind.MONEY_DIFFERS,
}
"""What a reconcile that mends may leave."""

OFTEN = {ChangeKind.ATTENTION, ChangeKind.CLOSED, ChangeKind.REFUNDED, ChangeKind.DISPUTED}
"""What may happen to a payment more than once."""

_KEYS_KEPT = timedelta(hours=24)
_ENDS_AFTER = timedelta(minutes=30)
_ON_ITS_WAY = timedelta(seconds=10)
"""How long a call may still reach the gateway after its sender has given up or died."""
_ITERATIONS = 2_000

_Result = TypeVar("_Result")

_pace: ContextVar[Iterator[int]] = ContextVar("_pace", default=cycle((0,)))  # noqa: B039 - nothing to share in zeros


async def _dawdle() -> None:
    for _ in range(next(_pace.get())):
        await asyncio.sleep(0)


class _ClockLoop(asyncio.SelectorEventLoop):
    """Its time is the machine's clock, so deadlines pass when the machine advances it."""

    def __init__(self, clock: MovableClock) -> None:
        super().__init__()
        self._machine_clock = clock

    def time(self) -> float:
        return self._machine_clock.now().timestamp()


class Ledger(FakeGateway):
    """The fake gateway with what makes repeats dangerous: forgotten keys, sessions that end, and late calls."""

    def __init__(self, clock: MovableClock) -> None:
        super().__init__(clock)
        self._clock: MovableClock = clock
        self._keys: dict[str, tuple[datetime, Opened]] = {}
        self._wire: list[tuple[datetime, Callable[[], Any]]] = []
        """When each call that is on its way was sent, and what it does."""
        self.late_calls = 0
        """The next so many calls time out and are executed later, if ever."""

    async def open(self, payment: Payment, **_: Any) -> Outcome:
        return await self._send(lambda: self._made(payment.reference, payment))

    async def find(self, payment: Payment, **_: Any) -> Opened | Unknown | None:
        return await self._send(lambda: self._found(payment))

    async def look_up(self, payment: Payment, **_: Any) -> Outcome:
        return await self._send(lambda: self.stands(payment.session_id))

    async def expire(self, payment: Payment, **_: Any) -> Outcome:
        return await self._send(lambda: self._ended(payment.session_id))

    def stands(self, session_id: str | None) -> Outcome:
        session = self.made[session_id or ""]
        if isinstance(session.stands, Open) and session.opened.expires_at <= self._clock.now():
            self.stand(session_id or "", Expired())
        return session.stands

    async def told_sessions(self, **asked: Any) -> ToldPage | Unknown:
        for session_id in self.made:
            self.stands(session_id)  # what is over is so
        return await super().told_sessions(**asked)

    def deliver(self, *, until: datetime | None = None) -> None:
        """Execute the calls whose sender is gone; with `until`, those that cannot be on their way for so long."""
        for sent_at, work in list(self._wire):
            if until is None or until - sent_at > _ON_ITS_WAY:
                self._wire.remove((sent_at, work))
                work()

    def lose_calls(self) -> None:
        self._wire.clear()

    def heal(self) -> None:
        self.fault, self.lost_answers, self.late_calls = None, 0, 0
        self.deliver()

    async def _send(self, work: Callable[[], Any]) -> Any:
        call = self._clock.now(), work
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
            return opened  # the answer of that time
        if payment.money.minor == REFUSED_MINOR:
            return Refused(detail="refused")
        if payment.expires_at < now + _ENDS_AFTER:
            return Unknown(cause=UnknownCause.LAPSED)
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
    """Receives events as a broker does, and checks their order and their bytes."""

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

    def forget(self, outbox: FakeOutbox) -> None:
        """The record is put back to a copy: what it has not written was never said."""
        written = {each.row.event_id for each in outbox._waiting}
        self.bodies = {name: body for name, body in self.bodies.items() if name in written}
        self.last = Counter()
        for each in outbox._waiting:
            if each.sent_at is not None:
                self.last[each.row.payment_id] = max(self.last[each.row.payment_id], each.row.sequence)


class _Link:
    """A replica's access to something shared."""

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


class _WatchedCheckout(Checkout):
    """Notes what the sweeper would only log, and what a shared call reports to nobody once its callers have left."""

    surprises: list[Exception]

    async def finish(self, payment: Payment, *, context: CommandContext) -> Payment:
        return await _watched(super().finish(payment, context=context), self.surprises)

    async def _open(self, payment: Payment, context: CommandContext, *, wanted: bool) -> Payment:
        return await _watched(super()._open(payment, context, wanted=wanted), self.surprises)


class _WatchedLookup(StatusLookup):
    surprises: list[Exception]

    async def _look_up(self, payment: Payment, context: CommandContext) -> LookupResult:
        return await _watched(super()._look_up(payment, context), self.surprises)


async def _watched(call: Coroutine[Any, Any, _Result], surprises: list[Exception]) -> _Result:
    try:
        return await call
    except Exception as error:
        if not isinstance(error, PaymentServiceError) or isinstance(error, IllegalTransitionError):
            surprises.append(error)
        raise


class _WatchedWorld(World):
    checkout_type, lookup_type = _WatchedCheckout, _WatchedLookup


class _ShortWaits(WaiterRegistry):
    """Time stands still here: nobody waits by the clock on the wall."""

    async def wait(self, payment_id: int, *, seconds: float, read: bool = False) -> WaitResult:  # noqa: ARG002
        return await super().wait(payment_id, seconds=0, read=read)


class Replica:
    """One process of the service."""

    def __init__(self, house: "House", number: int) -> None:
        self.alive = True
        self.number = number
        self.fuse: int | None = None
        """If set, the replica dies after so many more crossings of its links."""
        self.tasks: list[asyncio.Task[Any]] = []
        store = _Link(house.store_port, self, house.store_faults)
        outbox = _Link(house.outbox_port, self, house.store_faults)
        gateway, publisher = _Link(house.ledger, self), _Link(house.subscriber, self)
        self.world = _WatchedWorld(
            store=store, gateway=gateway, policy=house.rules[number], clock=house.clock, waiters=_ShortWaits()
        )
        for part in (self.world.checkout, self.world.status_lookup):
            part.surprises = house.surprises
        self.sweeper = a_sweeper(self.world)
        self.relay = a_relay(outbox, publisher, house.clock)
        parts = self.world.parts("store", "gateway", "outcomes", "clock")
        self.closing = Closing(**parts, timeout_seconds=house.rules[number].gateway_timeout_seconds)

    async def reconcile(self, *, fix: bool) -> list[Difference]:
        """All of time."""
        now = self.world.clock.now()
        stretches = self.world.reconciliation.run(since=BEGINNING, until=now + timedelta(seconds=1), fix=fix)
        return [each async for stretch in stretches for each in stretch.differences]

    def check(self) -> None:
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0 and self.alive:
                self.kill()
        if not self.alive:
            raise asyncio.CancelledError

    @property
    def flights(self) -> list[asyncio.Task[Any]]:
        return [*self.world.checkout.openings._flights.values(), *self.world.status_lookup.lookups._flights.values()]

    def kill(self) -> None:
        self.alive = False
        for task in self.tasks + self.flights:
            task.cancel()


@dataclass(frozen=True)
class Job:
    """Work in a replica: begun after `delay` iterations of the loop, and as slow as `pace` says."""

    work: Callable[[Replica], Coroutine[Any, Any, None]]
    replica: int = 0
    delay: int = 0
    pace: tuple[int, ...] = (0,)


class House:
    """Two replicas on one store and one gateway, and the loop that runs them."""

    def __init__(self, *, store: Any = None, outbox: Any = None, gateway: Any = None, **rules: Any) -> None:
        """By default on fakes. `store` and `ledger` are what is looked at, the ports what the replicas use."""
        self.clock = MovableClock()
        self.rules = [policy(**rules), policy(**OTHER_DEFAULTS | rules)]
        self.store = FakeStore()
        self.ledger: Any = gateway or Ledger(self.clock)
        self.store_port, self.outbox_port = store or self.store, outbox or self.store.outbox
        self.subscriber = Subscriber()
        self.store_faults: deque[str] = deque()
        self.surprises: list[Exception] = []
        self.replicas = [Replica(self, 0), Replica(self, 1)]
        self._loop = _ClockLoop(self.clock)
        self._checked: dict[int, Payment] = {}
        self.refunded: Counter[str] = Counter()
        """What was given back at the gateway, by session."""
        self.was_put_back = False
        """Then a session that ended unpaid may be unknown, if its booking has another payment."""
        self.said_unpaid: set[str] = set()
        """Sessions of which somebody was told that nothing was charged."""
        self.broken = False
        """Whether something did not hold: what follows from it must not hide it."""

    async def look(self) -> None:
        """Refresh `store`; a store in memory is always fresh."""

    def close(self) -> None:
        self._loop.close()

    def advance(self, seconds: float) -> None:
        self.ledger.deliver(until=self.clock.now() + timedelta(seconds=seconds))
        self.clock.advance(seconds)

    def do(self, *jobs: Job, kill: tuple[int, int] | None = None) -> None:
        """Run the jobs to their end; with `kill`, a replica dies after so many iterations of the loop."""
        try:
            self._loop.run_until_complete(self._do(jobs, kill))
        except BaseException:
            self.broken = True
            raise

    async def _do(self, jobs: tuple[Job, ...], kill: tuple[int, int] | None) -> None:
        tasks = self._start(jobs)
        cut_off: list[asyncio.Task[Any]] = []
        for iteration in range(_ITERATIONS):  # it never waits, so that a hang is seen
            if kill is not None and iteration == kill[1]:
                cut_off = self.replicas[kill[0]].flights
                self.replicas[kill[0]].kill()
                self.replicas[kill[0]] = Replica(self, kill[0])
            if all(task.done() for task in tasks + cut_off) and not any(replica.flights for replica in self.replicas):
                break
            await asyncio.sleep(0)
        else:
            raise AssertionError("a handler never ends, or a flight stays in the air")
        self._raise_errors(tasks)

    def _start(self, jobs: tuple[Job, ...]) -> list[asyncio.Task[Any]]:
        tasks = [asyncio.create_task(self._run(job)) for job in jobs]
        for job, task in zip(jobs, tasks, strict=True):
            self.replicas[job.replica].tasks.append(task)
        return tasks

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

    # --- an older copy of the record ------------------------------------------------------------------------------

    def copy(self) -> dict[str, Any]:
        """The record as it is now."""
        members = {name: copy.copy(value) for name, value in vars(self.store).items() if name.startswith(("_", "pay"))}
        members["_journal"] = {payment: list(lines) for payment, lines in self.store._journal.items()}
        del members["_ids"]  # of which no copy gives one out again
        return members | {"waiting": [copy.copy(each) for each in self.store.outbox._waiting]}

    def put_back(self, members: dict[str, Any]) -> None:
        """The copy takes over once nothing is on its way to the gateway, and reconcile runs before all else."""
        self.was_put_back = True
        for replica in self.replicas:
            replica.kill()
        self.ledger.heal()
        self.store_faults.clear()
        vars(self.store).update(copy.deepcopy({name: members[name] for name in members if name != "waiting"}))
        self.store.outbox._waiting = [copy.copy(each) for each in members["waiting"]]
        self.subscriber.forget(self.store.outbox)
        self._checked.clear()
        self.replicas = [Replica(self, 0), Replica(self, 1)]
        self.do(Job(work=_reconciling))

    # --- what must hold after each step ---------------------------------------------------------------------------

    def check(self) -> None:
        self.broken = True  # until everything was checked
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
        closed = {p.session_id for p in self.store.payments.values() if p.reason == FailureReason.CLOSED}
        payable = Counter(
            session.payment.booking_id
            for session_id, session in self.ledger.made.items()
            if isinstance(self.ledger.stands(session_id), Open | Processing | Paid) and session_id not in closed
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
        journal = [line for line in journal if line.kind != ChangeKind.RENEWED]
        assert [line.version for line in journal] == list(range(payment.version + 1)), "the journal has gaps"
        rows = [each.row for each in self.store.outbox._waiting if each.row.payment_id == payment.id]
        assert [row.sequence for row in rows] == list(range(1, payment.version + 1)), "not one event for each change"
        for line, row in zip(journal[1:], rows, strict=True):
            event = PaymentEvent.model_validate_json(row.body).data
            assert (event.status, event.sequence) == (line.status, line.version), "an event of what did not happen"
        once = Counter(line.kind for line in journal if line.kind not in OFTEN)
        assert max(once.values()) == 1, "a change was made twice"
        finals = {line.status for line in journal} - {PaymentStatus.PENDING}
        assert finals <= {payment.status}, "a final status changed"

    def _check_word_of_the_gateway(self, payment: Payment) -> None:
        stands = self.ledger.stands(payment.session_id) if payment.session_id else None
        if payment.status is PaymentStatus.COMPLETED:
            fitting = Paid(money=payment.money, reference=payment.reference, livemode=payment.livemode)
            assert stands == fitting, "COMPLETED without money that fits"
        elif payment.reason == FailureReason.CLOSED:
            disowned = payment.last_outcome == LastOutcome.NO_SESSION
            assert disowned or not isinstance(stands, Open), "closed, and it can be paid"
            over = stands in {None, Expired()} or disowned
            assert over or payment.attention, "closed, and nobody had looked at the money"
        elif payment.status is PaymentStatus.FAILED and payment.reason != FailureReason.REFUSED:
            late = payment.expires_at < self.clock.now() + _ENDS_AFTER
            made = {each.payment.reference for each in self.ledger.made.values()}
            never_made = late and payment.reference not in made
            assert stands == Expired() or (stands is None and never_made), "FAILED, and the gateway did not say so"
        elif payment.status is PaymentStatus.FAILED:
            assert stands is None, "a refused payment has a session"
            assert payment.money.minor == REFUSED_MINOR, "FAILED, and the gateway did not say so"

    # --- what must hold in the end --------------------------------------------------------------------------------

    def heal(self) -> None:
        """End all faults, and let time pass while the sweeper and the relay work, after a reconcile."""
        self.ledger.heal()
        self.store_faults.clear()
        self.subscriber.faults.clear()
        self.do(Job(work=_reconciling))
        for _ in range(20):  # what needs a person is looked at once an hour
            self.advance(301)
            self.do(Job(work=lambda replica: replica.sweeper.sweep_next()))
            self.do(Job(work=lambda replica: replica.relay.flush()))
            self.check()
            if self.is_quiet:
                break
        self.do(Job(work=_reconciling))  # as every hour
        self.do(Job(work=lambda replica: replica.relay.flush()))
        self.check()

    @property
    def is_quiet(self) -> bool:
        sent = all(each.sent_at for each in self.store.outbox._waiting)
        return sent and not any(self._is_unfinished(payment) for payment in self.store.payments.values())

    def check_healed(self) -> None:
        unfinished = [payment for payment in self.store.payments.values() if self._is_unfinished(payment)]
        assert not unfinished, "a payment stays PENDING without a reason"
        versions = {payment.id: payment.version for payment in self.store.payments.values() if payment.version}
        assert dict(self.subscriber.last) == versions, "an event was lost"
        written = {each.row.event_id for each in self.store.outbox._waiting}
        assert set(self.subscriber.bodies) == written, "an event was published under another id"
        known = {payment.session_id for payment in self.store.payments.values() if payment.session_id}
        strange = set(self.ledger.made) - self._harmless() - known - self._told()
        stand = {each: self.ledger.stands(each) for each in strange}
        assert not strange, f"a session at the gateway that no payment knows: {stand}"
        self._check_money()

    def _harmless(self) -> set[str]:
        """Sessions that a record which was put back need not know: they took no money and never will.

        While their booking had another live payment nothing was made of them; when that has failed, too, a reconcile
        makes payments of them, if they are not older than what it looks at.
        """
        return {each for each in self.ledger.made if self.was_put_back and self.ledger.stands(each) == Expired()}

    def _told(self) -> set[str]:
        """Sessions that a person was told of, because they cannot become a payment of their own."""
        lines = [line for journal in self.store._journal.values() for line in journal]
        return {line.detail.get("session", "") for line in lines if line.kind == ChangeKind.ATTENTION}

    def _check_money(self) -> None:
        rows = {payment.session_id: payment for payment in self.store.payments.values()}
        paid = {each for each in self.ledger.made if isinstance(self.ledger.stands(each), Paid)}
        for session_id in paid - self._told():
            row = rows[session_id]
            assert row.status is PaymentStatus.COMPLETED or row.attention, "paid, and no person was called"
        assert not self.said_unpaid & paid, "somebody was told that nothing was charged"
        for session_id, minor in self.refunded.items():
            assert session_id not in rows or rows[session_id].refunded_minor == minor, "a refund that nobody heard of"
        differences: list[Difference] = []

        async def reconciling(replica: Replica) -> None:
            differences.extend(await replica.reconcile(fix=False))

        self.do(Job(work=reconciling))
        harmless = self._harmless()
        unsettled = [
            each
            for each in differences
            if each.payment is not None or each.session is None or each.session.session_id not in harmless
            if not _is_known_to_a_person(each)
        ]
        assert not unsettled, f"reconcile tells something: {unsettled}"

    def _is_unfinished(self, payment: Payment) -> bool:
        return not payment.status.is_final and not (payment.session_id and self.is_held_up(payment))

    def is_held_up(self, payment: Payment) -> bool:
        """Whether money is on its way, or has come and does not fit, and a person was called."""
        stands = self.ledger.stands(payment.session_id)
        return isinstance(stands, Processing) or (isinstance(stands, Paid) and payment.attention == STOOD)


async def _reconciling(replica: Replica) -> None:
    await replica.reconcile(fix=True)
    await replica.world.after_paid.read(None, now=replica.world.clock.now() + timedelta(seconds=1))


def _is_known_to_a_person(found: Difference) -> bool:
    """Whether it is one of money that only a person can decide about, who was called, or who closed the payment.

    Closed when Stripe said that there is no such session: it is right to tell that there is one.
    """
    if found.payment is None or found.kind not in FOR_A_PERSON:
        return False
    disowned = found.payment.last_outcome == LastOutcome.NO_SESSION
    return bool(found.payment.attention) or (found.payment.reason == FailureReason.CLOSED and disowned)
