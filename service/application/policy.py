"""The rules that settings choose, and how a create command becomes a draft under them."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

from contracts.commands import CreateCheckout
from service.application.ports import CheckoutTerms, Gateway
from service.domain import urls
from service.domain.money import Money
from service.domain.payment import Draft, Payment

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
    freshness_seconds: float
    gateway_timeout_seconds: float
    feed_interval_seconds: float

    def draft(self, command: CreateCheckout, *, gateway: Gateway, at: datetime) -> Draft:
        """Everything that will be sent to the gateway, frozen.

        Raises:
            InvalidRequestError: the amount, the currency or a URL breaks a rule.
        """
        money = Money.from_major(command.amount, command.currency or self.currency)
        window = min(max(self.window_seconds, MIN_SESSION_SECONDS), MAX_SESSION_SECONDS)
        terms = CheckoutTerms(
            reference=str(uuid4()),
            booking_id=command.booking_id,
            user_id=command.user_id,
            amount_minor=money.minor,
            currency=money.currency,
            success_url=self._return_url(command.success_url, self.success_url, "successUrl"),
            cancel_url=self._return_url(command.cancel_url, self.cancel_url, "cancelUrl"),
            expires_at=at.replace(microsecond=0) + timedelta(seconds=window),
        )
        return Draft(
            reference=terms.reference,
            booking_id=terms.booking_id,
            user_id=terms.user_id,
            money=money,
            success_url=terms.success_url,
            cancel_url=terms.cancel_url,
            livemode=gateway.livemode,
            created_at=at,
            expires_at=terms.expires_at,
            gateway_request=gateway.checkout_request(terms),
        )

    def pay_until(self, payment: Payment) -> datetime:
        """When the payer's time is over: from then on the settler ends the session."""
        return payment.created_at + self.window

    @property
    def feed_trusted_seconds(self) -> float:
        """How old the feed's last reading may be while it is taken to be at work; a new leader takes a while."""
        return 2 * self.feed_interval_seconds + 1

    @property
    def window(self) -> timedelta:
        """How long a payer has."""
        return timedelta(seconds=self.window_seconds)

    def _return_url(self, given: str | None, default: str, field: str) -> str:
        return default if given is None else urls.allowed(given, field=field, origins=self.origins)
