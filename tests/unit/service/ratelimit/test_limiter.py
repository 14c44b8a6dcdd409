"""Who gets the next permit, who comes too late, and the end."""

import asyncio
from datetime import timedelta

import pytest

from service.ratelimit.permit import Endpoint, PermitDeniedError, Priority
from service.ratelimit.quota import Rates
from tests.kit.clock import NOW
from tests.kit.observers import CountingObserver
from tests.unit.service.ratelimit.callers import Callers, a_limiter, flaky, now, virtual

# --- the wait queue -------------------------------------------------------------------------------------------------


@virtual
async def test_the_queue_is_by_priority_then_reservation_then_arrival() -> None:
    callers = Callers(limiter=a_limiter(Rates(endpoint=1)))
    callers.call("first")
    await callers.wait(0.5)
    callers.call("background", priority=Priority.BACKGROUND, arrived_at=NOW)
    callers.call("waited", priority=Priority.WAITED)
    callers.call("late", arrived_at=NOW + timedelta(seconds=2))
    callers.call("as late, behind", arrived_at=NOW + timedelta(seconds=2))
    callers.call("early", arrived_at=NOW)
    await callers.wait()
    assert callers.order == ["first", "early", "late", "as late, behind", "waited", "background"]


@virtual
async def test_a_lone_call_waits_for_nothing_and_takes_one_permit_of_the_quota() -> None:
    quota_store = flaky()
    callers = Callers(limiter=a_limiter(quota_store=quota_store))
    for _ in range(100):
        callers.call(takes=0)
        await callers.wait(1 / 20)
    assert callers.times == pytest.approx([number / 20 for number in range(100)])
    assert quota_store.asked == [("create", 1, None)] * 100


@virtual
async def test_without_a_rate_only_the_number_of_calls_at_once_counts() -> None:
    callers = Callers(limiter=a_limiter(None, concurrency=3))
    callers.calls(7, takes=1)
    await callers.wait()
    assert callers.times == [0, 0, 0, 1, 1, 1, 2]


@virtual
async def test_who_leaves_the_queue_takes_no_permit_along() -> None:
    callers = Callers(limiter=a_limiter(Rates(endpoint=2)))
    calls = [callers.call(number) for number in range(40)]
    await callers.wait(0.1)
    for call in calls[1::2]:
        call.cancel()
    await callers.wait()
    assert (callers.order, callers.waiting()) == (list(range(0, 40, 2)), 0)
    assert callers.times[-1] - callers.times[0] == pytest.approx(9.5, abs=0.2)


@virtual
async def test_who_is_cancelled_in_the_moment_of_the_permit_passes_it_on() -> None:
    callers = Callers(limiter=a_limiter(None, concurrency=1))
    callers.call("holder", takes=1)
    await callers.wait(0.1)
    given = callers.call("given")
    callers.call("next")
    await callers.wait(0.1)
    asyncio.get_running_loop().call_at(1.0, lambda: asyncio.get_running_loop().call_soon(given.cancel))
    await callers.wait()
    assert callers.order[-1] == "next"
    assert callers.limiter.is_free(Endpoint.CREATE)


@virtual
async def test_a_permit_that_ends_while_the_next_in_the_queue_is_leaving_goes_to_the_one_behind() -> None:
    callers = Callers(limiter=a_limiter(None, concurrency=1))
    tasks = [callers.call(name) for name in ("first", "second", "third")]
    await callers.wait(0.1)
    tasks[0].cancel()
    tasks[1].cancel()  # before the first has given its permit back
    await callers.wait()
    assert not tasks[2].cancelled()
    assert callers.order == ["first", "third"]


@virtual
async def test_an_unused_permit_goes_to_the_next_at_once() -> None:
    callers = Callers(limiter=a_limiter(Rates(endpoint=4)))
    for name in ("first", "unused", "next", "last"):
        callers.call(name, used=name != "unused", takes=0.05)
    await callers.wait()
    began = dict(callers.began)
    assert began["next"] - began["unused"] == pytest.approx(0.05)
    assert began["last"] - began["unused"] == pytest.approx(0.25)


@virtual
async def test_reads_leave_room_for_writes_and_writes_for_reads() -> None:
    callers = Callers(limiter=a_limiter(None, concurrency=16))
    callers.calls(40, "read", Endpoint.RETRIEVE, priority=Priority.WAITED, takes=1)
    await callers.wait(0.1)
    callers.calls(40, "write", takes=1)
    await callers.wait(0.5)
    first = list(callers.order)
    await callers.wait(1)
    second = callers.order[len(first) :]
    assert (first.count("read"), first.count("write")) == (12, 4)
    assert second.count("read") >= 1
    assert second.count("write") >= 12


@virtual
async def test_a_reserved_permit_is_claimed_by_its_holders_call_and_by_no_other() -> None:
    limiter, at = a_limiter(Rates(endpoint=1)), []
    for holder in (7, None, 8):
        reserved = await limiter.acquire(Endpoint.CREATE, holder=7)
        async with limiter.permit(Endpoint.CREATE, holder=holder) as permit:
            permit.use()
            at.append(now())
            limiter.release(reserved)  # whoever reserved it has left; the call goes on
            assert not limiter.is_free(Endpoint.CREATE)
    assert at == [0, 2, 4]


