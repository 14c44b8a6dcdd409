"""The store port: one suite for the fake and for PostgreSQL."""

import asyncio
import itertools
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from service.adapters.postgres import Database, PostgresStore
from service.application.ports import Begun, Relation, RequestKey, Store
from service.domain.errors import (
    ConcurrentChangeError,
    IdempotencyKeyReusedError,
    InvalidRequestError,
    MessageIdReusedError,
    PaymentServiceError,
)
from service.domain.money import Money
from service.domain.outcomes import Expired, Opened, Outcome, Paid, Refused
from service.domain.payment import Draft, Payment, PaymentStatus, RefusedRequest
from service.domain.status import Change, ChangeKind, decide, renewed
from tests.kit.clock import NOW
from tests.kit.fake_store import FakeStore
from tests.kit.service import a_draft, context, idempotency_key, message_key

BOOKINGS = itertools.count(os.getpid() * 1_000_000 + 1)
"""Bookings that no other test has: the suites of a worker share its database and this counter."""


@pytest.fixture(params=["fake", "postgres"])
def store(request: pytest.FixtureRequest, database: Database) -> Store:
    return FakeStore() if request.param == "fake" else PostgresStore(database)


async def begun(store: Store, draft: Draft, *keys: RequestKey) -> Begun:
    return await store.begin(draft, keys=keys or [message_key()], request_id="request-1")


async def changed(store: Store, payment: Payment, outcome: Outcome) -> Payment:
    change = decide(payment, outcome, at=NOW)
    assert change is not None
    return await store.record(change, context=context())


async def opened(store: Store, booking: int) -> Payment:
    payment = (await begun(store, a_draft(booking_id=booking))).payment
    return await changed(store, payment, an_opening())


def an_opening() -> Opened:
    session_id = f"cs_test_{uuid4().hex}"
    return Opened(session_id=session_id, payment_url=f"https://pay.example/{session_id}#x", expires_at=NOW)


def fitting(payment: Payment) -> Paid:
    return Paid(money=payment.money, reference=payment.reference, livemode=False)


# --- begin ----------------------------------------------------------------------------------------------------------


async def test_a_first_draft_becomes_a_pending_payment_with_the_first_line_of_its_journal(
    store: Store, booking: int
) -> None:
    draft = a_draft(booking_id=booking)
    first = await begun(store, draft)
    payment = first.payment
    assert first.relation is Relation.CREATED
    assert {name: getattr(payment, name) for name in Draft.__dataclass_fields__} == vars(draft)
    assert (payment.status, payment.version, payment.updated_at) == (PaymentStatus.PENDING, 0, NOW)
    assert payment.id > 0
    assert payment.session_id is payment.payment_url is payment.reason is payment.attention is None
    assert payment.asked_at is payment.ask_failed_at is None
    assert await store.payment(payment.id) == payment
    (line,) = await store.journal(payment.id)
    assert (line.at, line.version, line.kind, line.status) == (NOW, 0, "created", "PENDING")
    assert (line.detail, line.request_id) == ({}, "request-1")


async def test_each_key_of_a_payment_answers_it_again_even_after_its_end(store: Store, booking: int) -> None:
    draft, key = a_draft(booking_id=booking), idempotency_key(str(uuid4()))
    message, under_its_key, same_content = message_key(), message_key(), message_key()
    payment = (await begun(store, draft, message, key)).payment
    repeated = Begun(payment=payment, relation=Relation.REPEATED)
    assert await begun(store, draft, message) == repeated
    assert await begun(store, draft, under_its_key, key) == repeated
    assert await begun(store, draft, same_content) == Begun(payment=payment, relation=Relation.SAME)
    assert len(await store.journal(payment.id)) == 1
    ended = await changed(store, payment, Expired())
    for each in (message, key, under_its_key, same_content):
        assert await begun(store, draft, each) == Begun(payment=ended, relation=Relation.REPEATED)


