"""The store port: one suite for the fake and for PostgreSQL."""

import asyncio
import itertools
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from service.adapters.store import Database, PostgresStore
from service.application.ports import Begun, Relation, RequestKey, Store
from service.domain.errors import (
    ConcurrentChangeError,
    IdempotencyKeyReusedError,
    MessageIdReusedError,
    PaymentServiceError,
)
from service.domain.money import Money
from service.domain.outcomes import Expired, Opened, Outcome, Paid
from service.domain.payment import Draft, Payment, PaymentStatus
from service.domain.status import Change, ChangeKind, decide
from tests.fakes import FakeStore
from tests.service_support import NOW, a_draft, context, idempotency_key, message_key

_bookings = itertools.count(os.getpid() * 1_000_000 + 1)


@pytest.fixture(params=["fake", "postgres"])
def store(request: pytest.FixtureRequest, database: Database) -> Store:
    return FakeStore() if request.param == "fake" else PostgresStore(database)


@pytest.fixture
def booking() -> int:
    """A booking that no other test has."""
    return next(_bookings)


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


# --- begin ----------------------------------------------------------------------------------------------------------


async def test_a_first_draft_becomes_a_pending_payment(store: Store, booking: int) -> None:
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


async def test_the_insertion_is_the_first_line_of_the_journal(store: Store, booking: int) -> None:
    payment = (await begun(store, a_draft(booking_id=booking))).payment
    (line,) = await store.journal(payment.id)
    assert (line.at, line.version, line.kind, line.status) == (NOW, 0, "created", "PENDING")
    assert (line.detail, line.request_id) == ({}, "request-1")


async def test_the_same_message_again_is_the_same_payment(store: Store, booking: int) -> None:
    key = message_key()
    first = await begun(store, a_draft(booking_id=booking), key)
    again = await begun(store, a_draft(booking_id=booking), key)
    assert again == Begun(payment=first.payment, relation=Relation.REPEATED)
    assert len(await store.journal(first.payment.id)) == 1


async def test_a_repeated_key_answers_the_payment_even_after_its_end(store: Store, booking: int) -> None:
    key = message_key()
    payment = (await begun(store, a_draft(booking_id=booking), key)).payment
    ended = await changed(store, payment, Expired())
    assert await begun(store, a_draft(booking_id=booking), key) == Begun(payment=ended, relation=Relation.REPEATED)


async def test_the_same_content_of_a_live_booking_is_the_same_payment(store: Store, booking: int) -> None:
    first = await begun(store, a_draft(booking_id=booking))
    other_key = message_key()
    again = await begun(store, a_draft(booking_id=booking), other_key)
    assert again == Begun(payment=first.payment, relation=Relation.SAME)
    assert (await begun(store, a_draft(booking_id=booking), other_key)).relation is Relation.REPEATED


@pytest.mark.parametrize(
    "other",
    [
        {"money": Money(44998, "inr")},
        {"money": Money(44997, "usd")},
        {"user_id": 6},
        {"success_url": "https://shop.example/other"},
        {"cancel_url": "https://shop.example/other"},
    ],
    ids=str,
)
async def test_other_content_of_a_live_booking_is_told_and_not_inserted(
    store: Store, booking: int, other: dict[str, object]
) -> None:
    first = await begun(store, a_draft(booking_id=booking))
    key = message_key()
    answer = await begun(store, a_draft(booking_id=booking, **other), key)
    assert answer == Begun(payment=first.payment, relation=Relation.OTHER)
    # and its key stays free, for the next round
    await changed(store, first.payment, Expired())
    assert (await begun(store, a_draft(booking_id=booking, **other), key)).relation is Relation.CREATED


@pytest.mark.parametrize(("has_session", "minutes"), [(True, 36), (False, 5)])
async def test_a_payment_that_seems_over_is_told_as_another_so_that_keys_stay_free(
    store: Store, booking: int, *, has_session: bool, minutes: int
) -> None:
    first = await begun(store, a_draft(booking_id=booking, expires_at=NOW))
    payment = await changed(store, first.payment, an_opening()) if has_session else first.payment
    key, late = message_key(), a_draft(booking_id=booking, created_at=NOW + timedelta(minutes=minutes))
    assert await begun(store, late, key) == Begun(payment=payment, relation=Relation.OTHER)
    await changed(store, payment, Expired())
    assert (await begun(store, late, key)).relation is Relation.CREATED


