"""What is heard of a change in the process that writes it."""

from dataclasses import replace

import pytest

from service.application.news import Heard, News
from service.bootstrap import on_change
from service.domain.payment import PaymentStatus
from service.domain.status import Change, ChangeKind
from tests.service_support import a_payment


@pytest.mark.parametrize("status", PaymentStatus)
async def test_each_event_is_counted_and_wakes_the_relay_and_who_waits_hears_of_the_final_ones(
    status: PaymentStatus,
) -> None:
    counted: list[Change] = []
    woken: list[str] = []
    news = News()
    change = Change(payment=replace(a_payment(), status=status), kind=ChangeKind.OPENED)
    on_change(counted.append, news, lambda: woken.append("relay"))(change)
    assert (counted, woken) == ([change], ["relay"])
    assert (await news.wait(change.payment.id, seconds=0) is Heard.SETTLED) is status.is_final


def test_a_payment_that_was_only_begun_is_no_event_and_wakes_nobody() -> None:
    counted: list[Change] = []
    woken: list[str] = []
    change = Change(payment=a_payment(), kind=ChangeKind.CREATED)
    on_change(counted.append, News(), lambda: woken.append("relay"))(change)
    assert (counted, woken) == ([change], [])