@pytest.mark.parametrize(
    ("other", "has_session"),
    [
        ({"money": Money(44998, "inr")}, False),
        ({"money": Money(44997, "usd")}, False),
        ({"user_id": 6}, False),
        ({"success_url": "https://shop.example/other"}, False),
        ({"cancel_url": "https://shop.example/other"}, False),
        ({"created_at": NOW + timedelta(minutes=36)}, True),  # the payment seems over
    ],
    ids=str,
)
async def test_other_content_is_not_inserted_and_its_key_stays_free_until_the_payment_has_failed(
    store: Store, booking: int, other: dict[str, Any], *, has_session: bool
) -> None:
    payment = (await begun(store, a_draft(booking_id=booking, expires_at=NOW))).payment
    if has_session:
        payment = await changed(store, payment, an_opening())
    draft, key = a_draft(booking_id=booking, **other), message_key()
    assert await begun(store, draft, key) == Begun(payment=payment, relation=Relation.OTHER)
    await changed(store, payment, Expired())
    second = await begun(store, draft, key)
    assert second.relation is Relation.CREATED
    assert second.payment.id != payment.id


async def test_a_paid_booking_takes_no_other_payment(store: Store, booking: int) -> None:
    payment = await opened(store, booking)
    paid = await changed(store, payment, fitting(payment))
    assert (await begun(store, a_draft(booking_id=booking))).payment == paid
    answer = await begun(store, a_draft(booking_id=booking, user_id=6))
    assert answer == Begun(payment=paid, relation=Relation.OTHER)


async def test_a_key_with_other_content_is_refused_and_nothing_is_inserted(store: Store, booking: int) -> None:
    message, name, other = message_key(), str(uuid4()), a_draft(booking_id=next(BOOKINGS))
    await begun(store, a_draft(booking_id=booking), message, idempotency_key(name, caller="a"))
    with pytest.raises(IdempotencyKeyReusedError):
        await begun(store, other, message_key(fingerprint="f2"), idempotency_key(name, "f2", caller="a"))
    with pytest.raises(MessageIdReusedError):
        await begun(store, other, replace(message, fingerprint="f2"))
    # the key of another caller is another key
    created = await begun(store, other, message_key(fingerprint="f2"), idempotency_key(name, "f2", caller="b"))
    assert created.relation is Relation.CREATED


async def test_what_was_sent_or_what_it_means_makes_a_repeat_and_a_request_that_is_refused_inserts_nothing(
    store: Store, booking: int
) -> None:
    key, name = message_key(fingerprint="as sent"), str(uuid4())
    named = idempotency_key(name, "as sent")
    payment = (await begun(store, a_draft(booking_id=booking, sent="as sent"), key, named)).payment
    assert payment.sent == "as sent"
    refused = RefusedRequest(
        booking_id=booking, user_id=5, created_at=NOW, sent="as sent", error=InvalidRequestError("currency ...")
    )
    new_default = a_draft(booking_id=booking, sent="as sent", money=Money(44997, "usd"))
    other_words = a_draft(booking_id=booking, sent="in other words")
    for request in (refused, new_default, other_words):
        other_keys = [replace(each, fingerprint=request.sent or "") for each in (key, named)]
        repeated = await store.existing(request, keys=other_keys)
        assert repeated == Begun(payment=payment, relation=Relation.REPEATED)
        same = await store.existing(request, keys=[message_key(fingerprint=request.sent or "")])
        assert same == Begun(payment=payment, relation=Relation.SAME)
    unlike = replace(refused, sent="otherwise")
    assert await store.existing(unlike, keys=[message_key()]) == Begun(payment=payment, relation=Relation.OTHER)
    with pytest.raises(IdempotencyKeyReusedError):
        await store.existing(unlike, keys=[idempotency_key(name, "otherwise")])
    await changed(store, payment, Expired())
    assert await store.existing(unlike, keys=[message_key()]) is None


async def test_a_payment_of_which_it_is_not_known_what_was_sent_is_known_by_its_content(
    store: Store, booking: int
) -> None:
    payment = (await begun(store, a_draft(booking_id=booking))).payment
    assert (await begun(store, a_draft(booking_id=booking, sent="as sent"))).relation is Relation.SAME
    other = await begun(store, a_draft(booking_id=booking, user_id=6))
    assert other == Begun(payment=payment, relation=Relation.OTHER)


