"""Commands, replies, faults, events, envelope and topology: what others rely on."""

import importlib
import inspect
import json
import pkgutil
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from types import ModuleType
from typing import Any

import pytest
from pydantic import ValidationError

import contracts
from contracts import body, envelope, topology
from contracts.body import Record
from contracts.commands import COMMANDS, CommandType
from contracts.events import EventKey, PaymentEvent, PaymentSnapshot
from contracts.faults import Fault, FaultCode
from contracts.replies import CheckoutSession, PaymentState, PaymentStatus

MODULES = [importlib.import_module(f"contracts.{found.name}") for found in pkgutil.iter_modules(contracts.__path__)]


def snapshot(**changes: Any) -> PaymentSnapshot:
    members: dict[str, Any] = {
        "payment_id": 1,
        "booking_id": 7,
        "user_id": 5,
        "transaction_id": "cs_test_1",
        "amount": Decimal("449.97"),
        "amount_minor": 44997,
        "currency": "inr",
        "status": PaymentStatus.COMPLETED,
        "reason": None,
        "payment_url": None,
        "occurred_at": datetime(2026, 3, 2, tzinfo=UTC),
        "sequence": 2,
    }
    return PaymentSnapshot(**members | changes)


# --- round trips ----------------------------------------------------------------------------------------------------

RECORDS: list[Record] = [
    Fault(code=FaultCode.FAILED, message="No.", retryable=False),
    Fault(
        code=FaultCode.SERVICE_UNAVAILABLE,
        message="Later.",
        retryable=True,
        retry_after_seconds=2,
        payment_id=1,
        booking_id=7,
        transaction_id="cs_live_1",
        amount=Decimal("0.5"),
    ),
    CheckoutSession(
        session_id="cs_test_1",
        payment_url="https://x/#y",
        booking_id=7,
        amount=Decimal(5),
        message="Pay.",
        expires_at=1,
    ),
    PaymentState(
        payment_id=1,
        booking_id=7,
        payment_status=PaymentStatus.PENDING,
        transaction_id="cs_test_1",
        amount=Decimal("5.124"),
        message="Waiting.",
    ),
    PaymentEvent(
        id="e1",
        type=EventKey.COMPLETED.event_type,
        subject="1",
        time=datetime(2026, 3, 2, tzinfo=UTC),
        data=snapshot(),
    ),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_reads_back_as_it_was_written(record: Record) -> None:
    assert body.read(type(record), body.write(record)) == record


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_is_frozen_and_refuses_strangers(record: Record) -> None:
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
        " sequence".split()
    )


def test_every_event_has_a_type_of_its_own() -> None:
    assert {key.value: key.event_type for key in EventKey} == {
        "payment.pending": "com.bookticket.payment.pending.v1",
        "payment.completed": "com.bookticket.payment.completed.v1",
        "payment.failed": "com.bookticket.payment.failed.v1",
        "payment.attention": "com.bookticket.payment.attention.v1",
    }


# --- envelope -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["amq.rabbitmq.reply-to", "amq.rabbitmq.reply-to.g1h2.AAA==", "payments.reply.b-1"])
def test_a_reply_queue_of_ours_and_direct_reply_to_may_be_answered(address: str) -> None:
    assert envelope.is_reply_to(address)


@pytest.mark.parametrize(
    "address",
    [
        None,
        7,
        "",
        "payments.checkout.create",
        "other.queue",
        "payments.reply.a|no.such.exchange",
        "payments.reply.ü",
        "payments.reply.a b",
        "payments.reply.\n",
        " payments.reply.a",
        "payments.replyx",
        "payments.reply." + "a" * 255,
    ],
)
def test_nothing_else_may_be_answered(address: object) -> None:
    assert not envelope.is_reply_to(address)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (envelope.is_request_id, ["generated-1", "a" * 128], [None, 1, "", "a" * 129, "a b", "a\n", "ü", "\x00"]),
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


@pytest.mark.parametrize("command", CommandType)
def test_every_command_has_its_queues(command: CommandType) -> None:
    name = f"payments.{command.value}"
    queue, dead = topology.COMMAND_QUEUES[command], topology.DEAD_LETTER_QUEUES[command]
    assert (queue.name, queue.exchange, queue.routing_key) == (name, topology.COMMANDS, command.value)
    assert (dead.name, dead.exchange, dead.routing_key) == (f"{name}.dead-letter", topology.DEAD_LETTERS, name)
    assert queue.arguments == {
        "x-queue-type": "quorum",
        "x-delivery-limit": 20,
        "x-dead-letter-exchange": "payments.dead-letter",
        "x-dead-letter-routing-key": name,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    assert dead.arguments == {"x-queue-type": "quorum"}


@pytest.mark.parametrize("command", CommandType)
def test_a_delayed_command_comes_back_to_its_own_queue(command: CommandType) -> None:
    delays = topology.DELAY_QUEUES[command]
    assert [queue.arguments["x-message-ttl"] for queue in delays] == [1_000, 5_000, 30_000, 120_000, 600_000]
    for queue in delays:
        assert queue.exchange is None
        assert queue.routing_key == queue.name
        assert queue.arguments["x-queue-type"] == "quorum"
        assert queue.arguments["x-dead-letter-exchange"] == "payments.commands"
        assert queue.arguments["x-dead-letter-routing-key"] == command.value
        assert queue.arguments["x-dead-letter-strategy"] == "at-least-once"
        assert queue.arguments["x-overflow"] == "reject-publish"


def test_every_queue_is_declared_once() -> None:
    names = [queue.name for queue in topology.QUEUES]
    assert len(set(names)) == len(names) == len(CommandType) * (2 + len(topology.RETRY_DELAYS_SECONDS))
    assert {(exchange.name, exchange.type) for exchange in topology.EXCHANGES} == {
        ("payments.commands", "direct"),
        ("payments.events", "topic"),
        ("payments.dead-letter", "direct"),
    }


def test_every_command_type_has_a_body() -> None:
    assert set(COMMANDS) == set(CommandType)


# --- the package ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_public_name_is_explained(module: ModuleType) -> None:
    assert module.__doc__
    own = [
        member
        for name, member in vars(module).items()
        if not name.startswith("_") and getattr(member, "__module__", None) == module.__name__
    ]
    silent = [
        member.__name__ for member in own if inspect.isroutine(member) or inspect.isclass(member) if not member.__doc__
    ]
    assert silent == []


def test_every_status_of_a_reply_is_one_of_the_domains() -> None:
    domain = importlib.import_module("service.domain.payment")
    statuses: type[Enum] = domain.PaymentStatus
    assert {status.value for status in PaymentStatus} == {status.value for status in statuses}
