"""Create, verify and status on the fakes: all scenarios, and what only fakes can show."""

import asyncio
from datetime import timedelta

import pytest

from contracts.replies import PaymentStatus
from service.domain.outcomes import Paid, Processing
from tests.kit.scenarios import FAILED, PENDING, Scenario, scenarios
from tests.kit.service import context, policy
from tests.kit.shops import Fakes
from tests.kit.until import until


@pytest.fixture
def shop() -> Fakes:
    return Fakes()


@pytest.mark.parametrize(**scenarios(can_control=True))
async def test_on_fakes(scenario: Scenario, shop: Fakes) -> None:
    await scenario(shop)


# --- create ---------------------------------------------------------------------------------------------------------


async def test_a_create_answers_when_the_time_to_pay_is_over_and_keeps_a_journal(shop: Fakes) -> None:
    answer = await shop.create()
    payment = shop.store.payments[1]
    assert answer.document["expiresAt"] == payment.created_at.timestamp() + 900  # not when the session is over
    assert [entry.kind for entry in await shop.store.journal(payment.id)] == ["created", "opened"]


async def test_fifty_creates_at_once_in_one_process_make_one_call(shop: Fakes) -> None:
    await asyncio.gather(*(shop.create() for _ in range(50)))
    assert await shop.calls() == {"open": 1}


@pytest.mark.parametrize("amount", ["449.97", "500"])
@pytest.mark.parametrize("seconds", [70, 130, 290])
@pytest.mark.parametrize("is_made", [True, False])
async def test_what_can_be_opened_only_when_its_time_is_over_gets_a_new_time(
    amount: str, seconds: int, *, is_made: bool
) -> None:
    """The session lives for longer than its payer's time, so that the gateway takes the old terms all the same."""
    shop = Fakes(policy=policy(window_seconds=120))
    await (shop.lose_answer() if is_made else shop.fail("failed"))
    assert (await shop.create(key="k")).fault[1]
    await shop.fail(None)
    await shop.advance(seconds)
    answer = await shop.create(amount=amount, key="k" if amount == "449.97" else "other")
    assert answer.document["expiresAt"] - shop.clock.now().timestamp() > 60
    assert (await shop.create(amount=amount)).session == answer.session
    assert list((await shop.sessions()).values()) == ["expired", "open"]
    assert await shop.events() == ([PENDING] if amount == "449.97" else [FAILED, PENDING])
    await shop.let_expire(answer.session)
    await shop.verify(answer.session)
    began, compare = shop.clock.now() - timedelta(hours=1), shop.worlds[0].reconciliation.run
    told = [stretch async for stretch in compare(since=began, until=shop.clock.now() + timedelta(hours=1), fix=True)]
    assert not any(stretch.differences for stretch in told)
    assert len(await shop.payments()) == (1 if amount == "449.97" else 2)


async def test_no_new_session_while_money_is_on_its_way(shop: Fakes) -> None:
    session = (await shop.create()).session
    shop.gateway.stand(session, Processing())
    assert (await shop.create(amount="500")).fault == ("IN_PROGRESS", True)
    assert list(shop.gateway.made) == [session]
    pending = await shop.verify(session)
    assert (pending.status, pending.source) == ("PENDING", "gateway")


async def test_a_caller_that_left_while_the_old_session_was_ended_gets_no_new_one(shop: Fakes) -> None:
    await shop.create()
    shop.gateway.before_expiry = lambda _session_id: shop.clock.advance(6)
    assert (await shop.create(amount="500", seconds=5)).fault == ("DEADLINE_EXCEEDED", True)
    assert list((await shop.sessions()).values()) == ["expired"]
    assert len(await shop.payments()) == 1


# --- verify ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("paid", [False, True])
async def test_who_asks_again_while_the_feed_is_current_gets_what_its_next_read_stores(
    shop: Fakes,
    paid: bool,  # noqa: FBT001
) -> None:
    world, waiters = shop.worlds[0], shop.worlds[0].waiters
    session = (await shop.create()).session
    await shop.verify(session)
    shop.clock.advance(2)
    waiters.notify_read(seconds_ago=0)
    asking = asyncio.create_task(shop.verify(session))
    await waiters.read_requested()
    await until(lambda: len(waiters))
    if paid:
        payment = shop.store.payments[1]
        fitting = Paid(money=payment.money, reference=payment.reference, livemode=False)
        await world.outcomes.apply(payment, fitting, context=context())
        waiters.notify(payment.id)
    else:
        waiters.notify_read(seconds_ago=0)
    answer = await asking
    assert (answer.status, answer.source) == ("COMPLETED" if paid else "PENDING", "gateway")
    assert (await shop.calls())["look_up"] == 1


async def test_a_feed_that_has_fallen_silent_is_not_waited_for(shop: Fakes) -> None:
    session = (await shop.create()).session
    await shop.verify(session)
    shop.clock.advance(2)
    await shop.pay(session)
    world = shop.worlds[0]
    assert world.waiters.last_read_seconds_ago() > world.policy.feed_trusted_seconds
    assert (await shop.verify(session)).status == "COMPLETED"
    assert (await shop.calls())["look_up"] == 2


async def test_a_call_that_takes_longer_than_the_window_keeps_other_replicas_from_asking(shop: Fakes) -> None:
    session = (await shop.create()).session
    first = shop.worlds[0].replica(policy=policy(freshness_seconds=0.02))
    find = shop.store.payment_of_session
    payment = await find(session)
    assert payment is not None
    async with shop.slow():
        asking = asyncio.create_task(first.status_lookup.look_up(payment, context=context()))
        claims = set()
        while len(claims) < 3:  # renewed, and renewed again
            shop.clock.advance(0.02)
            await asyncio.sleep(0.005)
            claims.add(getattr(await find(session), "asked_at", None))
    assert (await asking).answered
    assert (await shop.calls())["look_up"] == 1


async def test_another_replica_learns_what_the_one_that_asks_learns(shop: Fakes) -> None:
    session = (await shop.create()).session
    other, late, pending = shop.worlds[1], shop.worlds[2], shop.store.payments[1]
    await shop.pay(session)
    async with shop.slow():
        asking = asyncio.create_task(shop.verify(session))
        await until(lambda: "look_up" in shop.gateway.calls)
        elsewhere = asyncio.create_task(shop.verify(session, replica=1))
        await until(lambda: len(other.waiters))
    assert (await asking).status == "COMPLETED"
    other.waiters.notify(1)  # as PostgreSQL does
    assert (await elsewhere).status == "COMPLETED"
    learned = await late.status_lookup.look_up(pending, context=context())  # it had read the payment before
    assert learned.payment.status.is_final
    assert (await shop.calls())["look_up"] == 1


async def test_a_verify_with_a_deadline_is_not_kept_longer_and_its_answer_is_stored(shop: Fakes) -> None:
    session = (await shop.create()).session
    async with shop.slow() as seconds:
        assert (await shop.verify(session, seconds=seconds)).fault == ("DEADLINE_EXCEEDED", True)
        await shop.pay(session)
    await shop.drain()
    assert (await shop.status(session)).status == PaymentStatus.COMPLETED
