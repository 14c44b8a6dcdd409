"""Who is notified of a change in the process that writes it."""

from dataclasses import replace

import pytest

from service.application.waiters import WaiterRegistry, WaitResult
from service.domain.payment import PaymentStatus
from service.domain.status import Change, ChangeKind
from service.notifications import on_change
from tests.kit.service import a_payment


@pytest.mark.parametrize(
    ("kind", "status"),
    [(ChangeKind.CREATED, PaymentStatus.PENDING), *((ChangeKind.OPENED, status) for status in PaymentStatus)],
)
async def test_each_change_is_counted_an_event_wakes_the_relay_and_a_final_one_notifies_whoever_waits(
    kind: ChangeKind, status: PaymentStatus
) -> None:
    """A payment that was only begun is no event."""
    counted: list[Change] = []
    woken: list[str] = []
    waiters = WaiterRegistry()
    change = Change(payment=replace(a_payment(), status=status), kind=kind)
    on_change(counted.append, waiters, lambda: woken.append("relay"))(change)
    assert (counted, woken) == ([change], [] if kind is ChangeKind.CREATED else ["relay"])
    assert (await waiters.wait(change.payment.id, seconds=0) is WaitResult.FINAL) is status.is_final
