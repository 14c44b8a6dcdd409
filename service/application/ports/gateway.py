"""The port behind which Stripe sits."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

from service.application.ports.charge_events import ChargePage
from service.application.ports.session_events import EventPage, ToldPage, ToldSession
from service.domain.outcomes import Opened, Outcome, Unknown
from service.domain.payment import Draft, Payment
from service.ratelimit.permit import Priority


class Gateway(Protocol):
    """Every call that the application makes. Nothing here raises for what the gateway does: that is an outcome."""

    @property
    def livemode(self) -> bool:
        """Whether real money moves."""

    @property
    def ahead(self) -> timedelta:
        """How far the gateway's clock, by which it dates everything, is ahead of ours; behind if negative."""

    def checkout_request(self, draft: Draft) -> Mapping[str, Any]:
        """What will be sent to make the checkout session. Pure: stored before the call and repeated word for word."""

    async def open(self, payment: Payment, *, timeout_seconds: float) -> Outcome:
        """Make the payment's checkout session, under a key derived from its reference: Opened, Refused or Unknown.

        While the gateway keeps the key, a repeat is proof of what an earlier call has made.
        """

    async def find(self, payment: Payment, *, timeout_seconds: float) -> Opened | Unknown | None:
        """The session that an earlier `open` under these terms made, looked up by reference; None if there is none."""

    async def look_up(
        self, payment: Payment, *, timeout_seconds: float, priority: Priority = Priority.WAITED
    ) -> Outcome:
        """How the payment's session stands: Open, Processing, Paid, Expired or Unknown."""

    async def retrieve(self, session_id: str, *, timeout_seconds: float) -> ToldSession | Unknown | None:
        """All that the gateway says of a session, whether or not it belongs to a payment here; nobody waits for it.

        None if it says that there is none.
        """

    async def expire(self, payment: Payment, *, timeout_seconds: float) -> Outcome:
        """End the payment's session. Answers how it stands afterwards: Expired, but perhaps Paid or Processing."""

    async def events(self, *, since: datetime, after: str | None = None, timeout_seconds: float) -> EventPage | Unknown:
        """A page of what happened to sessions since then: the money came, will not come, or the time was over."""

    async def sessions(
        self, *, since: datetime, after: str | None = None, timeout_seconds: float
    ) -> EventPage | Unknown:
        """The same for the sessions made since then, as they stand: more expensive, but not limited to 30 days."""

    async def told_sessions(
        self, *, since: datetime, until: datetime, after: str | None = None, timeout_seconds: float
    ) -> ToldPage | Unknown:
        """A page of all sessions made from `since` and before `until`, as they stand; nobody waits for it."""

    async def charge_events(
        self, *, since: datetime, after: str | None = None, timeout_seconds: float
    ) -> ChargePage | Unknown:
        """A page of the refunds and disputes since then, those of others too."""

    async def session_of_intent(self, payment_intent: str, *, timeout_seconds: float) -> ToldSession | Unknown | None:
        """The session through which this was paid; None if there is none."""