@pytest.mark.parametrize("relation", [Relation.SAME, Relation.REPEATED, Relation.OTHER])
async def test_fifty_at_once_for_one_booking_make_one_payment(store: Store, booking: int, relation: Relation) -> None:
    """With the same content, as copies of one message, and each with its own content."""
    key = [message_key()] if relation is Relation.REPEATED else []
    step = 1 if relation is Relation.OTHER else 0
    drafts = [a_draft(booking_id=booking, money=Money(1000 + nth * step, "inr")) for nth in range(50)]
    answers = await asyncio.gather(*(begun(store, draft, *key) for draft in drafts))
    assert len({answer.payment.id for answer in answers}) == 1
    relations = [answer.relation for answer in answers]
    assert (relations.count(Relation.CREATED), relations.count(relation)) == (1, 49)
    assert len(await store.journal(answers[0].payment.id)) == 1


@pytest.mark.parametrize("live", [0, 4, 8], ids=lambda live: f"{live} bookings live")
async def test_one_key_raced_with_different_contents_belongs_to_one_of_them(store: Store, live: int) -> None:
    for _ in range(10):
        key, bookings = str(uuid4()), [next(BOOKINGS) for _ in range(8)]
        for number in bookings[:live]:
            await begun(store, a_draft(booking_id=number))
        keys = [(message_key(fingerprint=str(number)), idempotency_key(key, str(number))) for number in bookings]
        drafts = [a_draft(booking_id=number) for number in bookings]
        attempts = (begun(store, draft, *both) for draft, both in zip(drafts, keys, strict=True))
        answers = await asyncio.gather(*attempts, return_exceptions=True)
        losers = [answer for answer in answers if isinstance(answer, PaymentServiceError)]
        assert sum(isinstance(answer, Begun) for answer in answers) == 1
        assert [type(loser) for loser in losers] == [IdempotencyKeyReusedError] * 7


async def test_what_exists_is_what_begin_would_answer_and_its_keys_are_bound(store: Store, booking: int) -> None:
    draft, key = a_draft(booking_id=booking, created_at=NOW - timedelta(minutes=1)), idempotency_key(f"k-{booking}")
    assert await store.existing(draft, keys=[message_key()]) is None
    payment = await opened(store, booking)
    assert await store.existing(draft, keys=[message_key(), key]) == Begun(payment=payment, relation=Relation.SAME)
    other = replace(draft, user_id=6)
    assert await store.existing(other, keys=[message_key()]) == Begun(payment=payment, relation=Relation.OTHER)
    failed = await changed(store, payment, Expired())
    assert await store.existing(draft, keys=[message_key(), key]) == Begun(payment=failed, relation=Relation.REPEATED)
    assert await store.existing(draft, keys=[message_key()]) is None
    with pytest.raises(IdempotencyKeyReusedError):
        await store.existing(other, keys=[replace(key, fingerprint="other")])


# --- record ---------------------------------------------------------------------------------------------------------


async def test_a_change_is_stored_with_a_line_of_the_journal(store: Store, booking: int) -> None:
    payment = await opened(store, booking)
    late = NOW + timedelta(seconds=5)
    stored = replace(payment, status=PaymentStatus.FAILED, reason="refused", version=2, updated_at=late)
    change = Change(payment=stored, kind=ChangeKind.FAILED, detail={"gateway": "amount_too_small ü"})
    assert await store.record(change, context=context(request_id="request-2")) == stored
    assert await store.payment(payment.id) == await store.payment_of_session(payment.session_id or "") == stored
    line = (await store.journal(payment.id))[-1]
    assert (line.at, line.version, line.kind, line.status) == (late, 2, "failed", "FAILED")
    assert (line.detail, line.request_id) == ({"gateway": "amount_too_small ü"}, "request-2")


async def test_a_payment_leads_to_the_trace_in_which_it_was_begun(store: Store, booking: int) -> None:
    payment = (await begun(store, a_draft(booking_id=booking))).payment
    assert await store.trace_parent_of(payment.id) is None, "it has told nobody of itself yet"
    first, later = (f"00-{digit * 32}-{digit * 16}-01" for digit in "ab")
    for outcome, trace_parent in ((an_opening(), first), (fitting(payment), later)):
        change = decide(payment, outcome, at=NOW)
        assert change is not None
        payment = await store.record(change, context=context(trace_parent=trace_parent))
    assert await store.trace_parent_of(payment.id) == first


