"""Whatever happens in whatever order: nobody pays twice, nothing is lost, and no answer is taken back.

Hypothesis draws the callers, payers, faults, crashes and the clock; `machine` says what must hold.
"""

import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from contracts.replies import CheckoutSession
from service.application.closing import CloseRefusedError
from service.application.event_reader import UnreadError
from service.application.ports import CommandContext
from service.domain import errors
from service.domain.errors import PaymentServiceError, StoreUnavailableError
from service.domain.outcomes import Expired, Open, Outcome, Paid, Processing, UnknownCause
from service.domain.payment import PaymentStatus
from tests.kit.service import context, create
from tests.unit.service.application.machine import House, Job, Replica

HISTORIES = settings(
    derandomize=True, deadline=None, database=None, stateful_step_count=50, suppress_health_check=list(HealthCheck)
)
_REUSED = (errors.IdempotencyKeyReusedError, errors.MessageIdReusedError)
_DECIDED = (errors.AlreadyPaidError, errors.PaymentFailedError)
_UNDECIDED = (errors.OutcomeUnknownError, errors.GatewayFailedError, errors.GatewayBusyError, StoreUnavailableError)
_IN_PROGRESS = (errors.CreateInProgressError, errors.ConcurrentChangeError)  # one code for callers: come again
_REFUSALS = (*_REUSED, *_DECIDED, *_UNDECIDED, *_IN_PROGRESS, errors.NeedsAttentionError)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A create as its sender stores it. An empty message id stands for a new one."""

    booking: int
    user: int
    amount: str
    caller: str
    key: str | None
    patient: bool
    message_id: str = ""

    @property
    def content(self) -> tuple[int, int, str]:
        return self.booking, self.user, self.amount

    @property
    def names(self) -> list[tuple[str, ...]]:
        """What the service must recognise it by."""
        return [(self.message_id,), *([(self.caller, self.key)] if self.key else [])]


HOWS = st.sampled_from(["redelivered", "same key", "no key", "other amount"])
AMOUNTS = st.sampled_from(["449.97", "449.97", "449.97", "500.00", "500.00", "666.00"])
REPLICAS = st.integers(0, 1)
PACES = st.lists(st.sampled_from([0, 0, 1, 2, 5]), min_size=1, max_size=4).map(tuple)
WHICH = st.integers(0, 3)
"""Which session, counted from the newest."""
CREATES = st.builds(
    Sent,
    booking=st.sampled_from([1, 1, 2]),
    user=st.integers(1, 2),
    amount=AMOUNTS,
    caller=st.sampled_from(["booking-service", "kiosk"]),
    key=st.sampled_from([None, "key-1", "key-2"]),
    patient=st.booleans(),
)


class AnythingMayHappen(RuleBasedStateMachine):
    sent = Bundle("sent")
    has_copies = True
    """Whether its record can be put back to an older copy."""

    def __init__(self) -> None:
        super().__init__()
        self.copy: dict[str, Any] = {}
        self.house = self.a_house()
        self.messages = 0
        self.contents: dict[tuple[str, ...], set[tuple[int, int, str]]] = {}
        self.promised: dict[tuple[str, ...], str] = {}

    def a_house(self) -> House:
        return House()

    # --- callers --------------------------------------------------------------------------------------------------

    @initialize(target=sent, command=CREATES)
    def first_create(self, command: Sent) -> Sent:
        """Most runs begin with a session, because nothing is broken yet: without one hardly anything can happen."""
        return self.create(command, 0)

    @rule(target=sent, command=CREATES, replica=REPLICAS)
    def create(self, command: Sent, replica: int) -> Sent:
        command = self._posted(command)
        self.house.do(Job(self._creating(command), replica))
        return command

    @rule(command=sent, how=HOWS, replica=REPLICAS)
    def repeat(self, command: Sent, how: str, replica: int) -> None:
        self.house.do(Job(self._creating(self._repeated(command, how)), replica))

    @precondition(lambda self: self.house.ledger.made)
    @rule(which=WHICH, replica=REPLICAS)
    def verify(self, which: int, replica: int) -> None:
        self.house.do(Job(self._verifying(which), replica))

    @precondition(lambda self: self.house.ledger.made)
    @rule(which=WHICH)
    def status(self, which: int) -> None:
        self.house.do(Job(self._verifying(which, status_only=True), 0))

    # --- payers and the gateway -----------------------------------------------------------------------------------

    @precondition(lambda self: self.house.ledger.made)
    @rule(which=WHICH)
    def pay(self, which: int) -> None:
        self._pay(which, "fitting")

    @precondition(lambda self: self.house.ledger.made)
    @rule(which=WHICH, how=st.sampled_from(["differently", "slowly", "declined"]))
    def pay_otherwise(self, which: int, how: str) -> None:
        self._pay(which, how)

    @precondition(lambda self: self.house.ledger.made)
    @rule(which=WHICH, arrives=st.booleans())
    def slow_money_arrives_or_not(self, which: int, arrives: bool) -> None:  # noqa: FBT001
        session_id = self._session(which)
        if isinstance(self.house.ledger.stands(session_id), Processing):
            self.house.ledger.stand(session_id, self._money(session_id) if arrives else Expired())

    @rule(fault=st.sampled_from([None] * 6 + sorted(set(UnknownCause) - {UnknownCause.LAPSED, UnknownCause.KEPT})))
    def the_gateway_fails_or_recovers(self, fault: UnknownCause | None) -> None:
        self.house.ledger.fault = fault

    @rule(calls=st.integers(1, 3), late=st.booleans())
    def answers_get_lost(self, calls: int, late: bool) -> None:  # noqa: FBT001
        if late:
            self.house.ledger.late_calls = calls
        else:
            self.house.ledger.lost_answers = calls

    @rule(arrive=st.booleans())
    def calls_on_their_way_arrive_or_not(self, arrive: bool) -> None:  # noqa: FBT001
        if arrive:
            self.house.ledger.deliver()
        else:
            self.house.ledger.lose_calls()

    # --- in the hours that nobody plans for -----------------------------------------------------------------------

    @precondition(lambda self: self.house.ledger.made)
    @rule(which=WHICH, replica=REPLICAS)
    def an_operator_closes(self, which: int, replica: int) -> None:
        self.house.do(Job(self._closing(which), replica))

    @precondition(lambda self: self.house.ledger.made)
    @rule(which=WHICH, part=st.booleans())
    def money_is_given_back(self, which: int, part: bool) -> None:  # noqa: FBT001
        self._refund(which, part=part)

    @precondition(lambda self: self.house.ledger.fault is None and self.has_copies)
    @rule(replica=REPLICAS)
    def reconcile(self, replica: int) -> None:
        self.house.do(Job(self._reconciling, replica))

    @precondition(lambda self: self.has_copies)
    @rule()
    def the_record_is_copied(self) -> None:
        self.copy = self.house.copy()

    @precondition(lambda self: self.copy)
    @rule()
    def the_record_is_put_back(self) -> None:
        self.house.put_back(self.copy)
        self.copy = {}
        self.promised.clear()  # which key belongs to what is lost with the rest

    # --- the service by itself ------------------------------------------------------------------------------------

    @rule(replica=REPLICAS)
    def sweep(self, replica: int) -> None:
        self.house.do(Job(self._sweeping, replica))

    @rule(replica=REPLICAS, faults=st.lists(st.sampled_from(["refused", "unconfirmed", ""]), max_size=3))
    def relay(self, replica: int, faults: list[str]) -> None:
        self.house.subscriber.faults.extend(faults)
        self.house.do(Job(self._relaying, replica))

    @rule(faults=st.lists(st.sampled_from(["", "refused", "lost"]), min_size=1, max_size=4))
    def the_database_fails(self, faults: list[str]) -> None:
        self.house.store_faults.extend(faults)

    @rule(seconds=st.sampled_from([20, 1, 20, 1, 225, 300, 1200, 25 * 3600]))
    def time_passes(self, seconds: int) -> None:
        self.house.advance(seconds)

    @rule(
        jobs=st.lists(
            st.tuples(
                st.one_of(
                    st.tuples(st.just("create"), st.one_of(sent, CREATES)),
                    st.tuples(st.sampled_from(["verify", "pay"]), WHICH),
                    st.tuples(st.sampled_from(["sweep", "relay", "a second"]), st.none()),
                ),
                REPLICAS,
                st.integers(0, 8),
                PACES,
            ),
            min_size=1,
            max_size=3,
        ),
        killed=st.one_of(st.none(), st.tuples(REPLICAS, st.integers(0, 30))),
    )
    def several_at_once(self, jobs: list[Any], killed: tuple[int, int] | None) -> None:
        """Handlers in one or two replicas, interleaved; perhaps one replica is killed meanwhile."""
        works = [Job(self._work(*what), *rest) for what, *rest in jobs]
        self.house.do(*works, kill=killed)

    @rule(command=sent, how=HOWS, replica=REPLICAS, moment=st.integers(0, 30), pace=PACES)
    def crash(self, command: Sent, how: str, replica: int, moment: int, pace: tuple[int, ...]) -> None:
        """The replica that has the command is killed; its sender may repeat it or not."""
        work = self._creating(self._repeated(command, how))
        self.house.do(Job(work, replica, 0, pace), kill=(replica, moment))

    @rule(command=sent, how=HOWS, rival=st.sampled_from(["a copy", "verify", "sweep", "pay"]), pace=PACES)
    def two_replicas_race(self, command: Sent, how: str, rival: str, pace: tuple[int, ...]) -> None:
        """For one booking, where a stale change must be noticed."""
        first = self._creating(command := self._repeated(command, how))
        second = self._creating(command) if rival == "a copy" else self._work(rival, 0)
        self.house.do(Job(first, 0), Job(second, 1, 0, pace))

    # --- what must hold -------------------------------------------------------------------------------------------

    @invariant()
    def all_is_well(self) -> None:
        self.house.check()

    def teardown(self) -> None:
        try:
            if self.house.broken:
                return
            self.house.heal()
            self.house.check_healed()
            for booking in {payment.booking_id for payment in list(self.house.store.payments.values())}:
                self._check_that_the_booking_can_be_paid(booking)
            for which in range(len(self.house.ledger.made)):
                self.house.do(Job(self._verifying(which), 0))
            self.house.check()
        finally:
            self.house.close()

    def _check_that_the_booking_can_be_paid(self, booking: int) -> None:
        wish = Sent(booking=booking, user=1, amount="700.00", caller="", key=None, patient=True)
        self.house.do(Job(self._creating(self._posted(wish)), 0))
        self.house.check()
        live = [p for p in self.house.store.payments.values() if p.booking_id == booking and p.status != "FAILED"]
        if any(p.needs_person for p in self.house.store.payments.values() if p.booking_id == booking) and not live:
            return  # money came for what had failed: first a person decides
        (payment,) = live
        payable = isinstance(self.house.ledger.stands(payment.session_id), Open)
        assert payable or payment.status is PaymentStatus.COMPLETED or self.house.is_held_up(payment)

    # --- how it is done, and what answers must be -----------------------------------------------------------------

    def _work(self, name: str, detail: Any) -> Callable[[Replica], Coroutine[Any, Any, None]]:
        match name:
            case "create":
                return self._creating(detail if detail.message_id else self._posted(detail))
            case "verify":
                return self._verifying(detail)
            case "sweep":
                return self._sweeping
            case "relay":
                return self._relaying

        async def at_a_moment(_: Replica) -> None:
            if name == "pay":
                self._pay(detail, "fitting")
            else:
                self.house.advance(1)

        return at_a_moment

    def _posted(self, command: Sent) -> Sent:
        self.messages += 1
        return replace(command, message_id=f"message-{self.messages}")

    def _repeated(self, command: Sent, how: str) -> Sent:
        match how:
            case "redelivered":
                return command
            case "same key":
                return self._posted(command)
            case "no key":
                return self._posted(replace(command, key=None))
        other = "500.00" if command.amount == "449.97" else "449.97"
        return self._posted(replace(command, amount=other))

    def _context(self, *, patient: bool, **members: Any) -> CommandContext:
        deadline = None if patient else self.house.clock.now() + timedelta(seconds=1)
        return context(deadline=deadline, **members)

    def _creating(self, command: Sent) -> Callable[[Replica], Coroutine[Any, Any, None]]:
        async def work(replica: Replica) -> None:
            for name in command.names:
                self.contents.setdefault(name, set()).add(command.content)
            finals = self._finals()
            content = create(bookingId=command.booking, userId=command.user, amount=command.amount)
            sent = self._context(
                patient=command.patient,
                message_id=command.message_id,
                caller=command.caller,
                idempotency_key=command.key,
            )
            try:
                answer = await replica.world.create(content, sent)
            except _REFUSALS as error:
                await self.house.look()
                self._check_refusal(command, error)
            else:
                await self.house.look()
                self._check_session(command, answer, finals)

        return work

    def _check_refusal(self, command: Sent, error: PaymentServiceError) -> None:
        if isinstance(error, _REUSED):
            assert any(len(self.contents[name]) > 1 for name in command.names), "refused as another's key, and is not"
        if isinstance(error, errors.NeedsAttentionError):
            payment = self.house.store.payments[error.payment.id if error.payment else 0]
            assert (payment.booking_id, payment.needs_person) == (command.booking, True), "nobody needs to look at it"
        if isinstance(error, _DECIDED):
            payment = self.house.store.payments[error.payment.id if error.payment else 0]
            paid = isinstance(error, errors.AlreadyPaidError)
            assert payment.booking_id == command.booking
            assert payment.status is (PaymentStatus.COMPLETED if paid else PaymentStatus.FAILED), "a false refusal"

    def _check_session(self, command: Sent, answer: CheckoutSession, finals: set[str]) -> None:
        assert answer.session_id not in finals, "a session that had ended was offered"
        (payment,) = [p for p in self.house.store.payments.values() if p.session_id == answer.session_id]
        about = payment.booking_id, payment.user_id, payment.money.major
        assert about == (command.booking, command.user, Decimal(command.amount)), "a session for something else"
        assert (answer.booking_id, Decimal(str(answer.amount))) == (about[0], about[2])
        for name in command.names:
            promised = self.promised.setdefault(name, answer.session_id)
            assert promised == answer.session_id, "a repeat got another session"

    def _verifying(self, which: int, *, status_only: bool = False) -> Callable[[Replica], Coroutine[Any, Any, None]]:
        async def work(replica: Replica) -> None:
            session_id, finals = self._session(which), self._finals()
            await self.house.look()
            known = any(p.session_id == session_id for p in self.house.store.payments.values())
            try:
                if status_only:
                    answer, _ = await replica.world.status(session_id)
                else:
                    answer, _ = await replica.world.verify(session_id, self._context(patient=True))
            except errors.PaymentNotFoundError:
                assert not known
            except StoreUnavailableError:
                pass
            else:
                await self.house.look()
                if "Nothing was charged" in answer.message:
                    self.house.said_unpaid.add(session_id)
                payment = self.house.store.payments[answer.payment_id]
                if answer.payment_status != "PENDING" or answer.transaction_id in finals:
                    assert answer.payment_status == payment.status.value, "an answer that was, or will be, taken back"

        return work

    def _closing(self, which: int) -> Callable[[Replica], Coroutine[Any, Any, None]]:
        async def work(replica: Replica) -> None:
            with suppress(StoreUnavailableError, CloseRefusedError, errors.ConcurrentChangeError):
                payment = await replica.world.store.payment_of_session(self._session(which))
                if payment is not None:
                    await replica.closing.close(payment, by="an operator", why="a test", context=context())

        return work

    def _refund(self, which: int, *, part: bool) -> None:
        session_id = self._session(which)
        stands = self.house.ledger.stands(session_id)
        if not self.has_copies or not isinstance(stands, Paid):
            return
        known = self.house.refunded[session_id]
        total = min(known + 100, stands.money.minor) if part else stands.money.minor
        if total > known:
            self.house.refunded[session_id] = total
            self.house.ledger.refund(session_id, total)

    async def _reconciling(self, replica: Replica) -> None:
        with suppress(StoreUnavailableError, UnreadError):
            await replica.reconcile(fix=True)

    async def _sweeping(self, replica: Replica) -> None:
        with suppress(StoreUnavailableError):
            await replica.sweeper.sweep_next()

    async def _relaying(self, replica: Replica) -> None:
        with suppress(StoreUnavailableError):
            await replica.relay.flush()

    def _finals(self) -> set[str]:
        return {p.session_id or "" for p in self.house.store.payments.values() if p.status.is_final}

    def _session(self, which: int) -> str:
        sessions = list(self.house.ledger.made)
        return sessions[-1 - which % len(sessions)] if sessions else "cs_test_none"

    def _money(self, session_id: str, **differently: Any) -> Paid:
        payment = self.house.ledger.made[session_id].payment
        return replace(Paid(money=payment.money, reference=payment.reference, livemode=False), **differently)

    def _pay(self, which: int, how: str) -> None:
        session_id = self._session(which)
        if how == "declined" or session_id not in self.house.ledger.made:
            return  # a declined card leaves the session as it is
        outcome: Outcome = self._money(session_id)
        if how == "slowly":
            outcome = Processing()
        if how == "differently":
            outcome = self._money(session_id, reference="another payment's")
        if isinstance(self.house.ledger.stands(session_id), Open):
            self.house.ledger.stand(session_id, outcome)


@pytest.fixture
def _in_silence() -> Iterator[None]:
    """Without the hundreds of thousands of log lines that pytest would keep."""
    logger = logging.getLogger("service")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(level)


@pytest.mark.timeout(1800)  # what it finds it makes smaller first, which takes minutes
@pytest.mark.usefixtures("_in_silence")
def test_whatever_happens_nobody_pays_twice_and_nothing_is_lost(pytestconfig: pytest.Config) -> None:
    histories = pytestconfig.getoption("--histories")
    run_state_machine_as_test(AnythingMayHappen, settings=settings(HISTORIES, max_examples=histories))
