"""Which way it is learnt how a payment stands, and what is remembered of it."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.application.asking import ASKED_AGAIN_AFTER, ASKED_AGAIN_EVERY, TURN_SECONDS, Recent, Situation, Way, way
from tests.service_support import NOW, QUICK

QUIET = Situation(
    asked_at=None,
    at=NOW,
    known=False,
    always_ask=False,
    feed_is_current=True,
    feed_is_busy=False,
    turn_is_free=True,
    turn_seconds=0,
    may_ask_again=True,
)
ASKED = replace(QUIET, asked_at=NOW - timedelta(seconds=2))
LONG_AGO = replace(QUIET, asked_at=NOW - ASKED_AGAIN_AFTER)


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        (QUIET, Way.ASK),
        (ASKED, Way.RIDE),
        (replace(QUIET, turn_is_free=False), Way.RIDE),
        (LONG_AGO, Way.ASK),
        (replace(LONG_AGO, may_ask_again=False), Way.RIDE),
        (replace(LONG_AGO, turn_is_free=False), Way.RIDE),
        (replace(ASKED, always_ask=True), Way.ASK),
        (replace(ASKED, always_ask=True, turn_is_free=False), Way.RIDE),
        (replace(ASKED, feed_is_current=False), Way.ASK),
        (replace(ASKED, feed_is_current=False, turn_is_free=False, turn_seconds=TURN_SECONDS), Way.ASK),
        (replace(ASKED, feed_is_current=False, turn_is_free=False, turn_seconds=TURN_SECONDS + 0.1), Way.BUSY),
        (replace(ASKED, known=True), Way.KNOWN),
        (replace(QUIET, known=True, feed_is_current=False), Way.KNOWN),
        (replace(ASKED, known=True, feed_is_busy=True), Way.WATCH),
    ],
)
def test_the_way_depends_on_the_situation_alone(situation: Situation, expected: Way) -> None:
    assert way(situation) is expected


@QUICK
@given(
    st.builds(
        Situation,
        asked_at=st.none() | st.just(ASKED.asked_at) | st.just(LONG_AGO.asked_at),
        at=st.just(NOW),
        turn_is_free=st.sampled_from([False]),
        turn_seconds=st.floats(TURN_SECONDS, 60, exclude_min=True),
    )
)
def test_nobody_stands_in_line_for_longer_than_it_is_worth(situation: Situation) -> None:
    assert way(situation) is not Way.ASK


def test_what_was_asked_within_the_window_is_remembered_and_then_forgotten() -> None:
    recent = Recent()
    recent.note(1, at=NOW, answered=True)
    recent.note(2, at=NOW + timedelta(seconds=1), answered=False)
    assert recent.answered(1, since=NOW - timedelta(seconds=1)) is True
    assert recent.answered(2, since=NOW) is False
    assert recent.answered(3, since=NOW) is None
    assert recent.answered(1, since=NOW) is None
    assert len(recent) == 1


def test_the_newest_asking_counts_and_keeps_its_place() -> None:
    recent = Recent()
    recent.note(1, at=NOW, answered=False)
    recent.note(2, at=NOW + timedelta(seconds=1), answered=True)
    recent.note(1, at=NOW + timedelta(seconds=2), answered=True)
    assert recent.answered(1, since=NOW + timedelta(seconds=1)) is True
    assert len(recent) == 1


def test_of_all_covered_sessions_one_is_asked_about_again_in_so_long() -> None:
    recent = Recent()
    assert recent.may_ask_again(NOW)
    recent.note_again(NOW)
    assert not recent.may_ask_again(NOW + ASKED_AGAIN_EVERY / 2)
    assert recent.may_ask_again(NOW + ASKED_AGAIN_EVERY)
