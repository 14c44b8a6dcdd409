"""The circuit breakers, against a clock that is moved by hand."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.application.breaker import (
    FAILURES,
    LONGEST_PAUSE_SECONDS,
    Breaker,
    Change,
    CircuitOpenError,
    Circuits,
    State,
    Verdict,
)
from service.application.budget import Endpoint
from tests.service_support import QUICK, Seconds


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def breaker(clock: Seconds) -> Breaker:
    return Breaker(clock)


def attempt(breaker: Breaker, verdict: Verdict, subject: object = None) -> Change | None:
    return breaker.leave(breaker.enter(), verdict, subject=subject)


def wait_of(enter: Callable[[], object]) -> float:
    with pytest.raises(CircuitOpenError) as refused:
        enter()
    return refused.value.wait_seconds


def opened(breaker: Breaker) -> None:
    changes = [attempt(breaker, Verdict.FAILS, subject) for subject in range(FAILURES)]
    assert changes == [*[None] * (FAILURES - 1), Change.OPENED]


def test_five_failures_in_a_row_open_it(breaker: Breaker) -> None:
    opened(breaker)
    assert breaker.state is State.OPEN
    assert wait_of(breaker.enter) == wait_of(breaker.check) == 1.0


@pytest.mark.parametrize("verdict", [Verdict.ANSWERS, Verdict.NOTHING])
def test_only_an_answer_begins_the_row_anew(breaker: Breaker, verdict: Verdict) -> None:
    for subject in range(FAILURES - 1):
        attempt(breaker, Verdict.FAILS, subject)
    assert attempt(breaker, verdict) is None
    change = attempt(breaker, Verdict.FAILS, "the last")
    assert change is (None if verdict is Verdict.ANSWERS else Change.OPENED)


def test_one_payment_that_always_fails_does_not_open_it_for_the_others(breaker: Breaker) -> None:
    """F43 An error that is kept under one key."""
    assert not any(attempt(breaker, Verdict.FAILS, "sticky") for _ in range(100))
    assert breaker.state is State.CLOSED


def test_readings_that_belong_to_no_payment_count_each(breaker: Breaker) -> None:
    changes = [attempt(breaker, Verdict.FAILS) for _ in range(FAILURES)]
    assert changes[-1] is Change.OPENED


def test_after_the_pause_exactly_one_may_try(breaker: Breaker, clock: Seconds) -> None:
    opened(breaker)
    clock.now += 0.5
    assert wait_of(breaker.enter) == 0.5
    clock.now += 0.5
    probe = breaker.enter()
    assert breaker.state is State.HALF_OPEN
    assert wait_of(breaker.enter) > 0
    assert wait_of(breaker.check) > 0
    assert breaker.leave(probe, Verdict.ANSWERS) is Change.CLOSED
    assert breaker.state is State.CLOSED
    opened(breaker)  # and counts from nothing


def test_each_probe_that_fails_doubles_the_pause_up_to_its_bound(breaker: Breaker, clock: Seconds) -> None:
    opened(breaker)
    pauses = []
    for subject in range(100, 107):
        pauses.append(wait_of(breaker.enter))
        clock.now += pauses[-1]
        assert attempt(breaker, Verdict.FAILS, subject) is None
    assert pauses == [1, 2, 4, 8, 15, 15, 15]
    clock.now += 15
    assert attempt(breaker, Verdict.ANSWERS) is Change.CLOSED
    opened(breaker)
    assert wait_of(breaker.enter) == 1


def test_a_payment_that_failed_before_does_not_make_the_others_wait_for_longer(
    breaker: Breaker, clock: Seconds
) -> None:
    """F43 As a probe, too."""
    opened(breaker)
    for _ in range(20):
        clock.now += 1
        attempt(breaker, Verdict.FAILS, FAILURES - 1)
        assert wait_of(breaker.enter) == 1


def test_a_probe_that_was_never_sent_leaves_the_next_one_its_chance(breaker: Breaker, clock: Seconds) -> None:
    opened(breaker)
    clock.now += 1
    assert attempt(breaker, Verdict.NOTHING) is None
    assert breaker.state is State.OPEN
    assert attempt(breaker, Verdict.ANSWERS) is Change.CLOSED


@pytest.mark.parametrize("late", Verdict)
def test_what_began_before_it_opened_decides_nothing(breaker: Breaker, clock: Seconds, late: Verdict) -> None:
    early = breaker.enter()
    opened(breaker)
    assert breaker.leave(early, late) is None
    assert wait_of(breaker.enter) == 1
    clock.now += 1
    breaker.enter()
    assert breaker.leave(early, late) is None
    assert breaker.state is State.HALF_OPEN


def test_a_key_that_is_refused_opens_it_at_once_and_is_told_once(breaker: Breaker, clock: Seconds) -> None:
    changes = [attempt(breaker, Verdict.DENIES)]
    for _ in range(3):
        assert wait_of(breaker.enter) == LONGEST_PAUSE_SECONDS
        clock.now += LONGEST_PAUSE_SECONDS
        changes.append(attempt(breaker, Verdict.DENIES))
    clock.now += LONGEST_PAUSE_SECONDS
    changes.append(attempt(breaker, Verdict.ANSWERS))
    changes.append(attempt(breaker, Verdict.DENIES))
    assert changes == [Change.DENIED, None, None, None, Change.CLOSED, Change.DENIED]


def test_a_key_that_is_refused_while_it_fails_is_told_too(breaker: Breaker, clock: Seconds) -> None:
    opened(breaker)
    clock.now += 1
    assert attempt(breaker, Verdict.DENIES) is Change.DENIED
    assert wait_of(breaker.enter) == LONGEST_PAUSE_SECONDS


# --- all endpoints ----------------------------------------------------------------------------------------------------


def states(circuits: Circuits) -> set[State]:
    return {circuits.state(endpoint) for endpoint in Endpoint}


def test_an_endpoint_that_fails_disturbs_no_other(clock: Seconds) -> None:
    circuits = Circuits(clock)
    for subject in range(FAILURES):
        circuits.leave(circuits.enter(Endpoint.CREATE), Verdict.FAILS, subject=subject)
    wait_of(lambda: circuits.enter(Endpoint.CREATE))
    assert [endpoint for endpoint in Endpoint if circuits.state(endpoint) is not State.CLOSED] == [Endpoint.CREATE]
    assert dict(circuits.openings) == {Endpoint.CREATE: 1}
    assert circuits.leave(circuits.enter(Endpoint.RETRIEVE), Verdict.ANSWERS) is None


def test_a_permission_that_is_missing_at_one_endpoint_disturbs_no_other(clock: Seconds) -> None:
    circuits = Circuits(clock)
    assert circuits.leave(circuits.enter(Endpoint.EVENTS), Verdict.DENIES) is Change.DENIED
    assert [endpoint for endpoint in Endpoint if circuits.state(endpoint) is not State.CLOSED] == [Endpoint.EVENTS]


def test_a_revoked_key_is_tried_once_in_a_while_wherever_it_is(clock: Seconds) -> None:
    circuits, calls, changes = Circuits(clock), 0, []
    for _ in range(60):
        for endpoint in Endpoint:
            try:
                permit = circuits.enter(endpoint)
            except CircuitOpenError:
                continue
            calls += 1
            changes.append(circuits.leave(permit, Verdict.DENIES_ALL))
        assert states(circuits) == {State.OPEN}
        clock.now += 1
    assert calls <= 5
    assert changes == [Change.DENIED, *[None] * (calls - 1)]
    assert circuits.openings.total() == 1
    clock.now += LONGEST_PAUSE_SECONDS
    assert circuits.leave(circuits.enter(Endpoint.LIST), Verdict.ANSWERS) is Change.CLOSED
    assert states(circuits) == {State.CLOSED}


STEP = st.tuples(st.sampled_from(["enter", "leave", "wait"]), st.sampled_from(Verdict), st.integers(0, 20))


@QUICK
@given(steps=st.lists(STEP, max_size=60))
def test_whatever_happens_it_lets_one_try_within_the_longest_pause(steps: list[tuple[str, Verdict, int]]) -> None:
    clock = Seconds()
    breaker = Breaker(clock)
    under_way: list[int] = []
    told = []
    for what, verdict, number in steps:
        if what == "wait":
            clock.now += number
        elif what == "leave" and under_way:
            era = under_way.pop(number % len(under_way))
            told.append(breaker.leave(era, verdict, subject=number))
        else:
            try:
                under_way.append(breaker.enter())
            except CircuitOpenError as error:
                assert 0 < error.wait_seconds <= LONGEST_PAUSE_SECONDS  # noqa: PT017 - it need not be refused
    changes = [change for change in told if change is not None]
    assert all(later is not earlier for earlier, later in pairwise(changes))
    for era in under_way:
        breaker.leave(era, Verdict.NOTHING)
    clock.now += LONGEST_PAUSE_SECONDS
    attempt(breaker, Verdict.ANSWERS)
    assert breaker.state is State.CLOSED
