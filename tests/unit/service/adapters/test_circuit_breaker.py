"""The circuit breakers, on a clock that the tests move."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.adapters.stripe.circuit_breaker import (
    FAILURES,
    LONGEST_PAUSE_SECONDS,
    CircuitBreaker,
    CircuitBreakers,
    CircuitChange,
    CircuitOpenError,
    State,
    Verdict,
)
from service.ratelimit.permit import Endpoint
from tests.kit.clock import Seconds
from tests.kit.service import QUICK

ANSWERS, FAILS, DENIES, NOTHING = Verdict.ANSWERS, Verdict.FAILS, Verdict.DENIES, Verdict.NOTHING
FEW = FAILURES - 1


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def circuit_breaker(clock: Seconds) -> CircuitBreaker:
    return CircuitBreaker(clock)


@pytest.fixture
def circuit_breakers(clock: Seconds) -> CircuitBreakers:
    return CircuitBreakers(clock)


def attempt(circuit_breaker: CircuitBreaker, verdict: Verdict, subject: object = None) -> CircuitChange | None:
    return circuit_breaker.leave(circuit_breaker.enter(), verdict, subject=subject)


def wait_of(enter: Callable[[], object]) -> float:
    with pytest.raises(CircuitOpenError) as refused:
        enter()
    return refused.value.wait_seconds


def opened(circuit_breaker: CircuitBreaker) -> None:
    changes = [attempt(circuit_breaker, FAILS, subject) for subject in range(FAILURES)]
    assert changes == [*[None] * FEW, CircuitChange.OPENED]


@pytest.mark.parametrize(
    ("attempts", "change"),
    [
        ([(FAILS, nth) for nth in range(FEW)], None),
        ([(FAILS, nth) for nth in range(FAILURES)], CircuitChange.OPENED),
        ([*((FAILS, nth) for nth in range(FEW)), (ANSWERS, None), (FAILS, "the last")], None),
        ([*((FAILS, nth) for nth in range(FEW)), (NOTHING, None), (FAILS, "the last")], CircuitChange.OPENED),
        ([(FAILS, "F43 a 500 kept under one payment's key")] * 100, None),
        ([(FAILS, None)] * FAILURES, CircuitChange.OPENED),
        ([(DENIES, None)], CircuitChange.DENIED),
    ],
)
def test_failures_in_a_row_of_different_payments_open_it_or_one_refused_key(
    circuit_breaker: CircuitBreaker, attempts: Sequence[tuple[Verdict, object]], change: CircuitChange | None
) -> None:
    changes = [attempt(circuit_breaker, verdict, subject) for verdict, subject in attempts]
    assert changes == [*[None] * (len(attempts) - 1), change]
    assert circuit_breaker.state is (State.CLOSED if change is None else State.OPEN)


def test_after_the_pause_exactly_one_call_may_try(circuit_breaker: CircuitBreaker, clock: Seconds) -> None:
    opened(circuit_breaker)
    assert wait_of(circuit_breaker.enter) == wait_of(circuit_breaker.check) == 1.0
    clock.now += 0.5
    assert wait_of(circuit_breaker.enter) == 0.5
    clock.now += 0.5
    assert attempt(circuit_breaker, NOTHING) is None  # never sent: the next call is the probe
    assert circuit_breaker.state is State.OPEN
    probe = circuit_breaker.enter()
    assert circuit_breaker.state is State.HALF_OPEN
    assert wait_of(circuit_breaker.enter) > 0
    assert wait_of(circuit_breaker.check) > 0
    assert circuit_breaker.leave(probe, ANSWERS) is CircuitChange.CLOSED
    assert circuit_breaker.state is State.CLOSED
    opened(circuit_breaker)  # and counts from nothing


@pytest.mark.parametrize(
    ("probes", "pauses"),
    [
        ([(FAILS, subject) for subject in range(100, 107)], [1, 2, 4, 8, 15, 15, 15, 15]),
        ([(FAILS, FEW)] * 20, [1] * 21),  # F43 a payment that failed before proves nothing new
        ([(DENIES, None)] * 3, [1, 15, 15, 15]),
    ],
)
def test_a_probe_that_fails_doubles_the_pause_up_to_its_bound(
    circuit_breaker: CircuitBreaker, clock: Seconds, probes: Sequence[tuple[Verdict, object]], pauses: Sequence[float]
) -> None:
    opened(circuit_breaker)
    waits, changes = [wait_of(circuit_breaker.enter)], []
    for verdict, subject in probes:
        clock.now += waits[-1]
        changes.append(attempt(circuit_breaker, verdict, subject))
        waits.append(wait_of(circuit_breaker.enter))
    assert waits == pauses
    assert changes == [CircuitChange.DENIED if (DENIES, None) in probes else None, *[None] * (len(probes) - 1)]
    clock.now += LONGEST_PAUSE_SECONDS
    assert attempt(circuit_breaker, ANSWERS) is CircuitChange.CLOSED
    opened(circuit_breaker)
    assert wait_of(circuit_breaker.enter) == 1


@pytest.mark.parametrize("late", Verdict)
def test_an_attempt_that_began_before_it_opened_decides_nothing(
    circuit_breaker: CircuitBreaker, clock: Seconds, late: Verdict
) -> None:
    early = circuit_breaker.enter()
    opened(circuit_breaker)
    assert circuit_breaker.leave(early, late) is None
    assert wait_of(circuit_breaker.enter) == 1
    clock.now += 1
    circuit_breaker.enter()
    assert circuit_breaker.leave(early, late) is None
    assert circuit_breaker.state is State.HALF_OPEN


# --- all endpoints ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "verdict", "times", "change"),
    [(Endpoint.CREATE, FAILS, FAILURES, CircuitChange.OPENED), (Endpoint.EVENTS, DENIES, 1, CircuitChange.DENIED)],
)
def test_an_endpoint_that_fails_or_lacks_a_permission_disturbs_no_other(
    circuit_breakers: CircuitBreakers, endpoint: Endpoint, verdict: Verdict, times: int, change: CircuitChange
) -> None:
    changes = [
        circuit_breakers.leave(circuit_breakers.enter(endpoint), verdict, subject=subject) for subject in range(times)
    ]
    assert changes[-1] is change
    wait_of(lambda: circuit_breakers.enter(endpoint))
    assert [each for each in Endpoint if circuit_breakers.state(each) is not State.CLOSED] == [endpoint]
    assert circuit_breakers.leave(circuit_breakers.enter(Endpoint.RETRIEVE), ANSWERS) is None


@pytest.mark.parametrize(("verdict", "still_open"), [(ANSWERS, set()), (DENIES, {Endpoint.LIST})])
def test_a_revoked_key_is_tried_once_in_a_while_wherever_it_is(
    circuit_breakers: CircuitBreakers, clock: Seconds, verdict: Verdict, still_open: set[Endpoint]
) -> None:
    """An endpoint that lacks a permission has accepted the key."""
    changes: list[CircuitChange | None] = []
    for _ in range(60):
        for endpoint in Endpoint:
            try:
                permit = circuit_breakers.enter(endpoint)
            except CircuitOpenError:
                continue
            changes.append(circuit_breakers.leave(permit, Verdict.DENIES_ALL))
        assert {circuit_breakers.state(endpoint) for endpoint in Endpoint} == {State.OPEN}
        clock.now += 1
    assert len(changes) <= 5
    assert changes == [CircuitChange.DENIED, *[None] * (len(changes) - 1)]
    clock.now += LONGEST_PAUSE_SECONDS
    assert circuit_breakers.leave(circuit_breakers.enter(Endpoint.LIST), verdict) is CircuitChange.CLOSED
    assert {each for each in Endpoint if circuit_breakers.state(each) is not State.CLOSED} == still_open
    denied_anew = circuit_breakers.leave(circuit_breakers.enter(Endpoint.CREATE), Verdict.DENIES_ALL)
    assert denied_anew is CircuitChange.DENIED


STEP = st.tuples(st.sampled_from(["enter", "leave", "wait"]), st.sampled_from(Verdict), st.integers(0, 20))


@QUICK
@given(steps=st.lists(STEP, max_size=60))
def test_whatever_happens_it_lets_one_call_try_within_the_longest_pause(steps: list[tuple[str, Verdict, int]]) -> None:
    clock = Seconds()
    circuit_breaker = CircuitBreaker(clock)
    under_way: list[int] = []
    results = []
    for what, verdict, number in steps:
        if what == "wait":
            clock.now += number
        elif what == "leave" and under_way:
            entered = under_way.pop(number % len(under_way))
            results.append(circuit_breaker.leave(entered, verdict, subject=number))
        else:
            try:
                under_way.append(circuit_breaker.enter())
            except CircuitOpenError as error:
                assert 0 < error.wait_seconds <= LONGEST_PAUSE_SECONDS  # noqa: PT017 - it need not be refused
    changes = [change for change in results if change is not None]
    assert all(later is not earlier for earlier, later in pairwise(changes))
    for entered in under_way:
        circuit_breaker.leave(entered, NOTHING)
    clock.now += LONGEST_PAUSE_SECONDS
    attempt(circuit_breaker, ANSWERS)
    assert circuit_breaker.state is State.CLOSED