async def test_a_paid_booking_takes_no_other_payment(store: Store, booking: int) -> None:
    payment = await opened(store, booking)
    paid = await changed(store, payment, Paid(money=payment.money, reference=payment.reference, livemode=False))
    assert (await begun(store, a_draft(booking_id=booking))).payment == paid
    answer = await begun(store, a_draft(booking_id=booking, user_id=6))
    assert answer == Begun(payment=paid, relation=Relation.OTHER)


async def test_a_failed_payment_frees_its_booking(store: Store, booking: int) -> None:
    payment = (await begun(store, a_draft(booking_id=booking))).payment
    await changed(store, payment, Expired())
    second = await begun(store, a_draft(booking_id=booking))
    assert second.relation is Relation.CREATED
    assert second.payment.id != payment.id


async def test_a_caller_may_repeat_under_its_key_with_a_new_message(store: Store, booking: int) -> None:
    key = idempotency_key(str(uuid4()))
    first = await begun(store, a_draft(booking_id=booking), message_key(), key)
    second_message = message_key()
    again = await begun(store, a_draft(booking_id=booking), second_message, key)
    assert again == Begun(payment=first.payment, relation=Relation.REPEATED)
    assert (await begun(store, a_draft(booking_id=booking), second_message)).relation is Relation.REPEATED


async def test_a_key_with_other_content_is_refused_and_nothing_is_inserted(store: Store, booking: int) -> None:
    key, other_booking = str(uuid4()), next(_bookings)
    await begun(store, a_draft(booking_id=booking), message_key(), idempotency_key(key))
    with pytest.raises(IdempotencyKeyReusedError):
        await begun(store, a_draft(booking_id=other_booking), message_key(fingerprint="f2"), idempotency_key(key, "f2"))
    assert (await begun(store, a_draft(booking_id=other_booking))).relation is Relation.CREATED


async def test_a_message_id_with_other_content_is_refused(store: Store, booking: int) -> None:
    key = message_key()
    await begun(store, a_draft(booking_id=booking), key)
    with pytest.raises(MessageIdReusedError):
        await begun(store, a_draft(booking_id=booking), replace(key, fingerprint="f2"))


async def test_two_callers_may_use_the_same_key(store: Store, booking: int) -> None:
    key = str(uuid4())
    await begun(store, a_draft(booking_id=booking), message_key(), idempotency_key(key, caller="a"))
    other = await begun(
        store,
        a_draft(booking_id=next(_bookings)),
        message_key(fingerprint="f2"),
        idempotency_key(key, "f2", caller="b"),
    )
    assert other.relation is Relation.CREATED


async def test_fifty_at_once_for_one_booking_make_one_payment(store: Store, booking: int) -> None:
    answers = await asyncio.gather(*(begun(store, a_draft(booking_id=booking)) for _ in range(50)))
    assert len({answer.payment.id for answer in answers}) == 1
    relations = [answer.relation for answer in answers]
    assert relations.count(Relation.CREATED) == 1
    assert relations.count(Relation.SAME) == 49
    assert len(await store.journal(answers[0].payment.id)) == 1


async def test_fifty_copies_of_one_message_make_one_payment(store: Store, booking: int) -> None:
    key = message_key()
    answers = await asyncio.gather(*(begun(store, a_draft(booking_id=booking), key) for _ in range(50)))
    assert len({answer.payment.id for answer in answers}) == 1
    assert [answer.relation for answer in answers].count(Relation.CREATED) == 1


async def test_fifty_different_contents_at_once_for_one_booking_make_one_payment(store: Store, booking: int) -> None:
    drafts = [a_draft(booking_id=booking, money=Money(1000 + number, "inr")) for number in range(50)]
    answers = await asyncio.gather(*(begun(store, draft) for draft in drafts))
    assert len({answer.payment.id for answer in answers}) == 1
    assert sorted(answer.relation for answer in answers) == ["created", *["other"] * 49]


