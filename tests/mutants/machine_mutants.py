"""What breaks the state machine on fakes, and what it says then."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from service.application import outcome_writer
from service.application.ports import OutboxRow
from service.domain import status
from service.domain.errors import IllegalTransitionError
from service.domain.outcomes import Outcome, Paid
from service.domain.payment import Payment
from service.domain.status import Change
from tests.kit.fake_store import FakeStore
from tests.mutants.mutants import (
    Patch,
    confirms_are_ignored,
    ended_here_and_not_at_stripe,
    unknown_is_a_failure,
    what_comes_after_the_payment_is_not_ours,
    what_is_unknown_here_is_a_strangers,
    whoever_failed_paid_nothing,
)
from tests.unit.service.application import machine


def another_key_at_the_fake(patch: pytest.MonkeyPatch) -> None:
    original = machine.Ledger._made
    patch.setattr(machine.Ledger, "_made", lambda self, _, payment: original(self, str(uuid4()), payment))


def any_money_is_the_money(patch: pytest.MonkeyPatch) -> None:
    def decide(payment: Payment, outcome: Outcome, **rest: Any) -> Change | None:
        if isinstance(outcome, Paid):
            outcome = Paid(money=payment.money, reference=payment.reference, livemode=payment.livemode)
        return status.decide(payment, outcome, **rest)

    patch.setattr(outcome_writer, "decide", decide)


def bookings_may_have_two_payments(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(FakeStore, "_live", lambda *_: None)


def message_ids_are_not_remembered(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(FakeStore, "_of_keys", lambda *_: None)


def what_is_not_confirmed_counts_as_sent(patch: pytest.MonkeyPatch) -> None:
    confirms_are_ignored(patch, machine.Subscriber)


def a_resend_has_an_id_of_its_own(patch: pytest.MonkeyPatch) -> None:
    original = machine.Subscriber.event

    async def event(self: machine.Subscriber, row: OutboxRow) -> None:
        await original(self, replace(row, event_id=str(uuid4())) if row.attempts > 1 else row)

    patch.setattr(machine.Subscriber, "event", event)


MACHINE: dict[Patch, str] = {
    another_key_at_the_fake: "two sessions of one booking|a session at the gateway that no payment knows|"
    + IllegalTransitionError.default_message,  # the status table is as quick to see a second session
    unknown_is_a_failure: "the gateway did not say so|a refused payment has a session",
    any_money_is_the_money: "COMPLETED without money that fits",
    ended_here_and_not_at_stripe: "the gateway did not say so|two sessions of one booking",
    bookings_may_have_two_payments: "two live payments for one booking",
    message_ids_are_not_remembered: "a repeat got another session",
    what_is_not_confirmed_counts_as_sent: "an event was lost|event 2 of payment",
    a_resend_has_an_id_of_its_own: "an event was published under another id",
    what_is_unknown_here_is_a_strangers: "two sessions of one booking|a session at the gateway that no payment knows",
    what_comes_after_the_payment_is_not_ours: "a refund that nobody heard of",
    whoever_failed_paid_nothing: "somebody was told that nothing was charged",
}
"""What breaks the state machine on fakes, and what it says then. Two changes rarely meet there by chance, so versions
that are not compared are left to a scenario."""
