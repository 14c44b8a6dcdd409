"""What a payment waits for, in a sentence; every kind, reason and attention has its own."""

from dataclasses import replace
from datetime import timedelta

import pytest

from console import story
from console.rendering import ago, filled, span
from service.application.ports import JournalEntry
from service.domain.payment import AttentionReason, FailureReason, PaymentStatus
from service.domain.status import ChangeKind
from service.ratelimit.permit import Endpoint
from tests.kit.clock import NOW
from tests.kit.service import a_payment


def test_every_word_of_the_record_has_its_own_in_the_story() -> None:
    assert set(story.TITLES) == set(ChangeKind)
    assert set(story.FAILED) == set(FailureReason)
    assert set(story.ATTENTION) == set(AttentionReason)
    assert set(story.ASKED) == set(Endpoint)


def test_a_line_tells_how_stripe_said_it() -> None:
    payment = a_payment()
    call = {"gateway_call": "expire", "gateway_request_id": "req_1", "gateway_seconds": "0.310"}
    event = {"gateway_event": "evt_1", "gateway_event_at": NOW.isoformat(), "difference": "money"}

    def entry(version: int, kind: str, detail: dict[str, str]) -> JournalEntry:
        at = NOW + timedelta(seconds=1.5)
        return JournalEntry(version=version, kind=kind, status="PENDING", detail=detail, request_id="r", at=at)

    journal = [entry(0, "created", {}), entry(1, "failed", call), entry(2, "attention", event)]
    begun, asked, told = story.history(payment, journal, [], NOW)
    assert (begun.gateway, begun.gateway_request, begun.gateway_event) == ([], "", "")
    assert asked.gateway == ["Stripe was asked to end the checkout, and answered in 310 ms"]
    assert (asked.gateway_request, asked.detail) == ("req_1", {})
    assert told.gateway == [f"Stripe's event of {NOW:%H:%M:%S} told it, 1.5 s before this line"]
    assert (told.gateway_event, told.detail) == ("evt_1", {"difference": "money"})


def test_a_refund_that_failed_has_a_title_of_its_own() -> None:
    made, failed = ({"refunded": "1.00 INR"}, {"refund": "re_1", "failed": "1.00 INR"})
    canceled = failed | {"refund": "re_2", "status": "canceled"}
    journal = [
        JournalEntry(version=3, kind="refunded", status="COMPLETED", detail=detail, request_id="r", at=NOW)
        for detail in (made, failed, canceled)
    ]
    titles = [moment.title for moment in story.history(a_payment(), journal, [], NOW)]
    back = "at Stripe: the money is back with us"
    assert titles == ["Refunded at Stripe", f"A refund failed {back}", f"A refund was canceled {back}"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"session_id": None}, "Its checkout is being made at Stripe, for 1 min"),
        ({"session_id": None, "settle_attempts": 2}, "has not made its checkout yet, for 1 min and in 2 attempts"),
        ({}, "Waiting for the payer, who can pay until 2 Mar 2026 12:35:00 UTC (in 34 min)"),
        ({"pay_until": NOW + timedelta(seconds=30)}, "The payer's time was over 30 s ago"),
        ({"pay_until": NOW, "settle_attempts": 3}, "in 3 attempts so far"),
        ({"last_outcome": "processing"}, "Stripe is processing it"),
        ({"status": PaymentStatus.COMPLETED}, "Paid. Nothing is waited for."),
        ({"status": PaymentStatus.COMPLETED, "refunded_minor": 100}, "part of it refunded: 1.00 INR"),
        ({"status": PaymentStatus.COMPLETED, "dispute": "needs_response"}, "disputed it: needs response"),
        ({"status": PaymentStatus.FAILED, "reason": "expired"}, "Nothing was charged"),
        ({"attention": "paid_differently"}, "put the money right in Stripe, then close"),
        ({"attention": "a_later_word"}, "A person must look at this payment"),
    ],
)
def test_a_payment_says_what_it_waits_for(changes: dict[str, object], words: str) -> None:
    payment = replace(a_payment(), **changes)
    assert words in story.now_of(payment, NOW + timedelta(minutes=1))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0404, "40 ms"), (2.34, "2.3 s"), (59, "59 s"), (125, "2 min 5 s"), (7300, "2 h 1 min"), (90000, "1 d 1 h")],
)
def test_a_span_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert span(seconds) == text
    assert ago(NOW - timedelta(seconds=seconds), NOW) == f"{text} ago"


def test_a_value_cannot_leave_its_place_in_an_address() -> None:
    assert filled("https://t.example/{trace_id}?x=1", {"trace_id": "a/../&b"}) == "https://t.example/a%2F..%2F%26b?x=1"
    assert filled("https://t.example/{trace_id}", {"trace_id": ""}) is None
    assert filled("", {"trace_id": "a"}) is None
