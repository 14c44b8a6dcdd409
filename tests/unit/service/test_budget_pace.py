"""How many turns there are in a second, whatever happens. In virtual time: nothing takes as long as it says."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.application.budget import Endpoint, Priority
from service.application.leases import Lease, LocalLeases, Rates
from tests.service_support import QUICK
from tests.unit.service.callers import RATES, SETTLED, Callers, Flaky, a_budget, flaky, most_in_a_second, now
from tests.virtual_time import simulated, stall


@QUICK
@given(
    rate=st.sampled_from([0.5, 1, 3.7, 20, 24, 100]),
    replicas=st.integers(1, 3),
    calls=st.lists(
        st.tuples(
            st.sampled_from([0, 0, 0.001, 0.01, 0.05, 0.3, 1.7, 5]),
            st.integers(0, 2),
            st.sampled_from([0.0, 0.02, 0.3, 2.0]),
            st.booleans(),
            st.sampled_from([0, 0, 0, 0.2, 1.5]),
        ),
        max_size=60,
    ),
)
def test_no_second_sees_more_than_the_rate_whatever_comes(
    rate: float, replicas: int, calls: list[tuple[float, int, float, bool, float]]
) -> None:
    async def scene() -> list[float]:
        leases = flaky(Rates(endpoint=rate))
        members = [Callers(budget=a_budget(Rates(endpoint=rate), leases)) for _ in range(replicas)]
        for gap, who, takes, used, stalled in calls:
            members[who % replicas].call(used, takes=takes, used=used)
            await asyncio.sleep(gap)
            await asyncio.sleep(0.00037)  # who has been given a turn is off
            stall(stalled)
        await asyncio.sleep(60 / rate + SETTLED)
        began = [at for member in members for used, at in member.began if used]
        for member in members:
            await member.budget.close()
            await asyncio.gather(*member.tasks, return_exceptions=True)
        assert sum(len(member.began) for member in members) == len(calls)
        return began

    assert most_in_a_second(simulated(scene())) <= rate * 1.15 + 1


def test_a_process_that_stood_still_does_not_make_up_for_it() -> None:
    async def scene() -> list[float]:
        callers = Callers(budget=a_budget(Rates(endpoint=20)))
        for _ in range(200):
            callers.call(takes=0)
        for _ in range(20):
            await callers.wait(0.4)
            stall(0.3)
        await callers.wait()
        return callers.times

    times = simulated(scene())
    assert len(times) == 200
    assert most_in_a_second(times) <= 20


def test_a_line_is_served_at_the_full_rate() -> None:
    async def scene() -> list[float]:
        callers = Callers(budget=a_budget(leases=flaky(), concurrency=200))
        for _ in range(400):
            callers.call(takes=5)
        await callers.wait()
        return callers.times

    times = simulated(scene())
    assert (len(times) - 1) / (times[-1] - times[0]) >= 19.8


def test_all_endpoints_together_keep_to_the_global_rate_and_writes_go_first() -> None:
    async def scene() -> tuple[list[Any], list[float]]:
        callers = Callers(budget=a_budget(Rates(endpoint=20, everything=20)))
        for _ in range(100):
            callers.call("read", Endpoint.RETRIEVE, priority=Priority.WAITED, takes=0)
            callers.call("write", takes=0)
        await callers.wait()
        return callers.order, callers.times

    order, times = simulated(scene())
    assert len(order) == 200
    assert most_in_a_second(times) <= 20
    assert order[:110].count("write") >= 95


def test_writes_of_one_replica_go_before_reads_of_another() -> None:
    async def scene() -> tuple[int, int]:
        leases = flaky(Rates(endpoint=20, everything=20))
        writes, reads = (Callers(budget=a_budget(Rates(endpoint=20, everything=20), leases)) for _ in range(2))
        for _ in range(200):
            writes.call(takes=0)
            reads.call(endpoint=Endpoint.RETRIEVE, priority=Priority.WAITED, takes=0)
        await writes.wait(8)
        return len(writes.began), len(reads.began)

    writes, reads = simulated(scene())
    assert writes >= 8 * 20 * 0.9
    assert reads <= 8 * 20 * 0.1


def test_a_429_halves_the_pace_for_every_replica_and_it_recovers_within_a_minute() -> None:
    async def scene() -> tuple[float, float, float, int]:
        leases = flaky()
        here, there = (Callers(budget=a_budget(leases=leases)) for _ in range(2))
        here.budget.slow(Endpoint.CREATE)
        here.budget.slow(Endpoint.CREATE)  # of calls that were on their way together
        at_once = here.budget.pace(Endpoint.CREATE)
        await here.wait(0)
        for _ in range(300):
            there.call(takes=0)
        await there.wait(2)
        heard, count = there.budget.pace(Endpoint.CREATE), len(there.began)
        await there.wait(60)
        there.call(takes=0)
        await there.wait(1)
        return at_once, heard, there.budget.pace(Endpoint.CREATE), count

    at_once, heard, later, count = simulated(scene())
    assert (at_once, later) == (0.5, 1)
    assert heard == pytest.approx(0.5, abs=0.05)
    assert 18 <= count <= 26


def test_however_often_stripe_refuses_a_tenth_of_the_pace_is_left() -> None:
    async def scene() -> float:
        budget = a_budget()
        for _ in range(10):
            budget.slow(Endpoint.CREATE, everything=True)
            await asyncio.sleep(1.01)
        return budget.pace(Endpoint.CREATE)

    assert 0.1 <= simulated(scene()) <= 0.15


def test_without_a_rate_there_is_nothing_to_slow() -> None:
    async def scene() -> float:
        budget = a_budget(None)
        budget.slow(Endpoint.CREATE)
        return budget.pace(Endpoint.CREATE)

    assert simulated(scene()) == 1


# --- the store is away ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["away", "silent"])
def test_while_the_store_is_away_the_process_paces_itself_and_goes_on_with_it(how: str) -> None:
    async def scene() -> tuple[list[float], list[bool]]:
        leases = flaky()
        callers = Callers(budget=a_budget(leases=leases))
        for _ in range(400):
            callers.call(takes=0)
        alone = []
        await callers.wait(3)
        alone.append(callers.budget.is_alone)
        setattr(leases, how, True)
        await callers.wait(6)
        alone.append(callers.budget.is_alone)
        setattr(leases, how, False)
        await callers.wait(5)
        alone.append(callers.budget.is_alone)
        await callers.wait()
        return callers.times, alone

    times, alone = simulated(scene())
    assert (len(times), alone) == (400, [False, True, False])
    assert most_in_a_second(times) <= 20 * 1.15 + 1
    assert times[-1] <= 400 / 20 + 5


def test_alone_a_process_takes_its_share_only_and_heeds_a_429() -> None:
    @dataclass(kw_only=True)
    class Busy(Flaky):
        async def lease(self, endpoint: str, **how: Any) -> Lease:
            lease = await super().lease(endpoint, **how)
            return Lease(**vars(lease) | {"busy": 3})

    async def scene() -> tuple[int, int]:
        leases = Busy(shared=LocalLeases(rates=RATES, clock=now))
        callers = Callers(budget=a_budget(leases=leases))
        for _ in range(400):
            callers.call(takes=0)
        await callers.wait(1)
        leases.away = True
        await callers.wait(1)
        before = len(callers.began)
        await callers.wait(4)
        shared = len(callers.began) - before
        callers.budget.slow(Endpoint.CREATE)
        before = len(callers.began)
        await callers.wait(4)
        return shared, len(callers.began) - before

    shared, slowed = simulated(scene())
    assert 18 <= shared <= 22
    assert 8 <= slowed <= 13
