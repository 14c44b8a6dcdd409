"""The tables as the code sees them. The migrations are what makes them; a test compares the two."""

from sqlalchemy import (
    JSON,
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)
_Time = DateTime(timezone=True)

payments = Table(
    "payments",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("reference", String(36), nullable=False, unique=True),
    Column("booking_id", BigInteger, nullable=False),
    Column("user_id", BigInteger, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("success_url", Text, nullable=False),
    Column("cancel_url", Text, nullable=False),
    Column("livemode", Boolean, nullable=False),
    Column("gateway_request", JSON, nullable=False),
    Column("status", String(9), nullable=False),
    Column("reason", String(40)),
    Column("attention", String(40)),
    Column("session_id", String(255), unique=True),
    Column("payment_url", Text),
    Column("version", Integer, nullable=False),
    Column("created_at", _Time, nullable=False),
    Column("updated_at", _Time, nullable=False),
    Column("expires_at", _Time, nullable=False),
    Column("asked_at", _Time),
    Column("ask_failed_at", _Time),
    Column("settle_attempts", Integer, nullable=False, server_default="0"),
    Column("settle_after", _Time),
    CheckConstraint("booking_id > 0 AND user_id > 0", name="ids"),
    CheckConstraint("amount_minor > 0 AND currency ~ '^[a-z]{3}$'", name="money"),
    CheckConstraint("status IN ('PENDING', 'COMPLETED', 'FAILED')", name="status"),
    CheckConstraint("status <> 'COMPLETED' OR session_id IS NOT NULL", name="completed"),
    CheckConstraint("(status = 'FAILED') = (reason IS NOT NULL)", name="reason"),
    # At most one live payment per booking, whatever the replicas do.
    Index(
        "payments_live_booking_idx",
        "booking_id",
        unique=True,
        postgresql_where=text("status IN ('PENDING', 'COMPLETED')"),
    ),
    Index("payments_booking_id_idx", "booking_id"),
    Index("payments_pending_idx", "created_at", postgresql_where=text("status = 'PENDING'")),
)

request_keys = Table(
    "request_keys",
    metadata,
    Column("scope", String(11), primary_key=True),
    Column("caller", String(255), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("payment_id", BigInteger, ForeignKey("payments.id"), nullable=False),
    Column("created_at", _Time, nullable=False),
    Index("request_keys_idempotency_idx", "created_at", postgresql_where=text("scope = 'idempotency'")),
)

journal = Table(
    "journal",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("payment_id", BigInteger, ForeignKey("payments.id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("kind", String(20), nullable=False),
    Column("status", String(9), nullable=False),
    Column("detail", JSON, nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("at", _Time, nullable=False),
    UniqueConstraint("payment_id", "version"),
)

# What operators did to dead letters. Append-only like the journal; a letter need not belong to a payment.
operator_journal = Table(
    "operator_journal",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", String(30), nullable=False),
    Column("actor", String(128), nullable=False),
    Column("queue", String(255), nullable=False),
    Column("message_id", Text),
    Column("reason", Text, nullable=False),
    Column("body_sha256", String(64), nullable=False),
    Column("at", _Time, nullable=False),
    Index("operator_journal_message_id_idx", "message_id"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("event_id", String(36), nullable=False, unique=True),
    Column("payment_id", BigInteger, ForeignKey("payments.id"), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("routing_key", String(40), nullable=False),
    Column("headers", JSON, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("attempts", SmallInteger, nullable=False, server_default="0"),
    Column("created_at", _Time, nullable=False),
    Column("claimed_until", _Time),
    Column("sent_at", _Time),
    UniqueConstraint("payment_id", "sequence"),
    Index("outbox_unsent_idx", "id", postgresql_where=text("sent_at IS NULL")),
    Index("outbox_unsent_payment_idx", "payment_id", "sequence", postgresql_where=text("sent_at IS NULL")),
    Index("outbox_sent_idx", "sent_at", postgresql_where=text("sent_at IS NOT NULL")),
)

# One row per endpoint of the gateway, and one for all of them together. `next_at` is when the next turn is that nobody
# has; `pace` is the share of the rate that is used, lowered at `slowed_at`.
budget = Table(
    "budget",
    metadata,
    Column("endpoint", String(30), primary_key=True),
    Column("next_at", _Time, nullable=False),
    Column("pace", REAL, nullable=False, server_default="1"),
    Column("slowed_at", _Time),
    CheckConstraint("pace > 0 AND pace <= 1", name="pace"),
)

budget_demand = Table(
    "budget_demand",
    metadata,
    Column("endpoint", String(30), primary_key=True),
    Column("replica", String(36), primary_key=True),
    Column("waiting", Integer, nullable=False),
    Column("seen_at", _Time, nullable=False),
)

feed = Table(
    "feed",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("leader", String(36)),
    Column("leader_until", _Time),
    Column("read_until", _Time),
    CheckConstraint("id = 1", name="one"),
)

# The places in line of creates that were told to come back: expected until `due_until`, kept until `kept_until`.
places = Table(
    "places",
    metadata,
    Column("booking_id", BigInteger, primary_key=True, autoincrement=False),
    Column("arrived_at", _Time, nullable=False),
    Column("due_until", _Time, nullable=False),
    Column("kept_until", _Time, nullable=False),
    Index("places_due_until_idx", "due_until"),
    Index("places_kept_until_idx", "kept_until"),
)
