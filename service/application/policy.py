"""The rules that settings choose, and how a create command becomes a draft under them."""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

from contracts.commands import CreateCheckout
from service.application.ports import Gateway
from service.domain import urls
from service.domain.errors import InvalidRequestError
from service.domain.money import ENDED, Money, as_sent, check_charged
from service.domain.payment import Draft, Payment, RefusedRequest
from service.domain.status import Change, renewed

MIN_SESSION_SECONDS: Final = 35 * 60
"""Stripe takes 30 minutes to 24 hours by *its* clock; five minutes are left for ours, queueing and retries."""
MAX_SESSION_SECONDS: Final = 23 * 60 * 60


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What the settings say about payments. `origins` are normalised (`domain.urls.origin`); times are in seconds."""

    currency: str
    success_url: str
    cancel_url: str
    origins: frozenset[str]
    window_seconds: int
    reuse_seconds: float
    freshness_seconds: float
    gateway_timeout_seconds: float
    feed_interval_seconds: float

    def requested(
        self, command: CreateCheckout, *, gateway: Gateway, at: datetime, sent_at: datetime | None = None
    ) -> Draft | RefusedRequest:
        """The draft of a create, or what is known without the settings if they do not allow it."""
        try:
            return self.draft(command, gateway=gateway, at=at, sent_at=sent_at)
        except InvalidRequestError as error:
            return RefusedRequest(
                booking_id=command.booking_id,
                user_id=command.user_id,
                created_at=at,
                sent=fingerprint(command),
                sent_at=sent_at,
                error=error,
            )

    def draft(
        self, command: CreateCheckout, *, gateway: Gateway, at: datetime, sent_at: datetime | None = None
    ) -> Draft:
        """What will be sent to the gateway, frozen; InvalidRequestError if amount, currency or a URL breaks a rule."""
        for field, url in (("successUrl", command.success_url), ("cancelUrl", command.cancel_url)):
            if url is not None:
                urls.allowed(url, field=field, origins=self.origins)
        window = min(max(self.window_seconds, MIN_SESSION_SECONDS), MAX_SESSION_SECONDS)
        currency = command.currency or self.currency
        if currency in ENDED:
            check_charged(currency, on=at.date())
        draft = Draft(
            reference=str(uuid4()),
            booking_id=command.booking_id,
            user_id=command.user_id,
            money=Money.from_major(command.amount, currency),
            success_url=command.success_url or self.success_url,
            cancel_url=command.cancel_url or self.cancel_url,
            livemode=gateway.livemode,
            created_at=at,
            sent=fingerprint(command),
            sent_at=sent_at,
            expires_at=at.replace(microsecond=0) + timedelta(seconds=window),
            pay_until=at + timedelta(seconds=self.window_seconds),
        )
        return replace(draft, gateway_request=gateway.checkout_request(draft))

    def renewed(self, payment: Payment, *, gateway: Gateway, at: datetime) -> Change:
        """The change by which the payment's terms become those of a payment that is begun now."""
        lasts = payment.expires_at - payment.created_at.replace(microsecond=0)
        change = renewed(payment, reference=str(uuid4()), at=at, expires_at=at.replace(microsecond=0) + lasts)
        request = gateway.checkout_request(change.payment)
        return replace(change, payment=replace(change.payment, gateway_request=request))

    @property
    def feed_trusted_seconds(self) -> float:
        """How old the feed's last read may be while it counts as current; a new leader takes a while."""
        return 2 * self.feed_interval_seconds + 1


def fingerprint(command: CreateCheckout) -> str:
    """Of what the caller sent, whatever the settings make of it: an absent member stays absent."""
    amount = as_sent(command.amount)
    sent = (command.booking_id, command.user_id, amount, command.currency, command.success_url, command.cancel_url)
    return hashlib.sha256(repr(sent).encode()).hexdigest()