@virtual
async def test_every_permit_is_counted_by_what_became_of_it() -> None:
    observer = CountingObserver()
    callers = Callers(limiter=a_limiter(concurrency=1, observer=observer))
    for used in (True, False, True):
        callers.call(used=used, takes=1)
    callers.call(seconds=0.5)
    await callers.wait()
    await asyncio.gather(*callers.tasks, return_exceptions=True)
    assert observer == {"permit create denied": 1, "permit create unused": 1, "permit create used": 2}


# --- who comes too late ---------------------------------------------------------------------------------------------


@virtual
async def test_who_would_come_too_late_is_denied_at_once_with_the_time_to_wait() -> None:
    callers = Callers(limiter=a_limiter())
    callers.calls(200)
    await callers.wait(1)
    asked_at = now()
    with pytest.raises(PermitDeniedError) as denied:
        await callers.limiter.acquire(Endpoint.CREATE, seconds=5)
    assert now() == asked_at
    assert denied.value.wait_seconds == pytest.approx(callers.waiting() / 20, rel=0.1)


@virtual
async def test_who_has_an_early_reservation_is_estimated_by_it() -> None:
    callers = Callers(limiter=a_limiter())
    for number in range(100):
        callers.call(arrived_at=NOW + timedelta(seconds=number))
    await callers.wait(0.1)
    wait_seconds = callers.limiter.wait_seconds
    assert wait_seconds(Endpoint.CREATE, NOW) < 0.2
    assert wait_seconds(Endpoint.CREATE, NOW + timedelta(seconds=50)) == pytest.approx(2.35, abs=0.3)
    assert wait_seconds(Endpoint.CREATE) == pytest.approx(4.75, abs=0.3)


@virtual
async def test_who_waits_in_vain_is_denied_when_its_time_is_over() -> None:
    quota_store = flaky()
    callers = Callers(limiter=a_limiter(quota_store=quota_store))
    quota_store.silent = True
    with pytest.raises(PermitDeniedError):
        await callers.limiter.acquire(Endpoint.CREATE, seconds=1)
    assert (now(), callers.waiting()) == (1, 0)


@virtual
async def test_slow_calls_that_fill_all_slots_are_part_of_the_estimate() -> None:
    callers = Callers(limiter=a_limiter(concurrency=4))
    callers.calls(400, takes=5)
    await callers.wait(200)
    assert abs(callers.limiter.wait_seconds(Endpoint.CREATE) - callers.waiting() * 5 / 4) < 20


@virtual
async def test_a_permit_is_free_unless_somebody_waits_for_this_endpoint_or_all_are_taken() -> None:
    callers = Callers(limiter=a_limiter())
    is_free = callers.limiter.is_free
    assert is_free(Endpoint.CREATE)
    callers.calls(1000)
    await callers.wait(2)
    assert not is_free(Endpoint.CREATE)
    assert is_free(Endpoint.RETRIEVE)
    asked_at = now()
    await callers.limiter.acquire(Endpoint.RETRIEVE, priority=Priority.WAITED, seconds=0.2)
    assert now() == asked_at
    await callers.wait(60)
    assert is_free(Endpoint.CREATE)

    only = a_limiter(None, concurrency=1)
    async with only.permit(Endpoint.CREATE):
        await asyncio.sleep(0)
        assert not only.is_free(Endpoint.CREATE)
    assert only.is_free(Endpoint.CREATE)


# --- the end --------------------------------------------------------------------------------------------------------


@virtual
async def test_at_the_end_everybody_who_waits_is_sent_away() -> None:
    quota_store = flaky()
    callers = Callers(limiter=a_limiter(quota_store=quota_store))
    callers.calls(50, takes=1)
    await callers.wait(0.5)
    quota_store.silent = True
    await callers.wait(0.5)
    await callers.limiter.close()
    closed_at = now()
    ended = await asyncio.gather(*callers.tasks, return_exceptions=True)
    with pytest.raises(PermitDeniedError):
        await callers.limiter.acquire(Endpoint.CREATE)
    assert {type(end) for end in ended} == {type(None), PermitDeniedError}
    assert now() - closed_at <= 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtual
async def test_while_nobody_waits_nothing_runs() -> None:
    quota_store = flaky()
    callers = Callers(limiter=a_limiter(quota_store=quota_store))
    callers.calls(30, takes=0)
    await callers.wait(5)
    asked = len(quota_store.asked)
    await callers.wait(3600)
    assert len(quota_store.asked) == asked
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtual
async def test_the_quota_store_learns_of_a_queue_at_most_twice_a_second() -> None:
    quota_store = flaky()
    callers = Callers(limiter=a_limiter(quota_store=quota_store))
    callers.calls(200, takes=0)
    await callers.wait(5)
    reported = [waiting for _, _, waiting in quota_store.asked if waiting is not None]
    assert 8 <= len(reported) <= 11
    assert reported == sorted(reported, reverse=True)
