"""The application with the usual parts: fakes behind its ports, unless a test gives it real ones."""

import asyncio
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar

from contracts.commands import CreateCheckout, GetPaymentStatus, VerifyCheckout
from contracts.replies import CheckoutSession
from service.adapters.stripe import StripeGateway
from service.application import handlers
from service.application.admission import Admission
from service.application.after_paid import AfterPaid
from service.application.checkout import Checkout
from service.application.outcome_writer import OutcomeWriter
from service.application.policy import Policy
from service.application.ports import CommandContext
from service.application.reconciliation import Reconciliation
from service.application.status_lookup import StatusLookup
from service.application.told_session import ToldSessions
from service.application.translation import StateReply
from service.application.waiters import WaiterRegistry
from service.ratelimit.limiter import RateLimiter
from service.ratelimit.quota import QuotaStore, Rates
from tests.kit.clock import MovableClock, SystemClock
from tests.kit.fake_gateway import FakeGateway
from tests.kit.fake_reservations import FakeReservations
from tests.kit.fake_store import FakeStore
from tests.kit.observers import CountingObserver
from tests.kit.service import context, create, policy


def a_limiter(
    concurrency: int = 64, rates: Rates | None = None, quota_store: QuotaStore | None = None, **more: Any
) -> RateLimiter:
    """Without rates unless a test has some."""
    more.setdefault("observer", CountingObserver())
    more.setdefault("now", SystemClock().now)
    return RateLimiter(concurrency=concurrency, rates=rates, quota_store=quota_store, **more)


def a_stripe_gateway(api_base: str | None, **more: Any) -> StripeGateway:
    """The real adapter, with quick repeats."""
    return StripeGateway(**gateway_parts(api_base, **more))


def gateway_parts(api_base: str | None, **more: Any) -> dict[str, Any]:
    """What a gateway, or one that a test has changed, is made of."""
    concurrency = more.get("concurrency", 8)
    parts: dict[str, Any] = {
        "api_key": "sk_test_worldOfTests",
        "api_base": api_base,
        "concurrency": concurrency,
        "limiter": a_limiter(concurrency),
        "observer": CountingObserver(),
        "now": SystemClock().now,
        "backoff_seconds": 0.01,
    }
    return parts | more


@dataclass
class World:
    """What one service process is made of, between its entrypoints and its adapters."""

    checkout_type: ClassVar[type[Checkout]] = Checkout
    lookup_type: ClassVar[type[StatusLookup]] = StatusLookup

    _: KW_ONLY
    store: Any = field(default_factory=FakeStore)
    gateway: Any = None
    clock: Any = field(default_factory=MovableClock)
    policy: Policy = field(default_factory=policy)
    reservations: Any = field(default_factory=FakeReservations)
    waiters: WaiterRegistry = field(default_factory=WaiterRegistry)
    limiter: RateLimiter = field(default_factory=a_limiter)
    observer: Any = field(default_factory=CountingObserver)

    def __post_init__(self) -> None:
        if self.gateway is None:
            self.gateway = FakeGateway(self.clock)
        self.admission = Admission(
            limiter=self.limiter, reservations=self.reservations, clock=self.clock, observer=self.observer
        )
        self.outcomes = OutcomeWriter(store=self.store, clock=self.clock)
        parts = self.parts("store", "gateway", "policy", "clock", "outcomes")
        self.status_lookup = self.lookup_type(**parts, limiter=self.limiter, waiters=self.waiters)
        self.checkout = self.checkout_type(**parts, admission=self.admission)
        told = self.parts("store", "gateway", "clock", "outcomes")
        self.told_sessions = ToldSessions(**told, gateway_timeout_seconds=2.0, observer=self.observer)
        self.after_paid = AfterPaid(**told, told_sessions=self.told_sessions, gateway_timeout_seconds=2.0)
        compared = self.parts("store", "gateway", "told_sessions", "clock")
        self.reconciliation = Reconciliation(**compared, gateway_timeout_seconds=2.0, grace_seconds=0.0)

    def parts(self, *names: str) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names}

    async def create(
        self, command: CreateCheckout | None = None, sent: CommandContext | None = None, **body: Any
    ) -> CheckoutSession:
        return await handlers.create_checkout(
            command or create(**body), context=sent or context(), **self.parts("policy", "gateway", "clock", "checkout")
        )

    async def verify(self, session_id: str, sent: CommandContext | None = None) -> StateReply:
        return await handlers.verify_checkout(
            VerifyCheckout(session_id=session_id),
            context=sent or context(),
            store=self.store,
            status_lookup=self.status_lookup,
        )

    async def status(self, transaction_id: str) -> StateReply:
        return await handlers.get_payment_status(GetPaymentStatus(transaction_id=transaction_id), store=self.store)

    def replica(self, **parts: Any) -> "World":
        """Another process on the same database and the same gateway."""
        return World(**self.parts("store", "gateway", "clock", "policy", "reservations") | parts)

    async def drain(self) -> None:
        await asyncio.gather(self.checkout.openings.drain(), self.status_lookup.lookups.drain())