@pytest.mark.parametrize("live", [0, 4, 8], ids=lambda live: f"{live} bookings live")
async def test_one_key_raced_with_different_contents_belongs_to_one_of_them(store: Store, live: int) -> None:
    for _ in range(10):
        key, bookings = str(uuid4()), [next(_bookings) for _ in range(8)]
        for number in bookings[:live]:
            await begun(store, a_draft(booking_id=number))
        attempts = (
            begun(
                store,
                a_draft(booking_id=number),
                message_key(fingerprint=str(number)),
                idempotency_key(key, str(number)),
            )
            for number in bookings
        )
        answers = await asyncio.gather(*attempts, return_exceptions=True)
        winners = [answer for answer in answers if isinstance(answer, Begun)]
        losers = [answer for answer in answers if isinstance(answer, PaymentServiceError)]
        assert len(winners) == 1
        assert [type(loser) for loser in losers] == [IdempotencyKeyReusedError] * 7


# --- record ---------------------------------------------------------------------------------------------------------


async def test_a_change_is_stored_with_a_line_of_the_journal(store: Store, booking: int) -> None:
    payment = await opened(store, booking)
    late = NOW + timedelta(seconds=5)
    stored = replace(payment, status=PaymentStatus.FAILED, reason="refused", version=2, updated_at=late)
    change = Change(payment=stored, kind=ChangeKind.FAILED, detail={"gateway": "amount_too_small ü"})
    assert await store.record(change, context=context(request_id="request-2")) == stored
    assert await store.payment(payment.id) == stored
    line = (await store.journal(payment.id))[-1]
    assert (line.at, line.version, line.kind, line.status) == (late, 2, "failed", "FAILED")
    assert (line.detail, line.request_id) == ({"gateway": "amount_too_small ü"}, "request-2")


async def test_a_change_never_touches_what_was_frozen(store: Store, booking: int) -> None:
    payment = await opened(store, booking)
    bent = replace(
        payment, version=2, money=Money(1, "usd"), user_id=99, reference=str(uuid4()), gateway_request={"other": 1}
    )
    await store.record(Change(payment=bent, kind=ChangeKind.OPENED), context=context())
    stored = await store.payment(payment.id)
    assert stored is not None
    if not isinstance(store, FakeStore):
        assert replace(stored, version=1) == payment


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
    outcomes: Sequence[Outcome] = [
        Expired(),
        Paid(money=payment.money, reference=payment.reference, livemode=False),
    ] * 10
    answers = await asyncio.gather(*(changed(store, payment, outcome) for outcome in outcomes), return_exceptions=True)
    winners = [answer for answer in answers if isinstance(answer, Payment)]
    assert [type(answer) for answer in answers].count(ConcurrentChangeError) == 19
    assert [await store.payment(payment.id)] == winners
    assert [line.version for line in await store.journal(payment.id)] == [0, 1, 2]


# --- reading --------------------------------------------------------------------------------------------------------


async def test_a_payment_is_found_by_its_session(store: Store, booking: int) -> None:
    payment = await opened(store, booking)
    assert await store.payment_of_session(payment.session_id or "") == payment


async def test_what_is_not_there_is_not_found(store: Store) -> None:
    assert await store.payment(2**62) is None
    assert await store.payment_of_session("cs_test_none") is None
    assert await store.journal(2**62) == []


# --- asking ---------------------------------------------------------------------------------------------------------


async def claim(store: Store, payment: Payment, seconds: float) -> bool:
    return await store.claim_ask(payment.id, at=NOW + timedelta(seconds=seconds), fresh_seconds=1)


async def test_the_gateway_is_asked_once_per_window(store: Store, booking: int) -> None:
    payment = await opened(store, booking)
    claims = [await claim(store, payment, seconds) for seconds in (0, 0, 0.5, 0.999, 1.0, 1.5, 2.0)]
    assert claims == [True, False, False, False, True, False, True]


async def test_of_many_who_want_to_ask_one_may(store: Store, booking: int) -> None:
    payment = await opened(store, booking)
    assert sum(await asyncio.gather(*(claim(store, payment, 0) for _ in range(20)))) == 1