async def test_a_change_never_touches_what_was_frozen(database: Database, booking: int) -> None:
    """What the fake need not do: the columns are not among those that a change writes."""
    store = PostgresStore(database)
    payment = await opened(store, booking)
    frozen = {"money": Money(1, "usd"), "user_id": 99, "created_at": NOW, "gateway_request": {"other": 1}}
    bent = replace(payment, version=2, **frozen)
    await store.record(Change(payment=bent, kind=ChangeKind.OPENED), context=context())
    assert await store.payment(payment.id) == replace(payment, version=2)


async def test_new_terms_replace_the_old_ones_of_a_payment_without_a_session_and_are_no_version(
    store: Store, booking: int
) -> None:
    """M4 The same payment and its keys, a line of the journal each time, and no event."""
    key = message_key()
    payment = (await begun(store, a_draft(booking_id=booking), key)).payment
    for minutes in (10, 20):
        at = NOW + timedelta(minutes=minutes)
        change = renewed(payment, reference=str(uuid4()), at=at, expires_at=at + timedelta(minutes=35))
        terms = replace(change, payment=replace(change.payment, gateway_request={"expires_at": minutes}))
        before, payment = payment, await store.renew(terms, context=context())
        assert await store.payment(payment.id) == payment == terms.payment
        known = {"session_id": "cs_test_early", "booking_id": booking}
        assert await store.payment_told_of(**known, reference=before.reference) == payment
        assert await store.payment_told_of(**known, reference=payment.reference) is None
        for late in (an_opening(), Refused()):  # the answer to a call under the terms that are replaced
            outcome = decide(before, late, at=at)
            assert outcome is not None
            with pytest.raises(ConcurrentChangeError):
                await store.record(outcome, context=context())
        with pytest.raises(ConcurrentChangeError):
            await store.renew(terms, context=context())
    assert await begun(store, a_draft(booking_id=booking), key) == Begun(payment=payment, relation=Relation.REPEATED)
    stored = await changed(store, payment, an_opening())
    with pytest.raises(ConcurrentChangeError):
        await store.renew(renewed(stored, reference="r", at=NOW, expires_at=NOW), context=context())
    lines = [(line.version, line.kind) for line in await store.journal(payment.id)]
    assert lines == [(0, "created"), (0, "renewed"), (0, "renewed"), (1, "opened")]


@pytest.mark.parametrize("version", [1, 3, 7])
async def test_a_change_of_another_version_is_refused_and_leaves_no_trace(
    store: Store, booking: int, version: int
) -> None:
    payment = await opened(store, booking)
    stale = replace(payment, version=version, status=PaymentStatus.COMPLETED)
    with pytest.raises(ConcurrentChangeError):
        await store.record(Change(payment=stale, kind=ChangeKind.COMPLETED), context=context())
    assert await store.payment(payment.id) == payment
    assert len(await store.journal(payment.id)) == 2


async def test_of_many_changes_at_once_one_wins(store: Store, booking: int) -> None:
    payment = await opened(store, booking)
    outcomes: Sequence[Outcome] = [Expired(), fitting(payment)] * 10
    answers = await asyncio.gather(*(changed(store, payment, outcome) for outcome in outcomes), return_exceptions=True)
    winners = [answer for answer in answers if isinstance(answer, Payment)]
    assert [type(answer) for answer in answers].count(ConcurrentChangeError) == 19
    assert [await store.payment(payment.id)] == winners
    assert [line.version for line in await store.journal(payment.id)] == [0, 1, 2]


# --- queries --------------------------------------------------------------------------------------------------------


async def test_what_is_not_there_is_not_found(store: Store) -> None:
    assert await store.payment(2**62) is None
    assert await store.payment_of_session("cs_test_none") is None
    assert await store.journal(2**62) == []
    assert not await store.claim_ask(2**62, at=NOW, fresh_seconds=0)


