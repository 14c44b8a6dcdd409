"""Commands, replies, faults, events, envelope and topology: what others rely on."""

import importlib
import json
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from pydantic import ValidationError

from contracts import body, envelope, topology
from contracts.body import Record
from contracts.commands import COMMANDS, CommandType
from contracts.events import EventKey, PaymentEvent, PaymentSnapshot
from contracts.faults import Fault, FaultCode
from contracts.replies import CheckoutSession, PaymentState, PaymentStatus

AT = datetime(2026, 3, 2, tzinfo=UTC)
KNOWN: dict[str, Any] = {"payment_id": 1, "booking_id": 7, "transaction_id": "cs_test_1", "amount": Decimal("449.97")}
SNAPSHOT = PaymentSnapshot(
    **KNOWN,
    user_id=5,
    amount_minor=44997,
    currency="inr",
    status=PaymentStatus.COMPLETED,
    reason=None,
    payment_url=None,
    occurred_at=AT,
    sequence=2,
)


# --- round trips ----------------------------------------------------------------------------------------------------

RECORDS: list[Record] = [
    Fault(code=FaultCode.FAILED, message="No.", retryable=False),
    Fault(code=FaultCode.SERVICE_UNAVAILABLE, message="Later.", retryable=True, retry_after_seconds=2, **KNOWN),
    CheckoutSession(
        session_id="cs_test_1",
        payment_url="https://x/#y",
        booking_id=7,
        amount=Decimal(5),
        message="Pay.",
        expires_at=1,
    ),
    PaymentState(payment_status=PaymentStatus.PENDING, message="Waiting.", **KNOWN),
    PaymentEvent(id="e1", type=EventKey.COMPLETED.event_type, subject="1", time=AT, data=SNAPSHOT),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_reads_back_as_it_was_written_is_frozen_and_refuses_strangers(record: Record) -> None:
    assert body.read(type(record), body.write(record)) == record
    with pytest.raises(ValidationError):
        record.message = "changed"  # type: ignore[attr-defined]
    with pytest.raises(ValidationError):
        type(record).model_validate({**record.model_dump(), "stranger": 1})


def test_the_answers_have_the_members_of_the_java_service() -> None:
    written = [json.loads(body.write(record)) for record in RECORDS[2:4]]
    assert list(written[0]) == ["sessionId", "paymentUrl", "bookingId", "amount", "status", "message", "expiresAt"]
    assert list(written[1]) == ["paymentId", "bookingId", "paymentStatus", "transactionId", "amount", "message"]
    assert (written[0]["status"], written[0]["amount"], written[1]["paymentStatus"]) == ("pending", 5.0, "PENDING")


def test_an_event_is_a_cloud_event_with_the_whole_state() -> None:
    written = json.loads(body.write(RECORDS[4]))
    assert written["specversion"] == "1.0"
    assert written["type"] == "com.bookticket.payment.completed.v1"
    assert written["source"] == "/bookticket/payment-service"
    assert written["datacontenttype"] == "application/json"
    assert written["time"] == "2026-03-02T00:00:00Z"
    assert set(written["data"]) == set(
        "paymentId bookingId userId transactionId amount amountMinor currency status reason paymentUrl occurredAt"
        " sequence refundedAmount refundedAmountMinor disputeStatus".split()
    )


def test_every_event_has_a_type_of_its_own() -> None:
    keys = [f"payment.{word}" for word in ("pending", "completed", "failed", "attention", "refunded", "disputed")]
    assert {key.value: key.event_type for key in EventKey} == {key: f"com.bookticket.{key}.v1" for key in keys}


# --- envelope -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (
            envelope.is_reply_to,
            ["amq.rabbitmq.reply-to", "amq.rabbitmq.reply-to.g1h2.AAA==", "payments.reply.b-1"],
            [
                *(None, 7, "", " payments.reply.a", "payments.reply.a b", "payments.reply.\n", "payments.reply.ü"),
                *("payments.checkout.create", "other.queue", "payments.replyx", "payments.reply.a|no.such.exchange"),
                "payments.reply." + "a" * 255,
            ],
        ),
        (
            envelope.is_request_id,
            ["generated-1", "a" * 128],
            [None, 1, "", "a" * 129, "a b", "a\n", "ü", "\x00", "person@example.org"],
        ),
        (
            envelope.is_idempotency_key,
            ["k", "a b", "~" * 255],
            [None, 1, "", "k" * 256, "k\n", "ü", "\x7f", " ", " k", "k "],
        ),
        (
            envelope.is_trace_parent,
            ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
            [
                None,
                "",
                "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
                "00-1-1-01",
                f"00-{'0' * 32}-b7ad6b7169203331-01",
                f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
                "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ],
        ),
    ],
)
def test_a_header_is_what_it_should_be_or_nothing(check: Any, good: list[Any], bad: list[Any]) -> None:
    assert all(check(value) for value in good)
    assert not any(check(value) for value in bad)


# --- topology -------------------------------------------------------------------------------------------------------


RELIABLE = {"x-queue-type": "quorum", "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}


@pytest.mark.parametrize("command", CommandType)
def test_every_command_has_its_queues_and_comes_back_from_a_delay_to_its_own(command: CommandType) -> None:
    name = f"payments.{command.value}"
    queue, dead = topology.COMMAND_QUEUES[command], topology.DEAD_LETTER_QUEUES[command]
    assert (queue.name, queue.exchange, queue.routing_key) == (name, topology.COMMANDS, command.value)
    assert (dead.name, dead.exchange, dead.routing_key) == (f"{name}.dead-letter", topology.DEAD_LETTERS, name)
    assert queue.arguments == RELIABLE | {
        "x-delivery-limit": 20,
        "x-dead-letter-exchange": "payments.dead-letter",
        "x-dead-letter-routing-key": name,
    }
    assert dead.arguments == {"x-queue-type": "quorum"}
    back = {"x-dead-letter-exchange": "payments.commands", "x-dead-letter-routing-key": command.value}
    delays = topology.DELAY_QUEUES[command]
    for delay, seconds in zip(delays, (1, 5, 30, 120, 600), strict=True):
        assert (delay.exchange, delay.routing_key) == (None, delay.name)
        assert delay.arguments == RELIABLE | back | {"x-message-ttl": seconds * 1000}


def test_every_queue_is_declared_once() -> None:
    names = [queue.name for queue in topology.QUEUES]
    assert set(COMMANDS) == set(CommandType)
    assert len(set(names)) == len(names) == len(CommandType) * (2 + len(topology.RETRY_DELAYS_SECONDS))
    assert {(exchange.name, exchange.type) for exchange in topology.EXCHANGES} == {
        ("payments.commands", "direct"),
        ("payments.events", "topic"),
        ("payments.dead-letter", "direct"),
    }


def test_every_status_of_a_reply_is_one_of_the_domains() -> None:
    domain = importlib.import_module("service.domain.payment")
    statuses: type[Enum] = domain.PaymentStatus
    assert {status.value for status in PaymentStatus} == {status.value for status in statuses}