async def test_without_a_window_everybody_may_ask(store: Store, booking: int) -> None:
    payment = await opened(store, booking)
    assert all([await store.claim_ask(payment.id, at=NOW, fresh_seconds=0) for _ in range(3)])


async def test_nobody_asks_about_a_payment_that_is_not_there(store: Store) -> None:
    assert not await store.claim_ask(2**62, at=NOW, fresh_seconds=0)


async def test_asking_in_vain_is_remembered(store: Store, booking: int) -> None:
    payment = await opened(store, booking)
    await claim(store, payment, 0)
    await store.note_ask_failed(payment.id, at=NOW)
    assert await store.payment(payment.id) == replace(payment, asked_at=NOW, ask_failed_at=NOW)


async def test_a_late_failure_says_nothing_of_a_newer_question(store: Store, booking: int) -> None:
    payment = await opened(store, booking)
    await claim(store, payment, 0)
    await claim(store, payment, 1)
    await store.note_ask_failed(payment.id, at=NOW)
    assert await store.payment(payment.id) == replace(payment, asked_at=NOW + timedelta(seconds=1))


async def test_asking_is_no_change(store: Store, booking: int) -> None:
    payment = await opened(store, booking)
    await claim(store, payment, 0)
    await store.note_ask_failed(payment.id, at=NOW)
    paid = Paid(money=payment.money, reference=payment.reference, livemode=False)
    await changed(store, payment, paid)
    stored = await store.payment(payment.id)
    assert stored is not None
    assert (stored.version, stored.asked_at, stored.ask_failed_at) == (2, NOW, NOW)


# --- what nobody finishes -------------------------------------------------------------------------------------------

LONG_AGO = NOW - timedelta(days=3650)
"""No other test's payments are that old, so that they are not claimed here."""


async def left_behind(store: Store, booking: int, *, with_session: bool) -> Payment:
    payment = (await begun(store, a_draft(booking_id=booking, created_at=LONG_AGO))).payment
    return await changed(store, payment, an_opening()) if with_session else payment


async def unsettled(
    store: Store, *, unopened: float = -60, unpaid: float = -60, at: float = 0, limit: int = 100
) -> list[int]:
    """Ids of the payments claimed; all times are seconds from long ago."""
    moments = [LONG_AGO + timedelta(seconds=seconds) for seconds in (at, unopened, unpaid)]
    claimed = await store.claim_unsettled(
        at=moments[0], unopened_before=moments[1], unpaid_before=moments[2], limit=limit
    )
    return [payment.id for payment in claimed]


async def settled(store: Store, *payments: Payment) -> None:
    """Out of the way of the other tests."""
    for payment in payments:
        current = await store.payment(payment.id) or payment
        await changed(store, current, Expired())


async def test_a_payment_without_a_session_is_claimed_when_it_is_stuck(store: Store, booking: int) -> None:
    payment = await left_behind(store, booking, with_session=False)
    assert await unsettled(store, unopened=-1) == []
    assert await unsettled(store, unopened=1) == [payment.id]
    await settled(store, payment)


async def test_a_payment_with_a_session_is_claimed_when_its_time_is_over(store: Store, booking: int) -> None:
    payment = await left_behind(store, booking, with_session=True)
    assert await unsettled(store, unopened=1) == []
    assert await unsettled(store, unopened=1, unpaid=1) == [payment.id]
    await settled(store, payment)


async def test_a_final_payment_is_never_claimed(store: Store, booking: int) -> None:
    await settled(store, await left_behind(store, booking, with_session=True))
    assert await unsettled(store, unopened=1, unpaid=1) == []


async def test_each_try_is_counted_and_keeps_others_away_for_longer(store: Store, booking: int) -> None:
    payment = await left_behind(store, booking, with_session=False)
    at, tries = 0.0, []
    for _ in range(4):
        tries.append(await unsettled(store, unopened=1, at=at))
        assert await unsettled(store, unopened=1, at=at + 20 * len(tries)) == []
        at += 400
    assert tries == [[payment.id]] * 4
    stored = await store.payment(payment.id)
    assert stored is not None
    assert stored.settle_attempts == 4
    assert stored.version == payment.version
    await settled(store, payment)


