"""Payments that only Stripe knew of, and refunds: one suite for the fake and for PostgreSQL."""

import asyncio
from dataclasses import replace

import pytest

from service.adapters.postgres import Database, PostgresStore
from service.application.ports import Store
from service.domain.outcomes import Expired, Open
from service.domain.payment import Draft, PaymentStatus
from service.domain.refunds import Dispute, Refund, RefundStatus, Told, disputed, refund_failed, refunded
from service.domain.status import unknown_session
from tests.integration.service.ports.test_store import begun, changed, fitting, opened
from tests.kit.clock import NOW
from tests.kit.fake_store import FakeStore
from tests.kit.service import a_draft, context

TOLD = Told(event="evt_1", at=NOW)


@pytest.fixture(params=["fake", "postgres"])
def store(request: pytest.FixtureRequest, database: Database) -> Store:
    return FakeStore() if request.param == "fake" else PostgresStore(database)


async def test_an_adopted_payment_is_pending_and_its_journal_says_how_it_came(store: Store, booking: int) -> None:
    draft = a_draft(booking_id=booking)
    payment = await store.adopt(draft, detail={"session": "cs_test_a"}, request_id="feed-1")
    assert payment is not None
    assert {name: getattr(payment, name) for name in Draft.__dataclass_fields__} == vars(draft)
    assert (payment.status, payment.version, payment.session_id) == (PaymentStatus.PENDING, 0, None)
    [line] = await store.journal(payment.id)
    assert (line.kind, line.detail, line.request_id) == ("adopted", {"session": "cs_test_a"}, "feed-1")
    assert await store.payment_of_reference(draft.reference) == payment
    assert await store.payment_of_reference("another") is None


async def test_a_payment_is_adopted_once_and_never_beside_a_live_one(store: Store, booking: int) -> None:
    draft = a_draft(booking_id=booking)
    adopted = await asyncio.gather(*(store.adopt(draft, detail={}, request_id="feed-1") for _ in range(5)))
    [payment] = [each for each in adopted if each is not None]
    assert await store.adopt(a_draft(booking_id=booking), detail={}, request_id="feed-2") is None
    failed = await changed(store, payment, Expired())
    assert await store.adopt(draft, detail={}, request_id="feed-3") is None, "its reference is taken"
    assert await store.latest_of_booking(booking) == failed
    assert await store.adopt(a_draft(booking_id=booking), detail={}, request_id="feed-4") is not None


async def test_of_a_bookings_failed_payments_the_one_that_keeps_it_is_the_latest(store: Store, booking: int) -> None:
    first = await opened(store, booking)
    first = await changed(store, first, Expired())
    second = await changed(store, (await begun(store, a_draft(booking_id=booking))).payment, Expired())
    assert await store.latest_of_booking(booking) == second
    first = await changed(store, first, fitting(first))
    assert first.needs_person
    assert await store.adopt(a_draft(booking_id=booking), detail={}, request_id="feed-1") is None
    assert await store.latest_of_booking(booking) == first


async def test_of_a_bookings_payments_the_live_one_is_the_latest(store: Store, booking: int) -> None:
    assert await store.latest_of_booking(booking) is None
    first = await opened(store, booking)
    first = await changed(store, first, Expired())
    second = await changed(store, (await begun(store, a_draft(booking_id=booking))).payment, Expired())
    assert await store.latest_of_booking(booking) == second
    third = (await begun(store, a_draft(booking_id=booking))).payment
    assert await store.latest_of_booking(booking) == third


async def test_it_is_known_which_payment_a_person_was_called_for_because_of_another_session(
    store: Store, booking: int
) -> None:
    first = await opened(store, booking)
    told = await store.record(unknown_session(first, "cs_test_lost", Open(), at=NOW), context=context())
    ended = await changed(store, told, Expired())
    await begun(store, a_draft(booking_id=booking))
    assert await store.payment_told_of("cs_test_lost", booking_id=booking, reference="r") == ended
    assert await store.payment_told_of("cs_test_other", booking_id=booking, reference="r") is None
    assert await store.payment_told_of("cs_test_lost", booking_id=booking + 1, reference=None) is None


async def test_refunds_and_disputes_are_kept_with_the_payment_and_in_its_journal(store: Store, booking: int) -> None:
    payment = await opened(store, booking)
    payment = await changed(store, payment, fitting(payment))
    change = refunded(payment, 97, [], is_whole=False, told=TOLD, at=NOW)
    assert change is not None
    payment = await store.record(change, context=context())
    dispute = Dispute(id="du_1", status="lost", reason="fraudulent", minor=44900)
    change = disputed(payment, dispute, [], told=TOLD, at=NOW)
    assert change is not None
    payment = await store.record(change, context=context())
    assert await store.payment(payment.id) == payment
    assert (payment.status, payment.refunded_minor, payment.dispute) == (PaymentStatus.COMPLETED, 97, "lost")
    journal = await store.journal(payment.id)
    assert [entry.kind for entry in journal[-2:]] == ["refunded", "disputed"]
    details = [entry.detail for entry in journal]
    assert refunded(payment, 97, details, is_whole=False, told=TOLD, at=NOW) is None
    assert disputed(payment, dispute, details, told=TOLD, at=NOW) is None
    assert disputed(payment, replace(dispute, status="needs_response"), details, told=TOLD, at=NOW) is None
    change = refund_failed(payment, Refund(id="re_1", minor=97, status=RefundStatus.FAILED), details, told=TOLD, at=NOW)
    assert change is not None
    assert (await store.record(change, context=context())).refunded_minor == 0
    [*_, last] = await store.journal(payment.id)
    assert (
        refund_failed(
            payment, Refund(id="re_1", minor=97, status=RefundStatus.FAILED), [last.detail], told=TOLD, at=NOW
        )
        is None
    )
