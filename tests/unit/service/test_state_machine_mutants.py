"""The state machine can fail: each safety is broken once on purpose, and far fewer runs than usual must notice."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from service.application import steps
from service.application.ports import OutboxRow
from service.application.steps import Steps
from service.domain.errors import IllegalTransitionError
from service.domain.outcomes import Expired, Outcome, Paid, Refused, Unknown
from service.domain.payment import Payment
from service.domain.status import Change
from tests.fakes import FakeStore
from tests.unit.service.machine import Ledger, Subscriber, UnpublishedError
from tests.unit.service.test_state_machine import AnythingMayHappen, _in_silence

__all__ = ["_in_silence"]

SOME = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=200,
    stateful_step_count=50,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
    report_multiple_bugs=False,
)


def another_key_each_time(patch: pytest.MonkeyPatch) -> None:
    original = Ledger._made
    patch.setattr(Ledger, "_made", lambda self, _, payment: original(self, str(uuid4()), payment))


def unknown_is_a_failure(patch: pytest.MonkeyPatch) -> None:
    original = steps.decide

    def decide(payment: Payment, outcome: Outcome, **rest: Any) -> Change | None:
        return original(payment, Refused() if isinstance(outcome, Unknown) else outcome, **rest)

    patch.setattr(steps, "decide", decide)


def any_money_is_the_money(patch: pytest.MonkeyPatch) -> None:
    original = steps.decide

    def decide(payment: Payment, outcome: Outcome, **rest: Any) -> Change | None:
        if isinstance(outcome, Paid):
            outcome = Paid(money=payment.money, reference=payment.reference, livemode=payment.livemode)
        return original(payment, outcome, **rest)

    patch.setattr(steps, "decide", decide)


def ended_here_and_not_at_the_gateway(patch: pytest.MonkeyPatch) -> None:
    async def release(self: Steps, payment: Payment, *, context: Any) -> Payment:
        return await self.apply(payment, Expired(), context=context)

    patch.setattr(Steps, "release", release)


def bookings_may_have_two_payments(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(FakeStore, "_live", lambda *_: None)


def message_ids_are_not_remembered(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(FakeStore, "_of_keys", lambda *_: None)


def what_is_not_confirmed_counts_as_sent(patch: pytest.MonkeyPatch) -> None:
    original = Subscriber.event

    async def event(self: Subscriber, row: OutboxRow) -> None:
        with suppress(UnpublishedError):
            await original(self, row)

    patch.setattr(Subscriber, "event", event)


def a_resend_has_an_id_of_its_own(patch: pytest.MonkeyPatch) -> None:
    original = Subscriber.event

    async def event(self: Subscriber, row: OutboxRow) -> None:
        await original(self, replace(row, event_id=str(uuid4())) if row.attempts > 1 else row)

    patch.setattr(Subscriber, "event", event)


MUTANTS: dict[Callable[[pytest.MonkeyPatch], None], str] = {
    another_key_each_time: "two sessions of one booking|a session at the gateway that no payment knows|"
    + IllegalTransitionError.default_message,  # the status table is as quick to see a second session
    unknown_is_a_failure: "the gateway did not say so|a refused payment has a session",
    any_money_is_the_money: "COMPLETED without money that fits",
    ended_here_and_not_at_the_gateway: "the gateway did not say so|two sessions of one booking",
    bookings_may_have_two_payments: "two live payments for one booking",
    message_ids_are_not_remembered: "a repeat got another session",
    what_is_not_confirmed_counts_as_sent: "an event was lost|event 2 of payment",
    a_resend_has_an_id_of_its_own: "an event was told under another id",
}
"""What is broken, and what must be heard about it. Versions that are not compared are left to `tests/mutants`: two
changes rarely meet by chance, and which draws have them changes with every line of the machine."""


@pytest.mark.usefixtures("_in_silence")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_the_state_machine_notices(
    mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    with pytest.raises((AssertionError, IllegalTransitionError), match=MUTANTS[mutant]):
        run_state_machine_as_test(AnythingMayHappen, settings=SOME)
