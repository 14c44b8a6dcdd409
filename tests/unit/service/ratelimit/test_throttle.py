"""How many permits there are in a second, whatever happens."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.ratelimit.permit import Endpoint, Priority
from service.ratelimit.quota import Rates
from tests.kit.service import QUICK
from tests.kit.virtual_time import simulated, stall
from tests.unit.service.ratelimit.callers import SETTLED, Callers, a_limiter, flaky, most_in_a_second, virtual


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
        quota_store = flaky(Rates(endpoint=rate))
        members = [Callers(limiter=a_limiter(Rates(endpoint=rate), quota_store)) for _ in range(replicas)]
        for gap, who, takes, used, stalled in calls:
            members[who % replicas].call(used, takes=takes, used=used)
            await asyncio.sleep(gap)
            await asyncio.sleep(0.00037)  # who has been given a permit is off
            stall(stalled)
        await asyncio.sleep(60 / rate + SETTLED)
        began = [at for member in members for used, at in member.began if used]
        for member in members:
            await member.limiter.close()
            await asyncio.gather(*member.tasks, return_exceptions=True)
        assert sum(len(member.began) for member in members) == len(calls)
        return began

    assert most_in_a_second(simulated(scene())) <= rate * 1.15 + 1


@virtual
async def test_a_process_that_stood_still_does_not_make_up_for_it() -> None:
    callers = Callers(limiter=a_limiter(Rates(endpoint=20)))
    callers.calls(200, takes=0)
    for _ in range(20):
        await callers.wait(0.4)
        stall(0.3)
    await callers.wait()
    assert len(callers.times) == 200
    assert most_in_a_second(callers.times) <= 20


@virtual
async def test_a_queue_is_served_at_the_full_rate() -> None:
    callers = Callers(limiter=a_limiter(quota_store=flaky(), concurrency=200))
    callers.calls(400, takes=5)
    await callers.wait()
    assert (len(callers.times) - 1) / (callers.times[-1] - callers.times[0]) >= 19.8


@virtual
async def test_all_endpoints_together_keep_to_the_global_rate_and_writes_go_first() -> None:
    callers = Callers(limiter=a_limiter(Rates(endpoint=20, everything=20)))
    for _ in range(100):
        callers.call("read", Endpoint.RETRIEVE, priority=Priority.WAITED, takes=0)
        callers.call("write", takes=0)
    await callers.wait()
    assert len(callers.order) == 200
    assert most_in_a_second(callers.times) <= 20
    assert callers.order[:110].count("write") >= 95


@virtual
async def test_writes_of_one_replica_go_before_reads_of_another() -> None:
    quota_store = flaky(Rates(endpoint=20, everything=20))
    writes, reads = (Callers(limiter=a_limiter(Rates(endpoint=20, everything=20), quota_store)) for _ in range(2))
    for _ in range(200):
        writes.call(takes=0)
        reads.call(endpoint=Endpoint.RETRIEVE, priority=Priority.WAITED, takes=0)
    await writes.wait(8)
    assert len(writes.began) >= 8 * 20 * 0.9
    assert len(reads.began) <= 8 * 20 * 0.1


@virtual
async def test_a_429_halves_the_rate_for_every_replica_and_it_recovers_within_a_minute() -> None:
    quota_store = flaky()
    here, there = (Callers(limiter=a_limiter(quota_store=quota_store)) for _ in range(2))
    here.limiter.throttle(Endpoint.CREATE)
    here.limiter.throttle(Endpoint.CREATE)  # of calls that were on their way together
    assert here.limiter.rate_factor(Endpoint.CREATE) == 0.5
    await here.wait(0)
    for _ in range(300):
        there.call(takes=0)
    await there.wait(2)
    assert there.limiter.rate_factor(Endpoint.CREATE) == pytest.approx(0.5, abs=0.05)
    assert 18 <= len(there.began) <= 26
    await there.wait(60)
    there.call(takes=0)
    await there.wait(1)
    assert there.limiter.rate_factor(Endpoint.CREATE) == 1


@virtual
async def test_however_often_stripe_refuses_a_tenth_of_the_rate_is_left() -> None:
    limiter, without_rate = a_limiter(), a_limiter(None)
    for _ in range(10):
        limiter.throttle(Endpoint.CREATE, everything=True)
        without_rate.throttle(Endpoint.CREATE)
        await asyncio.sleep(1.01)
    assert 0.1 <= limiter.rate_factor(Endpoint.CREATE) <= 0.15
    assert without_rate.rate_factor(Endpoint.CREATE) == 1


# --- the quota store is away ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["away", "silent"])
@virtual
async def test_while_the_quota_store_is_away_the_process_keeps_the_rate_and_goes_on_with_it(how: str) -> None:
    quota_store = flaky()
    callers = Callers(limiter=a_limiter(quota_store=quota_store))
    callers.calls(400, takes=0)
    await callers.wait(3)
    assert not callers.limiter.is_local
    setattr(quota_store, how, True)
    await callers.wait(6)
    assert callers.limiter.is_local
    setattr(quota_store, how, False)
    await callers.wait(5)
    assert not callers.limiter.is_local
    await callers.wait()
    assert len(callers.times) == 400
    assert most_in_a_second(callers.times) <= 20 * 1.15 + 1
    assert callers.times[-1] <= 400 / 20 + 5


@virtual
async def test_with_local_quota_a_process_takes_its_share_only_and_heeds_a_429() -> None:
    quota_store = flaky(busy=3)
    callers = Callers(limiter=a_limiter(quota_store=quota_store))

    async def began_in(seconds: float) -> int:
        before = len(callers.began)
        await callers.wait(seconds)
        return len(callers.began) - before

    callers.calls(400, takes=0)
    await callers.wait(1)
    quota_store.away = True
    await callers.wait(1)
    assert 18 <= await began_in(4) <= 22
    callers.limiter.throttle(Endpoint.CREATE)
    assert 8 <= await began_in(4) <= 13
