"""Every mutant: each takes one safety away, as somebody might by mistake."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Update, insert, update
from sqlalchemy.dialects.postgresql import Insert

from service.adapters.postgres import PostgresStore, batch_statements, outbox_store, statements, tables
from service.adapters.stripe.calls import Calls
from service.application import outcome_writer, sentences
from service.application.after_paid import AfterPaid
from service.application.checkout import Checkout
from service.application.ports import OutboxRow, UnpublishedError
from service.application.told_session import Told, ToldResult, ToldSessions
from service.domain import status
from service.domain.errors import ConcurrentChangeError
from service.domain.money import Money
from service.domain.outcomes import Expired, Outcome, Paid, Refused, Unknown
from service.domain.payment import FailureReason, Payment
from service.domain.status import Change
from service.entrypoints.middleware import _COMMAND_OF_QUEUE, CommandMiddleware
from service.entrypoints.publisher import Publisher
from tests.mutants import scenarios
from tests.mutants.shop import Shop

Patch = Callable[[pytest.MonkeyPatch], None]


def _nothing(_: pytest.MonkeyPatch) -> None:
    """Break the database alone."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """`sql` changes the test's own database, `patch` the code; exactly the invariants in `red` are violated then."""

    scenario: Callable[[Shop], Awaitable[None]]
    red: set[str]
    sql: str = ""
    patch: Patch = _nothing


# --- the record -------------------------------------------------------------------------------------------------------


class _InsertAnyway(Insert):
    inherit_cache = True

    def on_conflict_do_nothing(self, *_: Any, **__: Any) -> "_InsertAnyway":  # type: ignore[override]
        return self


def insert_anyway(patch: pytest.MonkeyPatch) -> None:
    """PostgreSQL refuses ON CONFLICT without the index that decides, so whoever drops the index drops that too."""
    patch.setattr(batch_statements, "upsert", _InsertAnyway)
    patch.setattr(batch_statements, "BEGIN", batch_statements._begin())


def _apart(*order: str) -> Patch:
    """A change in three transactions instead of one, in this order."""

    async def record(self: PostgresStore, change: Change, *, context: Any) -> Payment:
        payment = change.payment
        extra = outbox_store.parameters(change, context=context)
        line = {"kind": change.kind.value, "status": payment.status.value, "detail": change.detail}
        is_expected = tables.payments.c.id == payment.id, tables.payments.c.version == payment.version - 1
        changed = update(tables.payments).where(*is_expected).returning(tables.payments.c.id)
        journaled = insert(tables.journal).returning(tables.journal.c.id)
        written = insert(tables.outbox).returning(tables.outbox.c.id)
        writes: dict[str, Any] = {
            "payment": changed.values({name: getattr(payment, name) for name in statements.CHANGING}),
            "journal": journaled.values(
                payment_id=payment.id,
                version=payment.version,
                request_id=context.request_id,
                at=payment.updated_at,
                **line,
            ),
            "event": written.values(
                payment_id=payment.id,
                sequence=payment.version,
                created_at=payment.updated_at,
                **{name.removeprefix("outbox_"): value for name, value in extra.items()},
            ),
        }
        for name in order:
            if not await self._database.run(writes[name], {}):
                raise ConcurrentChangeError(payment=payment.ref)
        return payment

    return lambda patch: patch.setattr(PostgresStore, "record", record)


def versions_are_not_compared(patch: pytest.MonkeyPatch) -> None:
    original = PostgresStore.record

    async def record(self: PostgresStore, change: Change, *, context: Any) -> Payment:
        while True:
            current = await self.payment(change.payment.id)
            assert current is not None
            forced = replace(change, payment=replace(change.payment, version=current.version + 1))
            with suppress(ConcurrentChangeError):
                return await original(self, forced, context=context)

    patch.setattr(PostgresStore, "record", record)


def the_sweeper_looks_only_for_what_was_never_opened(patch: pytest.MonkeyPatch) -> None:
    claim = statements.CLAIM_UNFINISHED
    assert isinstance(claim, Update)
    patch.setattr(statements, "CLAIM_UNFINISHED", claim.where(tables.payments.c.session_id.is_(None)))


# --- Stripe -----------------------------------------------------------------------------------------------------------


def another_key_each_time(patch: pytest.MonkeyPatch) -> None:
    original = Calls.make

    async def call(self: Calls, *args: Any, **params: Any) -> Any:
        if "idempotency_key" in params:
            params["idempotency_key"] = str(uuid4())
        return await original(self, *args, **params)

    patch.setattr(Calls, "make", call)


def unknown_is_a_failure(patch: pytest.MonkeyPatch) -> None:
    def decide(payment: Payment, outcome: Outcome, **rest: Any) -> Change | None:
        return status.decide(payment, Refused() if isinstance(outcome, Unknown) else outcome, **rest)

    patch.setattr(outcome_writer, "decide", decide)


def ended_here_and_not_at_stripe(patch: pytest.MonkeyPatch) -> None:
    async def release(self: Checkout, payment: Payment, *, context: Any, **_: Any) -> Payment:
        return await self.outcomes.apply(payment, Expired(), context=context)

    patch.setattr(Checkout, "release", release)


def money_that_does_not_fit_is_passed_over(patch: pytest.MonkeyPatch) -> None:
    def decide(payment: Payment, outcome: Outcome, **rest: Any) -> Change | None:
        fits = not isinstance(outcome, Paid) or outcome.money == payment.money
        return status.decide(payment, outcome, **rest) if fits else None

    patch.setattr(outcome_writer, "decide", decide)