async def test_of_many_payments_those_that_are_final_are_found(store: Store, booking: int) -> None:
    pending, paid = await opened(store, booking), await opened(store, next(BOOKINGS))
    failed = (await begun(store, a_draft(booking_id=next(BOOKINGS)))).payment
    final = [await changed(store, paid, fitting(paid)), await changed(store, failed, Expired())]
    found = await store.final_among([pending.id, paid.id, failed.id, 2**62])
    assert sorted(found, key=lambda payment: payment.id) == final
    assert await store.final_among([]) == []


# --- asking the gateway ---------------------------------------------------------------------------------------------


async def claim(store: Store, payment: Payment, seconds: float, *, fresh_seconds: float = 1) -> bool:
    return await store.claim_ask(payment.id, at=NOW + timedelta(seconds=seconds), fresh_seconds=fresh_seconds)


async def test_one_caller_per_window_may_ask_the_gateway(store: Store, booking: int) -> None:
    payment = await opened(store, booking)
    assert sum(await asyncio.gather(*(claim(store, payment, 0) for _ in range(20)))) == 1
    claims = [await claim(store, payment, seconds) for seconds in (0, 0.5, 0.999, 1.0, 1.5, 2.0)]
    assert claims == [False, False, False, True, False, True]
    assert all([await claim(store, payment, 2, fresh_seconds=0) for _ in range(3)])


async def test_a_question_that_a_wrong_clock_dated_in_the_future_keeps_nobody_from_asking(
    store: Store, booking: int
) -> None:
    payment = await opened(store, booking)
    assert await claim(store, payment, 3600)
    assert [await claim(store, payment, seconds) for seconds in (0, 0.5, 1)] == [True, False, True]
    assert await claim(store, payment, 30)
    assert not await claim(store, payment, 1), "clocks may differ by so much"


async def test_a_failed_question_is_stored_with_the_question_and_is_no_change(store: Store, booking: int) -> None:
    payment = await opened(store, booking)
    later = NOW + timedelta(seconds=1)
    assert await claim(store, payment, 0)
    assert await claim(store, payment, 1)
    await store.note_ask_failed(payment.id, at=NOW)  # late, of the question before
    assert await store.payment(payment.id) == replace(payment, asked_at=later)
    await store.note_ask_failed(payment.id, at=later)
    assert await store.payment(payment.id) == replace(payment, asked_at=later, ask_failed_at=later)
    paid = await changed(store, payment, fitting(payment))
    assert await store.payment(payment.id) == replace(paid, version=2, asked_at=later, ask_failed_at=later)


# --- unfinished payments --------------------------------------------------------------------------------------------

LONG_AGO = NOW - timedelta(days=3650)
"""No other test's payments are that old, so that they are not claimed here."""


async def left_behind(store: Store, booking: int, *, with_session: bool) -> Payment:
    """Its time to pay is over after 100 s."""
    pay_until = LONG_AGO + timedelta(seconds=100)
    payment = (await begun(store, a_draft(booking_id=booking, created_at=LONG_AGO, pay_until=pay_until))).payment
    assert payment.pay_until == pay_until
    return await changed(store, payment, an_opening()) if with_session else payment


async def unsettled(store: Store, *, unopened: float = -60, at: float = 0, limit: int = 100) -> list[int]:
    """Ids of the payments claimed; all times are seconds from long ago."""
    moments = [LONG_AGO + timedelta(seconds=seconds) for seconds in (at, unopened)]
    claimed = await store.claim_unfinished(at=moments[0], unopened_before=moments[1], limit=limit)
    return [payment.id for payment in claimed]


async def finish(store: Store, *payments: Payment) -> None:
    for payment in payments:
        await changed(store, await store.payment(payment.id) or payment, Expired())


@pytest.mark.parametrize(
    ("with_session", "early", "late"),
    [(False, {"unopened": -1}, {"unopened": 1}), (True, {"unopened": 1, "at": 99}, {"unopened": 1, "at": 100})],
)
async def test_a_payment_is_claimed_when_its_time_is_over_until_it_is_final(
    store: Store, booking: int, early: dict[str, float], late: dict[str, float], *, with_session: bool
) -> None:
    payment = await left_behind(store, booking, with_session=with_session)
    assert await unsettled(store, **early) == []
    assert await unsettled(store, **late) == [payment.id]
    await finish(store, payment)
    assert await unsettled(store, **late | {"at": 500}) == []


