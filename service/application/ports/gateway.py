"""The port behind which Stripe sits."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from service.application.ports.feed import Page
from service.application.turns import Priority, Turn
from service.domain.outcomes import Opened, Outcome, Unknown
from service.domain.payment import Payment


class Gateway(Protocol):
    """The port behind which Stripe sits. Nothing here raises for what the gateway does: that is an outcome."""

    @property
    def livemode(self) -> bool:
        """Whether real money moves."""

    def checkout_request(self, terms: "CheckoutTerms") -> Mapping[str, Any]:
        """What will be sent to make the checkout session. Pure: stored before the call and repeated word for word."""

    async def open(
        self, payment: Payment, *, timeout_seconds: float, proven_absent: bool = False, turn: Turn | None = None
    ) -> Outcome:
        """Make the payment's checkout session, under a key derived from its reference: Opened, Refused or Unknown.

        `turn`: one to create that the caller holds; without it the call waits for its own, within its timeout.

        `proven_absent`: `find` has shown that no earlier call made one, so the answer kept under the usual key (perhaps
        an error) need not be heard again.
        """

    async def find(self, payment: Payment, *, timeout_seconds: float) -> Opened | Unknown | None:
        """The session that an earlier `open` of this payment made, looked up by reference; None if there is none."""

    async def look_up(
        self,
        payment: Payment,
        *,
        timeout_seconds: float,
        priority: Priority = Priority.WAITED,
        turn: Turn | None = None,
    ) -> Outcome:
        """How the payment's session stands: Open, Processing, Paid, Expired or Unknown.

        `turn`: one to retrieve that the caller holds; without it the call waits for its own, with that priority.
        """

    async def expire(self, payment: Payment, *, timeout_seconds: float) -> Outcome:
        """End the payment's session. Answers how it stands afterwards: Expired, but perhaps Paid or Processing."""

    async def events(self, *, since: datetime, after: str | None = None, timeout_seconds: float) -> Page | Unknown:
        """A page of what happened to sessions since then: the money came, will not come, or the time was over."""

    async def sessions(self, *, since: datetime, after: str | None = None, timeout_seconds: float) -> Page | Unknown:
        """The same of the sessions made since then, as they stand: dearer, but not only for 30 days."""


@dataclass(frozen=True, kw_only=True)
class CheckoutTerms:
    """What a checkout is made of, before it is a payment: see `domain.payment.Draft` for the members."""

    reference: str
    booking_id: int
    user_id: int
    amount_minor: int
    currency: str
    success_url: str
    cancel_url: str
    expires_at: datetime
