"""The tables as the code sees them. The migrations create them; a test compares the two."""

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)
_Time = sa.DateTime(timezone=True)

# A query must spell these as the partial indexes do, or PostgreSQL does not use the index.
LIVE = sa.text("status IN ('PENDING', 'COMPLETED')")
PENDING = sa.text("status = 'PENDING'")
_UNSENT = sa.text("sent_at IS NULL")
# The currency of almost all payments: a search by it finds one at once, a search by any other needs an index. Where
# PAYMENT_CURRENCY is another, the migration names that.
_RARE = sa.text("currency <> 'inr'")

# The millisecond and three digits of a sequence: ids must not repeat when an older copy of the database takes over.
_PAYMENT_ID = sa.text("floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint * 1000 + nextval('payments_id_seq')")

payments = sa.Table(
    "payments",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False, server_default=_PAYMENT_ID),
    sa.Column("reference", sa.String(36), nullable=False, unique=True),
    sa.Column("booking_id", sa.BigInteger, nullable=False),
    sa.Column("user_id", sa.BigInteger, nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.String(3), nullable=False),
    sa.Column("success_url", sa.Text, nullable=False),
    sa.Column("cancel_url", sa.Text, nullable=False),
    sa.Column("livemode", sa.Boolean, nullable=False),
    sa.Column("gateway_request", sa.JSON, nullable=False),
    sa.Column("status", sa.String(9), nullable=False),
    sa.Column("reason", sa.String(40)),
    sa.Column("attention", sa.String(40)),
    sa.Column("session_id", sa.String(255), unique=True),
    sa.Column("payment_url", sa.Text),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("created_at", _Time, nullable=False),
    sa.Column("updated_at", _Time, nullable=False),
    sa.Column("expires_at", _Time, nullable=False),
    sa.Column("asked_at", _Time),
    sa.Column("ask_failed_at", _Time),
    sa.Column("settle_attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("settle_after", _Time),
    sa.Column("last_outcome", sa.String(40)),
    sa.Column("closed_at", _Time),
    sa.Column("pay_until", _Time),
    sa.Column("sent", sa.String(64)),
    sa.Column("sent_at", _Time),
    sa.Column("refunded_minor", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("dispute", sa.String(40)),
    sa.CheckConstraint("booking_id > 0 AND user_id > 0", name="ids"),
    sa.CheckConstraint("amount_minor > 0 AND currency ~ '^[a-z]{3}$'", name="money"),
    sa.CheckConstraint("status IN ('PENDING', 'COMPLETED', 'FAILED')", name="status"),
    sa.CheckConstraint("status <> 'COMPLETED' OR session_id IS NOT NULL", name="completed"),
    sa.CheckConstraint("(status = 'FAILED') = (reason IS NOT NULL)", name="reason"),
    # At most one live payment per booking, whatever the replicas do.
    sa.Index("payments_live_booking_idx", "booking_id", unique=True, postgresql_where=LIVE),
    sa.Index("payments_booking_id_idx", "booking_id"),
    sa.Index("payments_pending_idx", "created_at", postgresql_where=PENDING),
    sa.Index("payments_created_idx", "created_at", "id"),
    # What operators look payments up by.
    sa.Index("payments_user_idx", "user_id", "created_at", "id"),
    sa.Index("payments_amount_idx", "amount_minor", "created_at", "id", "currency"),
    sa.Index("payments_currency_idx", "currency", "created_at", "id", postgresql_where=_RARE),
    sa.Index(
        "payments_reason_idx",
        *("reason", "created_at", "id", "currency"),
        postgresql_where=sa.text("reason IS NOT NULL"),
    ),
    sa.Index("payments_attention_idx", "created_at", "id", postgresql_where=sa.text("attention IS NOT NULL")),
)

request_keys = sa.Table(
    "request_keys",
    metadata,
    sa.Column("scope", sa.String(11), primary_key=True),
    sa.Column("caller", sa.String(255), primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("payment_id", sa.BigInteger, sa.ForeignKey("payments.id"), nullable=False),
    sa.Column("created_at", _Time, nullable=False),
    sa.Index("request_keys_created_at_idx", "created_at"),
)

journal = sa.Table(
    "journal",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("payment_id", sa.BigInteger, sa.ForeignKey("payments.id"), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("status", sa.String(9), nullable=False),
    sa.Column("detail", sa.JSON, nullable=False),
    sa.Column("request_id", sa.String(128), nullable=False),
    sa.Column("at", _Time, nullable=False),
    # One line per version, even when the outbox, which has the same constraint, has been pruned. Renewed terms are no
    # version: they are counted beside it.
    sa.Column("renewal", sa.SmallInteger, nullable=False, server_default="0"),
    sa.UniqueConstraint("payment_id", "version", "renewal"),
    sa.Index("journal_request_id_idx", "request_id"),
    sa.Index(
        "journal_at_idx", "at", postgresql_using="brin", postgresql_with={"pages_per_range": 16, "autosummarize": True}
    ),
)

# What operators did to dead letters. Append-only like the journal; a letter may belong to no payment.
operator_journal = sa.Table(
    "operator_journal",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("kind", sa.String(30), nullable=False),
    sa.Column("actor", sa.String(128), nullable=False),
    sa.Column("queue", sa.String(255), nullable=False),
    sa.Column("message_id", sa.Text),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("body_sha256", sa.String(64), nullable=False),
    sa.Column("at", _Time, nullable=False),
    sa.Index("operator_journal_message_id_idx", "message_id"),
)

# What operators ask for in the console; a replica answers each. The words are kept, and it is answered once.
operator_acts = sa.Table(
    "operator_acts",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("payment_id", sa.BigInteger, sa.ForeignKey("payments.id"), nullable=False),
    sa.Column("actor", sa.String(128), nullable=False),
    sa.Column("why", sa.String(200), nullable=False),
    sa.Column("asked_at", _Time, nullable=False, server_default=sa.text("now()")),
    sa.Column("claimed_until", _Time),
    sa.Column("done_at", _Time),
    sa.Column("is_done", sa.Boolean),
    sa.Column("answer", sa.Text),
    sa.CheckConstraint("kind IN ('close', 'verify', 'reconcile', 'resend')", name="kind"),
    sa.CheckConstraint("actor <> '' AND why <> ''", name="words"),
    sa.Index("operator_acts_open_idx", "id", postgresql_where=sa.text("done_at IS NULL")),
    sa.Index("operator_acts_payment_id_idx", "payment_id"),
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("event_id", sa.String(36), nullable=False, unique=True),
    sa.Column("payment_id", sa.BigInteger, sa.ForeignKey("payments.id"), nullable=False),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("routing_key", sa.String(40), nullable=False),
    sa.Column("headers", sa.JSON, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("attempts", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("created_at", _Time, nullable=False),
    sa.Column("claimed_until", _Time),
    sa.Column("sent_at", _Time),
    sa.UniqueConstraint("payment_id", "sequence"),
    sa.Index("outbox_unsent_idx", "id", postgresql_where=_UNSENT),
    sa.Index("outbox_sent_idx", "sent_at", postgresql_where=sa.text("sent_at IS NOT NULL")),
)

# One row per endpoint of the gateway, and one for all of them together. `next_at` is when the next free permit is;
# `pace` is the rate factor, lowered at `slowed_at`.
limiter = sa.Table(
    "budget",
    metadata,
    sa.Column("endpoint", sa.String(30), primary_key=True),
    sa.Column("next_at", _Time, nullable=False),
    sa.Column("pace", sa.REAL, nullable=False, server_default="1"),
    sa.Column("slowed_at", _Time),
    sa.CheckConstraint("pace > 0 AND pace <= 1", name="pace"),
)

budget_demand = sa.Table(
    "budget_demand",
    metadata,
    sa.Column("endpoint", sa.String(30), primary_key=True),
    sa.Column("replica", sa.String(36), primary_key=True),
    sa.Column("waiting", sa.Integer, nullable=False),
    sa.Column("seen_at", _Time, nullable=False),
)

# How each replica sees the gateway do, in the last minute.
gateway_health = sa.Table(
    "gateway_health",
    metadata,
    sa.Column("endpoint", sa.String(30), primary_key=True),
    sa.Column("replica", sa.String(36), primary_key=True),
    sa.Column("circuit", sa.SmallInteger, nullable=False),
    sa.Column("sent", sa.Integer, nullable=False),
    sa.Column("calls", sa.Integer, nullable=False),
    sa.Column("failed", sa.Integer, nullable=False),
    sa.Column("per_second", sa.REAL, nullable=False),
    sa.Column("seen_at", _Time, nullable=False),
)

feed = sa.Table(
    "feed",
    metadata,
    sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("leader", sa.String(36)),
    sa.Column("leader_until", _Time),
    sa.Column("read_until", _Time),
    sa.Column("charges_read_until", _Time),
    sa.CheckConstraint("id = 1", name="one"),
)

# Which of the gateway's accounts, in which mode, the payments here were made with. `account`: null if it is not known.
account_pin = sa.Table(
    "account_pin",
    metadata,
    sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("livemode", sa.Boolean, nullable=False),
    sa.Column("account", sa.String(255)),
    sa.Column("pinned_at", _Time, nullable=False),
    sa.CheckConstraint("id = 1", name="one"),
)

# Reservations of creates that were told to come back: outstanding until `due_until`, kept until `kept_until`.
reservations = sa.Table(
    "places",
    metadata,
    sa.Column("booking_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("arrived_at", _Time, nullable=False),
    sa.Column("due_until", _Time, nullable=False),
    sa.Column("kept_until", _Time, nullable=False),
    sa.Index("places_due_until_idx", "due_until"),
    sa.Index("places_kept_until_idx", "kept_until"),
)