def what_is_unknown_here_is_a_strangers(patch: pytest.MonkeyPatch) -> None:
    async def adopt(*_: Any) -> Told:
        return Told(result=ToldResult.STRANGER)

    patch.setattr(ToldSessions, "_adopt", adopt)


def what_comes_after_the_payment_is_not_ours(patch: pytest.MonkeyPatch) -> None:
    async def write(*_: Any) -> bool:
        return True

    patch.setattr(AfterPaid, "_write", write)


def whoever_failed_paid_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sentences, "_of_failed", lambda _: sentences.FAILED[FailureReason.EXPIRED])


def prices_go_through_floats(patch: pytest.MonkeyPatch) -> None:
    def from_major(amount: Decimal, currency: str) -> Money:
        return Money(int(float(amount) * 100), currency)

    patch.setattr(Money, "from_major", from_major)


# --- RabbitMQ ---------------------------------------------------------------------------------------------------------


def confirms_are_ignored(patch: pytest.MonkeyPatch, publisher: Any = Publisher) -> None:
    original = publisher.event

    async def event(self: Any, row: OutboxRow) -> None:
        with suppress(UnpublishedError):
            await original(self, row)

    patch.setattr(publisher, "event", event)


def each_sending_has_its_own_id(patch: pytest.MonkeyPatch) -> None:
    original = Publisher.event

    async def event(self: Publisher, row: OutboxRow) -> None:
        await original(self, replace(row, event_id=str(uuid4())))

    patch.setattr(Publisher, "event", event)


def acknowledged_first(patch: pytest.MonkeyPatch) -> None:
    async def consume_scope(self: CommandMiddleware, call_next: Any, msg: Any) -> None:
        command = _COMMAND_OF_QUEUE[self.context.get_local("handler_").queue.name]
        await msg.raw_message.ack()
        await self._handle(call_next, msg, msg.raw_message, command)

    patch.setattr(CommandMiddleware, "consume_scope", consume_scope)


MUTANTS: dict[str, Mutant] = {
    "a booking may have two live payments": Mutant(
        scenario=scenarios.two_tabs, sql="DROP INDEX payments_live_booking_idx", patch=insert_anyway, red={"I2", "I3"}
    ),
    "status, journal and event are written one after another": Mutant(
        scenario=scenarios.death_after_any_round_trip, patch=_apart("payment", "journal", "event"), red={"I4", "I7"}
    ),
    "the event is written before the change": Mutant(
        scenario=scenarios.death_after_any_round_trip,
        patch=_apart("event", "payment", "journal"),
        red={"I1", "I5", "I7"},
    ),
    "a command is acknowledged before it is committed": Mutant(
        scenario=scenarios.killed_with_a_command_in_its_hands, patch=acknowledged_first, red={"I8"}
    ),
    "the broker's confirm is ignored": Mutant(scenario=scenarios.a_full_queue, patch=confirms_are_ignored, red={"I4"}),
    "a repeat has another key at Stripe": Mutant(
        scenario=scenarios.a_lost_answer, patch=another_key_each_time, red={"I1", "I2", "I15"}
    ),
    "a final status can be rewritten": Mutant(
        scenario=scenarios.a_hand_in_the_record,
        sql="DROP TRIGGER payments_keep_final ON payments",
        red={"I7", "I9", "I13", "I15"},
    ),
    "the journal can be rewritten": Mutant(
        scenario=scenarios.a_hand_in_the_journal, sql="DROP TRIGGER journal_append_only ON journal", red={"I5", "I7"}
    ),
    "a session is ended here and not at Stripe": Mutant(
        scenario=scenarios.another_price,
        patch=ended_here_and_not_at_stripe,
        red={"I2", "I3", "I9", "I13", "I14", "I15"},
    ),
    "a timeout counts as a failure": Mutant(
        scenario=scenarios.a_lost_answer, patch=unknown_is_a_failure, red={"I1", "I15"}
    ),
    "versions are not compared": Mutant(
        scenario=scenarios.two_replicas_hear_the_same, patch=versions_are_not_compared, red={"I7"}
    ),
    "each sending of an event has an id of its own": Mutant(
        scenario=scenarios.a_relay_dies_before_it_marks, patch=each_sending_has_its_own_id, red={"I6"}
    ),
    "prices go through floats": Mutant(scenario=scenarios.an_odd_price, patch=prices_go_through_floats, red={"I10"}),
    "the sweeper forgets what nobody pays": Mutant(
        scenario=scenarios.nobody_pays, patch=the_sweeper_looks_only_for_what_was_never_opened, red={"I12"}
    ),
    "money that does not fit is passed over": Mutant(
        scenario=scenarios.another_amount_arrives,
        patch=money_that_does_not_fit_is_passed_over,
        red={"I10", "I13", "I15"},
    ),
    "whoever failed is told that nothing was charged": Mutant(
        scenario=scenarios.another_amount_arrives, patch=whoever_failed_paid_nothing, red={"I14"}
    ),
    "what is unknown here is a stranger's": Mutant(
        scenario=scenarios.an_older_copy, patch=what_is_unknown_here_is_a_strangers, red={"I1", "I9", "I13", "I15"}
    ),
    "what comes after the payment is not ours": Mutant(
        scenario=scenarios.money_is_given_back, patch=what_comes_after_the_payment_is_not_ours, red={"I13"}
    ),
}
