from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import BridgeError
from bridge.rate_limit import RateLimit
from tests.kit.clock import Seconds


def wait_of(limit: RateLimit, key: Any = "a") -> int:
    """0 if admitted, else the seconds that the refusal names."""
    try:
        limit.take(key)
    except BridgeError as error:
        return error.refusal.retry_after_seconds or -1
    return 0


def test_without_a_rate_there_is_no_limit_and_nothing_is_remembered() -> None:
    limit = RateLimit(per_second=0, burst=1)
    assert [wait_of(limit) for _ in range(1000)] == [0] * 1000
    assert len(limit._next_at) == 0


def test_a_burst_is_served_and_then_the_rate_for_each_key_and_a_refusal_does_not_count() -> None:
    clock = Seconds()
    limit = RateLimit(per_second=2, burst=3, clock=clock)
    assert [wait_of(limit) for _ in range(5)] == [0, 0, 0, 1, 1]
    assert [wait_of(limit, "other") for _ in range(4)] == [0, 0, 0, 1]
    assert {wait_of(limit) for _ in range(1000)} == {1}
    clock.now += 0.5
    assert [wait_of(limit) for _ in range(2)] == [0, 1]
    clock.now += 3600
    assert [wait_of(limit) for _ in range(4)] == [0, 0, 0, 1]


@given(
    per_second=st.floats(0.01, 1000),
    burst=st.integers(1, 50),
    pauses=st.lists(st.floats(0, 20), min_size=1, max_size=150),
)
def test_no_window_holds_more_than_burst_and_rate_and_no_wait_is_a_lie(
    per_second: float, burst: int, pauses: list[float]
) -> None:
    clock = Seconds()
    limit = RateLimit(per_second=per_second, burst=burst, clock=clock)
    admitted: list[float] = []
    for pause in pauses:
        clock.now += pause
        wait = wait_of(limit)
        if wait:
            clock.now += wait
            assert wait_of(limit) == 0
        admitted.append(clock.now)
    for first in range(len(admitted)):
        for last in range(first, len(admitted)):
            allowed = burst + (admitted[last] - admitted[first]) * per_second
            assert last - first + 1 <= allowed + 0.001 * per_second + 1e-6


@pytest.mark.parametrize("seconds_between", [0.0, 0.001, 10.0])
def test_memory_is_bounded_however_many_keys_come(seconds_between: float) -> None:
    clock = Seconds()
    limit = RateLimit(per_second=1, burst=5, max_keys=1000, clock=clock)
    for key in range(200_000):
        limit.take(key)
        clock.now += seconds_between
        assert len(limit._next_at) <= 1000


def test_keys_that_came_long_ago_are_forgotten() -> None:
    clock = Seconds()
    limit = RateLimit(per_second=1, burst=5, clock=clock)
    for key in range(1000):
        limit.take(key)
    clock.now += 3600
    for _ in range(600):
        limit.take("busy")
        clock.now += 1
    assert len(limit._next_at) == 1


def test_a_flood_of_other_keys_does_not_forget_one_that_is_in_use() -> None:
    limit = RateLimit(per_second=0.001, burst=500, max_keys=100, clock=Seconds())
    for number in range(500):
        limit.take("steady")
        for other in range(50):
            limit.take((number, other))
    assert wait_of(limit, "steady") == 1000