async def test_a_payment_whose_time_to_pay_is_not_stored_is_claimed_when_its_session_ends(
    store: Store, booking: int
) -> None:
    opening = replace(an_opening(), expires_at=LONG_AGO + timedelta(seconds=200))
    draft = a_draft(booking_id=booking, created_at=LONG_AGO)
    payment = await changed(store, (await begun(store, draft)).payment, opening)
    assert await unsettled(store, at=199) == []
    assert await unsettled(store, at=200) == [payment.id]
    await finish(store, payment)


async def test_each_try_is_counted_and_keeps_others_away_for_longer(store: Store, booking: int) -> None:
    payment = await left_behind(store, booking, with_session=False)
    at, tries = 0.0, []
    for _ in range(4):
        tries.append(await unsettled(store, unopened=1, at=at))
        assert await unsettled(store, unopened=1, at=at + 20 * len(tries)) == []
        at += 400
    assert tries == [[payment.id]] * 4
    assert await store.payment(payment.id) == replace(payment, settle_attempts=4)
    await finish(store, payment)


async def test_replicas_share_the_unfinished_payments(store: Store) -> None:
    payments = [await left_behind(store, next(BOOKINGS), with_session=False) for _ in range(12)]
    claims = await asyncio.gather(*(unsettled(store, unopened=1, limit=3) for _ in range(6)))
    claimed = [payment_id for claim in claims for payment_id in claim]
    assert sorted(claimed) == sorted(set(claimed))
    while len(claimed) < len(payments):  # who met a locked row got less than there was
        more = await unsettled(store, unopened=1)
        assert more
        claimed += more
    assert sorted(claimed) == [payment.id for payment in payments]
    await finish(store, *payments)


# --- pruning of keys ------------------------------------------------------------------------------------------------


async def keyed(store: Store, booking: int, days: int) -> tuple[Draft, RequestKey, RequestKey]:
    """A create of so many days after long ago: its draft, its message id and its idempotency key."""
    draft = a_draft(booking_id=booking, created_at=LONG_AGO + timedelta(days=days))
    message, key = message_key(), idempotency_key(str(uuid4()))
    payment = (await begun(store, draft, message, key)).payment
    await changed(store, payment, Expired())
    return draft, message, key


async def test_old_keys_and_message_ids_are_forgotten_and_newer_ones_are_not(store: Store, booking: int) -> None:
    await store.prune_keys(before=LONG_AGO + timedelta(days=30), limit=10_000)  # other tests' keys
    draft, message, old = await keyed(store, booking, 0)
    _, _, newer = await keyed(store, booking, 2)
    assert await store.prune_keys(before=LONG_AGO, limit=10) == 0
    assert await store.prune_keys(before=LONG_AGO + timedelta(days=1), limit=10) == 2
    assert (await begun(store, draft, newer)).relation is Relation.REPEATED
    again = await begun(store, replace(draft, reference=str(uuid4())), message, old)
    assert again.relation is Relation.CREATED
    await finish(store, again.payment)
    await store.prune_keys(before=LONG_AGO + timedelta(days=3), limit=10)


async def test_the_oldest_keys_are_forgotten_first_and_pruners_share_them(store: Store, booking: int) -> None:
    await store.prune_keys(before=LONG_AGO + timedelta(days=30), limit=10_000)  # other tests' keys
    kept = [await keyed(store, booking, day) for day in range(12)]
    before = LONG_AGO + timedelta(days=11)
    counts = await asyncio.gather(*(store.prune_keys(before=before, limit=2) for _ in range(4)))
    assert max(counts) <= 2
    assert sum(counts) + await store.prune_keys(before=before, limit=100) == 22
    draft, _, newest = kept[-1]
    assert (await begun(store, draft, newest)).relation is Relation.REPEATED
    assert await store.prune_keys(before=LONG_AGO + timedelta(days=12), limit=100) == 2