async def test_replicas_share_the_work(store: Store, booking: int) -> None:
    payments = [await left_behind(store, booking + offset * 10**12, with_session=False) for offset in range(12)]
    claims = await asyncio.gather(*(unsettled(store, unopened=1, limit=3) for _ in range(6)))
    claimed = [payment_id for claim in claims for payment_id in claim]
    assert sorted(claimed) == sorted(set(claimed))
    while len(claimed) < len(payments):  # who met a locked row got less than there was
        more = await unsettled(store, unopened=1)
        assert more
        claimed += more
    assert sorted(claimed) == [payment.id for payment in payments]
    await settled(store, *payments)


# --- forgetting keys ------------------------------------------------------------------------------------------------


async def keyed(store: Store, booking: int, days: int) -> tuple[Draft, RequestKey, RequestKey]:
    """A create of so many days after long ago: its draft, its message id and its idempotency key."""
    draft = a_draft(booking_id=booking, created_at=LONG_AGO + timedelta(days=days))
    message, key = message_key(), idempotency_key(str(uuid4()))
    payment = (await begun(store, draft, message, key)).payment
    await changed(store, payment, Expired())
    return draft, message, key


async def test_an_old_idempotency_key_is_forgotten_and_a_newer_one_is_not(store: Store, booking: int) -> None:
    draft, _, old = await keyed(store, booking, 0)
    _, _, newer = await keyed(store, booking, 2)
    assert await store.prune_keys(before=LONG_AGO, limit=10) == 0
    assert await store.prune_keys(before=LONG_AGO + timedelta(days=1), limit=10) == 1
    assert (await begun(store, draft, newer)).relation is Relation.REPEATED
    again = await begun(store, replace(draft, reference=str(uuid4())), message_key(), old)
    assert again.relation is Relation.CREATED
    await settled(store, again.payment)
    await store.prune_keys(before=LONG_AGO + timedelta(days=3), limit=10)


async def test_a_message_delivered_again_after_years_finds_its_payment(store: Store, booking: int) -> None:
    draft, message, _ = await keyed(store, booking, 0)
    await store.prune_keys(before=LONG_AGO + timedelta(days=1), limit=1000)
    assert (await begun(store, replace(draft, created_at=NOW), message)).relation is Relation.REPEATED


async def test_the_oldest_keys_are_forgotten_first_and_pruners_share_them(store: Store, booking: int) -> None:
    kept = [await keyed(store, booking, day) for day in range(12)]
    before = LONG_AGO + timedelta(days=11)
    counts = await asyncio.gather(*(store.prune_keys(before=before, limit=2) for _ in range(4)))
    assert max(counts) <= 2
    assert sum(counts) + await store.prune_keys(before=before, limit=100) == 11
    draft, _, newest = kept[-1]
    assert (await begun(store, draft, newest)).relation is Relation.REPEATED
    assert await store.prune_keys(before=LONG_AGO + timedelta(days=12), limit=100) == 1


# --- existing: what begin would find ---------------------------------------------------------------------------------


async def test_nothing_exists_for_a_booking_that_nobody_began(store: Store, booking: int) -> None:
    assert await store.existing(a_draft(booking_id=booking), keys=[message_key()]) is None


async def test_what_exists_is_what_begin_would_answer_and_its_keys_are_bound(store: Store, booking: int) -> None:
    payment, key = await opened(store, booking), idempotency_key(f"k-{booking}")
    draft = a_draft(booking_id=booking, created_at=NOW - timedelta(minutes=1))
    assert await store.existing(draft, keys=[message_key(), key]) == Begun(payment=payment, relation=Relation.SAME)
    other = replace(draft, user_id=6)
    assert await store.existing(other, keys=[message_key()]) == Begun(payment=payment, relation=Relation.OTHER)
    await changed(store, payment, Expired())
    repeated = await store.existing(draft, keys=[message_key(), key])
    assert repeated is not None
    assert (repeated.payment.id, repeated.relation) == (payment.id, Relation.REPEATED)
    assert await store.existing(draft, keys=[message_key()]) is None
    with pytest.raises(IdempotencyKeyReusedError):
        await store.existing(draft, keys=[idempotency_key(f"k-{booking}", fingerprint="other")])
