"""A payment: one attempt to collect money for one booking."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from service.domain.errors import InvalidRequestError, PaymentRef
from service.domain.money import Money

CLOCKS_APART: Final = timedelta(seconds=5)
"""A create sent up to so long before a payment was made counts as sent after it: senders tell whole seconds, and their
clocks are not ours."""


class PaymentStatus(StrEnum):
    """PENDING, then COMPLETED or FAILED. The last two are final."""

    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"

    @property
    def is_final(self) -> bool:
        """Whether the status never changes again."""
        return self is not PaymentStatus.PENDING


class FailureReason(StrEnum):
    """Why a payment is FAILED."""

    EXPIRED = "expired"
    """The payer did not pay in time."""
    REPLACED = "replaced"
    """The booking was checked out again with other terms, for which its session was ended."""
    REFUSED = "refused"
    """The gateway refused to make a checkout session."""
    CLOSED = "closed"
    """An operator ended what could not end by itself."""


class AttentionReason(StrEnum):
    """Why a person must look at a payment."""

    PAID_AFTER_FAILED = "paid_after_failed"
    """Money arrived for a payment that had failed: refund it or honour it."""
    PAID_DIFFERENTLY = "paid_differently"
    """The gateway took another amount, currency or mode, or the money names another payment."""
    UNSETTLED = "unsettled"
    """The sweeper has tried often without success; it goes on trying."""
    UNKNOWN_SESSION = "unknown_session"
    """The gateway does not know the payment's session, which may be another account's; or it has another session of
    the booking, which cannot become a payment of its own and may take money a second time."""


class LastOutcome(StrEnum):
    """What the gateway last said of a payment, as it is kept with it; nothing is kept of a session that is open."""

    PROCESSING = "processing"
    PAID = "paid"
    EXPIRED = "expired"
    NO_SESSION = "no_session"
    REFUSED = "refused"
    AMOUNT_TOO_SMALL = "amount_too_small"
    AMOUNT_TOO_LARGE = "amount_too_large"
    CURRENCY_REFUSED = "currency_refused"
    URL_REFUSED = "url_refused"


@dataclass(frozen=True, kw_only=True)
class Request:
    """A create as its caller sent it, before any setting is looked at.

    `sent` is a fingerprint of all of it: amount, currency and URLs as they came or did not come. `sent_at` is when it
    was first sent, by its sender's clock, and never later than when it came. None: not known, as of a payment from
    before it was stored.
    """

    booking_id: int
    user_id: int
    created_at: datetime
    sent: str | None = None
    sent_at: datetime | None = None

    @property
    def content(self) -> tuple[object, ...] | None:
        """What it means under the settings of today; None if they do not allow it."""
        return None


@dataclass(frozen=True, kw_only=True)
class RefusedRequest(Request):
    """A create that the settings of today do not allow: it may still repeat what was allowed when it came first."""

    error: InvalidRequestError


@dataclass(frozen=True, kw_only=True)
class Draft(Request):
    """A payment about to be inserted: everything that is sent to the gateway, frozen before the call.

    While no session can have been made of them, `reference`, `created_at`, `expires_at`, `pay_until` and
    `gateway_request` may be renewed together: these are its terms.

    `reference` (a UUID) identifies the payment at the gateway, and its idempotency key is derived from it. `expires_at`
    is the intended end of the checkout session, `pay_until` when the payer's time is over: stored, because its caller
    is told it, and another replica may give other payers another time. None: not stored, of a payment from before:
    its payer has until the session's end. `gateway_request` is the gateway's form of all this, opaque here.
    """

    reference: str
    money: Money
    success_url: str
    cancel_url: str
    livemode: bool
    expires_at: datetime
    pay_until: datetime | None = None
    gateway_request: Mapping[str, Any] = field(default_factory=dict)

    @property
    def content(self) -> tuple[object, ...]:
        """Booking, payer, money and return URLs."""
        return (self.booking_id, self.user_id, self.money, self.success_url, self.cancel_url)


@dataclass(frozen=True, kw_only=True)
class Payment(Draft):
    """A payment as stored.

    `version` counts its changes and is the `sequence` of the last change's event. `session_id` (the transaction id)
    and `payment_url` are known once the gateway has made the session. `asked_at` is the time of the last lookup of the
    session at the gateway, `ask_failed_at` that of the last lookup that failed. `settle_attempts` counts the sweeper's
    tries to finish the payment. `last_outcome` is the gateway's last word, a `LastOutcome`. `attention` stays after an
    operator has dealt with it, at `closed_at`. `refunded_minor` is what the gateway has refunded of it in all,
    `dispute` how its last dispute stands.
    """

    id: int
    status: PaymentStatus
    version: int
    updated_at: datetime
    reason: str | None = None
    attention: str | None = None
    session_id: str | None = None
    payment_url: str | None = None
    asked_at: datetime | None = None
    ask_failed_at: datetime | None = None
    settle_attempts: int = 0
    last_outcome: str | None = None
    closed_at: datetime | None = None
    refunded_minor: int = 0
    dispute: str | None = None

    @property
    def ref(self) -> PaymentRef:
        """What an error says about the payment."""
        return PaymentRef(id=self.id, booking_id=self.booking_id, session_id=self.session_id, amount=self.money.major)

    @property
    def is_unopened(self) -> bool:
        """Whether it is pending and has no session yet, as far as is stored."""
        return self.status is PaymentStatus.PENDING and self.session_id is None

    @property
    def open_attention(self) -> str | None:
        """Why a person must look at the payment, until one has."""
        return self.attention if self.closed_at is None else None

    @property
    def needs_person(self) -> bool:
        """Whether only a person can move it on. Of a gateway that is silent that is not known: it may speak again."""
        if self.attention is None or self.closed_at is not None:
            return False
        return self.attention != AttentionReason.UNSETTLED or self.last_outcome is not None

    @property
    def keeps_booking(self) -> bool:
        """Whether no other payment of its booking may begin: it may be paid or is, or a person must look."""
        return self.status is not PaymentStatus.FAILED or self.needs_person

    def repeats(self, request: Request) -> bool:
        """Whether the request is the payment's own again: the same was sent, or it means the same.

        Either is enough. Defaults may have changed since, and a caller may name what another left to the default.
        """
        return request.content == self.content or (request.sent is not None and request.sent == self.sent)

    @property
    def payable_until(self) -> datetime:
        """When its payer's time or its session is over, whatever comes first."""
        return self.expires_at if self.pay_until is None else min(self.expires_at, self.pay_until)

    def is_newer_than(self, sent_at: datetime | None) -> bool:
        """Whether it was made after a create with that time was first sent, which therefore must not replace it.

        Its own create counts by the same clock, so that one sender's creates are in order however wrong its clock is.
        """
        made_at = self.created_at if self.sent_at is None else min(self.created_at, self.sent_at)
        return sent_at is not None and sent_at + CLOCKS_APART < made_at

    def seems_over(self, at: datetime, *, seconds_left: float = 0) -> bool:
        """Whether a pending payment can most likely no longer be paid, or not for that long. Only the gateway knows.

        Half of its payer's time is enough: otherwise a payment with a short time would be over from its beginning.
        """
        if self.status is not PaymentStatus.PENDING or self.session_id is None:
            return False
        if self.last_outcome in {LastOutcome.PROCESSING, LastOutcome.NO_SESSION}:
            return True  # its page has taken the payment already, or is none of ours
        if self.payment_url is None:
            return True
        least = min(timedelta(seconds=seconds_left), (self.payable_until - self.created_at) / 2)
        return self.payable_until <= at + least
