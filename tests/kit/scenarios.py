"""What create and verify promise, each promise once. It runs on fakes, on real ports and on a service by messages."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final
from uuid import uuid4

from tests.kit.shops import BOOKINGS, Shop

Scenario = Callable[[Shop], Awaitable[None]]
_EVERYWHERE: Final[list[Scenario]] = []
_CONTROLLED: Final[list[Scenario]] = []
PENDING, COMPLETED, FAILED = "payment.pending", "payment.completed", "payment.failed"
ENDS: Final = {"complete": "COMPLETED", "expired": "FAILED"}
RACES: Final = 20
ATTENTION = "payment.attention"


def everywhere(scenario: Scenario) -> Scenario:
    _EVERYWHERE.append(scenario)
    return scenario


def controlled(scenario: Scenario) -> Scenario:
    """Only where the test controls the clocks and what the provider refuses."""
    _CONTROLLED.append(scenario)
    return scenario


def scenarios(*, can_control: bool) -> dict[str, Any]:
    """As `pytest.mark.parametrize` takes them."""
    return parameters([*_EVERYWHERE, *(_CONTROLLED if can_control else [])])


def parameters(possible: list[Scenario]) -> dict[str, Any]:
    return {"argnames": "scenario", "argvalues": possible, "ids": [each.__name__ for each in possible]}


@asynccontextmanager
async def trouble(shop: Shop, name: str | None = None) -> AsyncIterator[None]:
    """Meanwhile the provider fails, in any of its ways unless one is named."""
    await shop.fail(name or next(iter(shop.troubles)))
    yield
    await shop.fail(None)


# --- repeats --------------------------------------------------------------------------------------------------------


@everywhere
async def a_repeat_in_any_form_has_the_same_answer_and_no_second_effect(shop: Shop) -> None:
    message_id, key = str(uuid4()), str(uuid4())
    first = await shop.create(message_id=message_id, key=key)
    assert first.document["status"] == "pending"
    for replica in range(shop.replicas):
        assert await shop.create(message_id=message_id, key=key, replica=replica) == first
        assert await shop.create(key=key, replica=replica) == first
        assert await shop.create(replica=replica) == first
    [payment] = await shop.payments()
    assert (payment.session_id, payment.version) == (first.session, 1)
    assert await shop.calls() == {"open": 1}
    assert await shop.events() == [PENDING]


@everywhere
async def an_idempotency_key_or_message_id_belongs_to_one_request_of_one_caller(shop: Shop) -> None:
    message_id, key = str(uuid4()), str(uuid4())
    first = await shop.create(message_id=message_id, key=key)
    others: list[dict[str, Any]] = [{"amount": "450"}, {"userId": 6}, {"bookingId": next(BOOKINGS)}]
    for other in [*others, {"currency": "usd"}, {"successUrl": "https://shop.example/x"}]:
        assert (await shop.create(key=key, **other)).fault == ("IDEMPOTENCY_KEY_REUSED", False)
    assert (await shop.create(message_id=message_id, amount="450")).fault == ("VALIDATION_ERROR", False)
    assert await shop.calls() == {"open": 1}
    assert len(await shop.payments()) == 1
    shop.booking = next(BOOKINGS)
    assert (await shop.create(key=key, caller="b", amount="450")).session != first.session


@everywhere
async def fifty_at_once_get_one_session(shop: Shop) -> None:
    """F2 With one key and without, at one replica and at all of them."""
    for replicas, has_key in itertools.product({1, shop.replicas}, (False, True)):
        shop.booking = next(BOOKINGS)
        key = str(uuid4()) if has_key else None
        answers = await asyncio.gather(*(shop.create(replica=number % replicas, key=key) for number in range(50)))
        conflicts = {(code, True) for code in shop.conflicts} if replicas > 1 else set()
        assert {answer.fault for answer in answers} <= {(None, None)} | conflicts
        assert await shop.sessions() == {answer.session: "open" for answer in answers if "sessionId" in answer.document}
        assert len(await shop.sessions()) == len(await shop.payments()) == 1
        assert await shop.events() == [PENDING]


# --- another amount -------------------------------------------------------------------------------------------------


@everywhere
async def another_amount_ends_the_old_session_before_it_makes_a_new_one(shop: Shop) -> None:
    old = await shop.create()
    new = await shop.create(amount="500")
    assert await shop.sessions() == {old.session: "expired", new.session: "open"}
    assert await shop.calls() == {"open": 2, "expire": 1}
    payments = [(payment.status, payment.reason) for payment in await shop.payments()]
    assert payments == [("FAILED", "replaced"), ("PENDING", None)]
    assert await shop.events() == [PENDING, FAILED, PENDING]
    assert (await shop.verify(old.session)).status == "FAILED"


@everywhere
async def a_paid_booking_is_not_charged_again(shop: Shop) -> None:
    first = await shop.create()
    await shop.pay(first.session)
    for amount in ("500", "449.97"):
        refused = await shop.create(amount=amount)
        assert refused.fault == ("ALREADY_PAID", False)
        assert refused.document["transactionId"] == first.session
    assert await shop.sessions() == {first.session: "complete"}
    assert await shop.events() == [PENDING, COMPLETED]


@everywhere
async def many_amounts_at_once_leave_at_most_one_payable_session(shop: Shop) -> None:
    attempts = (shop.create(amount=str(100 + number), replica=number % shop.replicas) for number in range(20))
    codes = {answer.fault[0] for answer in await asyncio.gather(*attempts)}
    assert codes <= {None, "IN_PROGRESS", "FAILED"} | shop.conflicts
    assert [*(await shop.sessions()).values()].count("open") <= 1
    assert [payment.status for payment in await shop.payments()].count("PENDING") <= 1


# --- what the provider does -----------------------------------------------------------------------------------------


@controlled
async def a_refused_payment_fails_once_and_a_new_command_may_try_again(shop: Shop) -> None:
    message_id = str(uuid4())
    await shop.refuse(payments=True)
    for _ in range(3):
        assert (await shop.create(message_id=message_id)).fault == ("FAILED", False)
    [payment] = await shop.payments()
    assert (payment.status, payment.reason) == ("FAILED", "refused")
    assert await shop.calls() == {"open": 1}
    assert await shop.events() == [FAILED]
    await shop.refuse(payments=False)
    assert (await shop.create()).document["status"] == "pending"


@everywhere
async def an_outage_decides_nothing_and_repeats_after_it_make_one_session(shop: Shop) -> None:
    for name, code in shop.troubles.items():
        shop.booking = next(BOOKINGS)
        async with trouble(shop, name):
            assert (await shop.create()).fault == (code, True)
        [payment] = await shop.payments()
        assert (payment.status, payment.version, payment.session_id) == ("PENDING", 0, None)
        assert await shop.events() == []
        old = await shop.create()
        async with trouble(shop, name):
            assert (await shop.create(amount="500")).fault == (code, True)
            local = await shop.verify(old.session)
        assert (local.status, local.source) == ("PENDING", "local")
        assert local.document["message"].startswith("The payment provider could not be asked just now.")
        assert await shop.sessions() == {old.session: "open"}
        assert len(await shop.payments()) == 1
        new = await shop.create(amount="500")
        assert await shop.sessions() == {old.session: "expired", new.session: "open"}


@controlled
async def a_create_resumed_after_a_minute_looks_how_its_session_stands(shop: Shop) -> None:
    async def begun(*, made: bool) -> None:
        """A create that has failed, a minute ago: its answer was lost, or it never reached the provider."""
        shop.booking = next(BOOKINGS)
        await (shop.lose_answer() if made else shop.fail(next(iter(shop.troubles))))
        assert (await shop.create()).fault[1]
        await shop.fail(None)
        await shop.advance(61)

    for made in (True, False):
        before = await shop.calls()
        await begun(made=made)
        async with trouble(shop):
            assert (await shop.create(replica=1)).fault[1]
        answer = await shop.create(replica=1)
        assert (await shop.calls() - before)["look_up"] == 1
        assert await shop.sessions() == {answer.session: "open"}
    await begun(made=True)
    [old] = await shop.sessions()
    new = await shop.create(amount="500")
    assert await shop.sessions() == {old: "expired", new.session: "open"}
    await begun(made=True)
    [session] = await shop.sessions()
    await shop.pay(session)
    assert (await shop.create(replica=1)).fault == ("ALREADY_PAID", False)
    assert [payment.status for payment in await shop.payments()] == ["COMPLETED"]
    assert await shop.sessions() == {session: "complete"}


@everywhere
async def money_that_does_not_fit_needs_a_person_and_no_checkout_is_handed_out(shop: Shop) -> None:
    key = str(uuid4())
    session = (await shop.create(key=key)).session
    await shop.pay_differently(session)
    for answer in (await shop.verify(session), await shop.status(session)):
        assert (answer.status, answer.attention) == ("PENDING", "paid_differently")
        assert answer.document["message"].startswith("Money has arrived that does not fit")
    for sent in ({}, {"key": key}, {"amount": "500"}):
        held = await shop.create(**sent)
        assert held.fault == ("NEEDS_ATTENTION", False)
        assert (held.document["transactionId"], "already arrived" in held.document["message"]) == (session, True)
    assert (await shop.calls() - Counter(look_up=1)) == {"open": 1}
    assert await shop.events() == [PENDING, ATTENTION]


@everywhere
async def a_page_that_has_taken_the_payment_is_not_handed_out_again(shop: Shop) -> None:
    """M6 Complete, but the money has not arrived: neither "please pay" nor another session."""
    session = (await shop.create()).session
    await shop.begin_to_pay(session)
    pending = await shop.verify(session)
    assert (pending.status, pending.attention) == ("PENDING", None)
    assert pending.document["message"] == "The payment is being processed. Please do not pay again."
    assert (await shop.status(session)).document == pending.document
    for amount in ("449.97", "500"):
        busy = await shop.create(amount=amount)
        assert (busy.fault, busy.document["transactionId"]) == (("IN_PROGRESS", True), session)
        assert "being processed" in busy.document["message"]
    assert len(await shop.payments()) == 1
    assert await shop.events() == [PENDING]


# --- time -----------------------------------------------------------------------------------------------------------


@controlled
async def a_session_past_its_end_is_replaced_unless_it_was_paid(shop: Shop) -> None:
    message_id = str(uuid4())
    old = await shop.create(message_id=message_id)
    await shop.advance(36 * 60)
    redelivered = await shop.create(message_id=message_id)
    assert redelivered.fault == ("FAILED", False)
    assert "has ended" in redelivered.document["message"]
    new = await shop.create()
    assert await shop.sessions() == {old.session: "expired", new.session: "open"}
    await shop.pay(new.session)
    await shop.advance(36 * 60)
    assert (await shop.create()).fault == ("ALREADY_PAID", False)


@controlled
async def after_an_outage_of_any_length_the_same_create_succeeds(shop: Shop) -> None:
    for seconds in (10 * 60, 30 * 3600):
        shop.booking = next(BOOKINGS)
        sent = {"message_id": str(uuid4()), "key": str(uuid4())}
        async with trouble(shop):
            assert (await shop.create(**sent)).fault[1]
        await shop.advance(seconds)
        async with trouble(shop):
            assert (await shop.create(**sent)).fault[1]
        answer = await shop.create(replica=1, **sent)
        assert await shop.create(**sent) == await shop.create() == answer
        assert await shop.sessions() == {answer.session: "open"}
        assert [payment.session_id for payment in await shop.payments()] == [answer.session]
        assert await shop.events() == [PENDING]


@controlled
async def what_could_not_be_opened_in_time_ends_when_other_content_comes(shop: Shop) -> None:
    for seconds in (10 * 60, 30 * 3600):
        shop.booking = next(BOOKINGS)
        async with trouble(shop):
            assert (await shop.create()).fault[1]
        await shop.advance(seconds)
        answer = await shop.create(amount="500")
        assert await shop.sessions() == {answer.session: "open"}
        payments = [(payment.status, payment.reason, payment.session_id) for payment in await shop.payments()]
        assert payments == [("FAILED", "replaced", None), ("PENDING", None, answer.session)]


@everywhere
async def a_caller_whose_deadline_passes_leaves_and_the_session_is_kept(shop: Shop) -> None:
    async with shop.slow() as seconds:
        assert (await shop.create(seconds=seconds)).fault == ("DEADLINE_EXCEEDED", True)
    await shop.drain()
    [payment] = await shop.payments()
    assert await shop.sessions() == {payment.session_id: "open"}
    assert (await shop.create()).session == payment.session_id


@controlled
async def whoever_races_for_a_payment_it_ends_once_and_as_the_provider_says(shop: Shop) -> None:
    """F59 Verifies and sweepers of all replicas, a payer, and a create for another amount."""
    chance = random.Random(59)  # noqa: S311 - the same in every run

    async def sooner_or_later(racer: Awaitable[Any]) -> None:
        await asyncio.sleep(chance.uniform(0, 0.01))
        with suppress(AssertionError):  # the page takes no payment any more
            await racer

    ends = Counter[str]()
    for number in range(RACES):
        shop.booking = next(BOOKINGS)
        session = (await shop.create()).session
        await shop.advance(16 * 60)
        racers: list[Awaitable[Any]] = []
        for each in range(shop.replicas):
            racers += [shop.verify(session, replica=each), shop.sweep(session, replica=each)]
        if number % 2:
            racers.append(shop.pay(session))
        if number % 3 == 0:
            racers.append(shop.create(amount="500"))
        await asyncio.gather(*map(sooner_or_later, racers))
        await shop.sweep(session, replica=0)
        first, *_ = await shop.payments()
        assert (first.status, first.version) == (ENDS[(await shop.sessions())[session]], 2)
        assert (await shop.events())[:2] == [PENDING, f"payment.{first.status.lower()}"]
        ends[first.status] += 1
    assert min(ends["COMPLETED"], ends["FAILED"]) > 0


# --- verify and status ----------------------------------------------------------------------------------------------


@everywhere
async def a_session_is_pending_until_it_is_paid_and_then_completed_for_ever(shop: Shop) -> None:
    unpaid = (await shop.create()).session
    pending = await shop.verify(unpaid)
    assert (pending.status, pending.source, pending.document["transactionId"]) == ("PENDING", "gateway", unpaid)
    shop.booking = next(BOOKINGS)
    session = (await shop.create()).session
    await shop.pay(session)
    assert (await shop.status(session)).status == "PENDING"  # status never asks
    final = await shop.verify(session)
    assert (final.status, final.source) == ("COMPLETED", "gateway")
    async with trouble(shop):
        assert await shop.verify(session) == final
        assert (await shop.status(session)).document == final.document
    assert (await shop.calls())["look_up"] == 2
    assert await shop.events() == [PENDING, COMPLETED]


@everywhere
async def an_expired_session_is_failed(shop: Shop) -> None:
    session = (await shop.create()).session
    await shop.let_expire(session)
    failed = await shop.verify(session)
    assert (failed.status, failed.source) == ("FAILED", "gateway")
    assert "Nothing was charged" in failed.document["message"]
    assert await shop.events() == [PENDING, FAILED]


@controlled
async def within_the_freshness_window_nobody_asks_twice(shop: Shop) -> None:
    session = (await shop.create()).session
    async with trouble(shop):
        assert (await shop.verify(session)).source == "local"
    await shop.advance(0.5)
    assert (await shop.verify(session)).source == "local"
    await shop.advance(0.5)
    before = await shop.calls()
    assert (await shop.verify(session)).source == "gateway"
    await shop.pay(session)
    await shop.advance(0.5)
    assert (await shop.verify(session)).status == "PENDING"
    assert await shop.calls() - before == {"look_up": 1}
    await shop.advance(0.5)
    assert (await shop.verify(session)).status == "COMPLETED"


@controlled
async def all_who_verify_at_once_share_one_call(shop: Shop) -> None:
    for replicas in {1, shop.replicas}:
        shop.booking = next(BOOKINGS)
        session = (await shop.create()).session
        await shop.pay(session)
        before = await shop.calls()
        answers = await asyncio.gather(*(shop.verify(session, replica=number % replicas) for number in range(30)))
        statuses = {answer.status for answer in answers}
        assert statuses == {"COMPLETED"} or (replicas > 1 and "COMPLETED" in statuses)
        assert (await shop.verify(session)).status == "COMPLETED"
        assert (await shop.calls() - before)["look_up"] == 1


@everywhere
async def an_unknown_session_is_not_found_and_not_invented(shop: Shop) -> None:
    for answer in (await shop.verify("cs_test_stranger"), await shop.status("cs_test_stranger")):
        assert answer.fault == ("NOT_FOUND", False)
    assert not await shop.calls()
    assert await shop.payments() == []
