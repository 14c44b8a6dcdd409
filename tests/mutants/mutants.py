"""The breaks. Each takes one safety away, in the way in which somebody might by mistake."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import insert, update
from sqlalchemy.dialects.postgresql import Insert

from service.adapters.store import PostgresStore, outbox, statements, tables
from service.adapters.stripe.calls import Calls
from service.application import steps
from service.application.ports import OutboxRow
from service.application.steps import Steps
from service.domain.errors import ConcurrentChangeError
from service.domain.money import Money
from service.domain.outcomes import Expired, Outcome, Refused, Unknown
from service.domain.payment import Payment
from service.domain.status import Change
from service.entrypoints.broker import Publisher, UnpublishedError
from service.entrypoints.delivery import _COMMAND_OF_QUEUE, Delivery
from tests.mutants import scenarios
from tests.mutants.shop import Shop


def _nothing(_: pytest.MonkeyPatch) -> None:
    """The database alone is broken."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """`sql` is done to the test's own database, `patch` to the code; `red`: what must be violated then, and no more."""

    scenario: Callable[[Shop], Awaitable[None]]
    red: set[str]
    sql: str = ""
    patch: Callable[[pytest.MonkeyPatch], None] = _nothing


# --- the record -------------------------------------------------------------------------------------------------------


class _InsertAnyway(Insert):
    inherit_cache = True

    def on_conflict_do_nothing(self, *_: Any, **__: Any) -> "_InsertAnyway":  # type: ignore[override]
        return self


def insert_anyway(patch: pytest.MonkeyPatch) -> None:
    """PostgreSQL refuses ON CONFLICT without the index that decides, so whoever drops the index drops that too."""
    patch.setattr(statements, "upsert", _InsertAnyway)
    patch.setattr(statements, "BEGIN", statements._begin())


def _apart(*order: str) -> Callable[[pytest.MonkeyPatch], None]:
    """A change in three transactions instead of one, in this order."""

    async def record(self: PostgresStore, change: Change, *, context: Any) -> Payment:
        payment = change.payment
        extra = outbox.parameters(change, context=context)
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
                payment_id=payment.id, **{name.removeprefix("outbox_"): value for name, value in extra.items()}
            ),
        }
        for name in order:
            if not await self._database.run(writes[name], {}):
                raise ConcurrentChangeError(payment=payment)
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


def the_settler_looks_only_for_what_was_never_opened(patch: pytest.MonkeyPatch) -> None:
    original = PostgresStore.claim_unsettled

    async def claim(self: PostgresStore, **moments: Any) -> Any:
        return await original(self, **moments | {"unpaid_before": datetime(1970, 1, 1, tzinfo=UTC)})

    patch.setattr(PostgresStore, "claim_unsettled", claim)


# --- Stripe -----------------------------------------------------------------------------------------------------------


def another_key_each_time(patch: pytest.MonkeyPatch) -> None:
    original = Calls.make

    async def call(self: Calls, *args: Any, **params: Any) -> Any:
        if "idempotency_key" in params:
            params["idempotency_key"] = str(uuid4())
        return await original(self, *args, **params)

    patch.setattr(Calls, "make", call)


def unknown_is_a_failure(patch: pytest.MonkeyPatch) -> None:
    original = steps.decide

    def decide(payment: Payment, outcome: Outcome, **rest: Any) -> Change | None:
        return original(payment, Refused() if isinstance(outcome, Unknown) else outcome, **rest)

    patch.setattr(steps, "decide", decide)


def ended_here_and_not_at_stripe(patch: pytest.MonkeyPatch) -> None:
    async def release(self: Steps, payment: Payment, *, context: Any) -> Payment:
        return await self.apply(payment, Expired(), context=context)

    patch.setattr(Steps, "release", release)


def prices_go_through_floats(patch: pytest.MonkeyPatch) -> None:
    def from_major(amount: Decimal, currency: str) -> Money:
        return Money(int(float(amount) * 100), currency)

    patch.setattr(Money, "from_major", from_major)


# --- RabbitMQ ---------------------------------------------------------------------------------------------------------


def confirms_are_ignored(patch: pytest.MonkeyPatch) -> None:
    original = Publisher.event

    async def event(self: Publisher, row: OutboxRow) -> None:
        with suppress(UnpublishedError):
            await original(self, row)

    patch.setattr(Publisher, "event", event)


def each_sending_has_its_own_id(patch: pytest.MonkeyPatch) -> None:
    original = Publisher.event

    async def event(self: Publisher, row: OutboxRow) -> None:
        await original(self, replace(row, event_id=str(uuid4())))

    patch.setattr(Publisher, "event", event)


def acknowledged_first(patch: pytest.MonkeyPatch) -> None:
    async def consume_scope(self: Delivery, call_next: Any, msg: Any) -> None:
        command = _COMMAND_OF_QUEUE[self.context.get_local("handler_").queue.name]
        await msg.raw_message.ack()
        await self._handle(call_next, msg, msg.raw_message, command)

    patch.setattr(Delivery, "consume_scope", consume_scope)


MUTANTS: dict[str, Mutant] = {
    "a booking may have two live payments": Mutant(
        scenario=scenarios.two_tabs,
        sql="DROP INDEX payments_live_booking_idx",
        patch=insert_anyway,
        red={"I2", "I3"},
    ),
    "status, journal and event are written one after another": Mutant(
        scenario=scenarios.death_after_any_round_trip,
        patch=_apart("payment", "journal", "event"),
        red={"I4", "I7"},
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
        scenario=scenarios.a_lost_answer, patch=another_key_each_time, red={"I1", "I2"}
    ),
    "a final status can be rewritten": Mutant(
        scenario=scenarios.a_hand_in_the_record,
        sql="DROP TRIGGER payments_keep_final ON payments",
        red={"I7", "I9"},
    ),
    "the journal can be rewritten": Mutant(
        scenario=scenarios.a_hand_in_the_journal,
        sql="DROP TRIGGER journal_append_only ON journal",
        red={"I5", "I7"},
    ),
    "a session is ended here and not at Stripe": Mutant(
        scenario=scenarios.another_price, patch=ended_here_and_not_at_stripe, red={"I2", "I3", "I9"}
    ),
    "a timeout counts as a failure": Mutant(scenario=scenarios.a_lost_answer, patch=unknown_is_a_failure, red={"I1"}),
    "versions are not compared": Mutant(
        scenario=scenarios.two_replicas_hear_the_same, patch=versions_are_not_compared, red={"I7"}
    ),
    "each sending of an event has an id of its own": Mutant(
        scenario=scenarios.a_relay_dies_before_it_marks, patch=each_sending_has_its_own_id, red={"I6"}
    ),
    "prices go through floats": Mutant(scenario=scenarios.an_odd_price, patch=prices_go_through_floats, red={"I10"}),
    "the settler forgets what nobody pays": Mutant(
        scenario=scenarios.nobody_pays, patch=the_settler_looks_only_for_what_was_never_opened, red={"I12"}
    ),
}
