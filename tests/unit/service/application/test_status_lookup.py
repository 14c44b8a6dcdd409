"""Which strategy answers how a payment stands, and what is remembered of a lookup."""

from dataclasses import replace
from datetime import timedelta

import pytest

from service.application.status_lookup import (
    ASK_AGAIN_AFTER,
    ASK_AGAIN_EVERY,
    COVERED_FOR,
    COVERED_SESSIONS,
    PERMIT_SECONDS,
    FreshnessCache,
    LookupState,
    Strategy,
    choose_strategy,
)
from tests.kit.clock import NOW

QUIET = LookupState(
    asked_at=None,
    at=NOW,
    is_covered=False,
    is_fresh=False,
    always_ask=False,
    feed_is_current=True,
    feed_is_busy=False,
    permit_is_free=True,
    permit_seconds=0,
    may_ask_again=True,
)
ASKED = replace(QUIET, asked_at=NOW - timedelta(seconds=2))
TOO_LONG = PERMIT_SECONDS + 0.1
LONG_AGO = replace(QUIET, asked_at=NOW - ASK_AGAIN_AFTER)
POLLED = replace(QUIET, is_covered=True)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (QUIET, Strategy.ASK),
        (ASKED, Strategy.RIDE),
        (replace(QUIET, permit_is_free=False), Strategy.RIDE),
        (LONG_AGO, Strategy.ASK),
        (POLLED, Strategy.ASK),
        (replace(POLLED, may_ask_again=False), Strategy.RIDE),
        (replace(POLLED, permit_is_free=False), Strategy.RIDE),
        (replace(POLLED, feed_is_current=False, may_ask_again=False), Strategy.ASK),
        (replace(POLLED, always_ask=True, may_ask_again=False), Strategy.ASK),
        (replace(LONG_AGO, may_ask_again=False), Strategy.RIDE),
        (replace(LONG_AGO, permit_is_free=False), Strategy.RIDE),
        (replace(ASKED, always_ask=True), Strategy.ASK),
        (replace(ASKED, always_ask=True, permit_is_free=False), Strategy.RIDE),
        (replace(ASKED, feed_is_current=False), Strategy.ASK),
        (replace(ASKED, feed_is_current=False, permit_is_free=False, permit_seconds=PERMIT_SECONDS), Strategy.ASK),
        (replace(ASKED, feed_is_current=False, permit_is_free=False, permit_seconds=TOO_LONG), Strategy.BUSY),
        (replace(ASKED, is_fresh=True), Strategy.KNOWN),
        (replace(QUIET, is_fresh=True, feed_is_current=False), Strategy.KNOWN),
        (replace(ASKED, is_fresh=True, feed_is_busy=True), Strategy.WATCH),
    ],
)
def test_the_strategy_depends_on_the_state_alone(state: LookupState, expected: Strategy) -> None:
    assert choose_strategy(state) is expected


def test_what_was_looked_up_within_the_window_is_remembered() -> None:
    cache = FreshnessCache()
    cache.add(1, at=NOW, succeeded=True)
    cache.add(2, at=NOW + timedelta(seconds=1), succeeded=False)
    assert cache.succeeded(1, since=NOW - timedelta(seconds=1)) is True
    assert cache.succeeded(2, since=NOW) is False
    assert cache.succeeded(3, since=NOW) is None
    assert cache.succeeded(1, since=NOW) is None


def test_what_is_polled_with_success_is_covered_until_nobody_polls_it_any_more() -> None:
    cache = FreshnessCache()
    cache.add(1, at=NOW, succeeded=True)
    assert cache.is_covered(1, at=NOW + COVERED_FOR / 2)
    assert not cache.is_covered(1, at=NOW + COVERED_FOR)
    assert not cache.is_covered(2, at=NOW)
    cache.add(1, at=NOW + timedelta(seconds=1), succeeded=False)
    assert not cache.is_covered(1, at=NOW + timedelta(seconds=2))


def test_what_is_remembered_is_bounded_in_time_and_in_number() -> None:
    cache = FreshnessCache()
    for payment_id in range(COVERED_SESSIONS + 10):
        cache.add(payment_id, at=NOW, succeeded=True)
    assert len(cache) == COVERED_SESSIONS
    assert not cache.is_covered(9, at=NOW)
    cache.add(-1, at=NOW + COVERED_FOR, succeeded=True)
    assert len(cache) == 1


def test_the_newest_asking_counts_and_keeps_its_place() -> None:
    cache = FreshnessCache()
    cache.add(1, at=NOW, succeeded=False)
    cache.add(2, at=NOW + timedelta(seconds=1), succeeded=True)
    cache.add(1, at=NOW + timedelta(seconds=2), succeeded=True)
    assert cache.succeeded(1, since=NOW + timedelta(seconds=1)) is True
    cache.add(3, at=NOW + COVERED_FOR + timedelta(seconds=1), succeeded=True)
    assert cache.is_covered(1, at=NOW + COVERED_FOR)
    assert len(cache) == 2


def test_of_all_covered_sessions_one_is_asked_about_again_in_so_long() -> None:
    cache = FreshnessCache()
    assert cache.may_ask_again(NOW)
    cache.add_again(NOW)
    assert not cache.may_ask_again(NOW + ASK_AGAIN_EVERY / 2)
    assert cache.may_ask_again(NOW + ASK_AGAIN_EVERY)
