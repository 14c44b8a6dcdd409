"""Stripe's clock by the dates of its answers, and which ends of a session it takes."""

from datetime import timedelta
from email.utils import format_datetime

import pytest

from service.adapters.stripe.clock_skew import ClockSkew
from tests.kit.clock import NOW, MovableClock


@pytest.mark.parametrize(
    ("seconds", "moved", "warned"),
    [(0, 0, False), (-9, 0, False), (15, 15.5, False), (-3600, -3599.5, True), (3600, 3600.5, True)],
)
def test_a_skew_counts_when_it_is_more_than_a_date_can_hide(
    caplog: pytest.LogCaptureFixture, seconds: int, moved: float, *, warned: bool
) -> None:
    clock = MovableClock()
    skew = ClockSkew(clock.now)
    assert skew.ahead == timedelta()
    for _ in range(3):
        skew.note(format_datetime(NOW + timedelta(seconds=seconds), usegmt=True), sent_at=NOW)
    assert skew.ahead == timedelta(seconds=moved)
    assert len(caplog.records) == warned, "told once"
    ends_at = int((NOW + timedelta(minutes=35)).timestamp())
    assert skew.takes(ends_at) is (seconds < 290)


@pytest.mark.parametrize(
    ("date", "took"),
    [("", 0), ("yesterday", 0), ("Mon, 02 Mar 2026 13:00:00", 0), ("Mon, 02 Mar 2026 13:00:00 GMT", 11)],
)
def test_a_date_that_says_nothing_is_ignored(date: str, took: float) -> None:
    clock = MovableClock()
    skew = ClockSkew(clock.now)
    clock.advance(took)
    skew.note(date, sent_at=NOW)
    assert skew.measured is None
