"""Puts together what stands between entrypoints and adapters."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from service import startup
from service.adapters.postgres import Database, PostgresReservations, PostgresStore
from service.adapters.stripe import StripeGateway
from service.application.admission import Admission
from service.application.checkout import Checkout
from service.application.outcome_writer import OutcomeWriter
from service.application.policy import Policy
from service.application.ports import Clock
from service.application.status_lookup import StatusLookup
from service.application.told_session import ToldSessions
from service.application.waiters import WaiterRegistry
from service.metrics import Metrics
from service.ratelimit.limiter import RateLimiter
from service.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Application:
    """What stands between entrypoints and adapters, and the adapters that both sides use."""

    store: PostgresStore
    gateway: StripeGateway
    policy: Policy
    clock: Clock
    limiter: RateLimiter
    waiters: WaiterRegistry
    outcomes: OutcomeWriter
    told_sessions: ToldSessions
    admission: Admission
    status_lookup: StatusLookup
    checkout: Checkout


async def assembled(
    settings: Settings,
    stack: AsyncExitStack,
    *,
    database: Database,
    store: PostgresStore,
    clock: Clock,
    waiters: WaiterRegistry,
    metrics: Metrics,
    monotonic: Callable[[], float],
) -> Application:
    """What creates and verifies go through, down to Stripe; what it has begun is finished before `stack` is left."""
    gateway, limiter = await startup.built_gateway(
        settings, stack, database, observer=metrics, clock=clock, monotonic=monotonic
    )
    rules, outcomes = startup.policy(settings), OutcomeWriter(store=store, clock=clock)
    admission = Admission(limiter=limiter, reservations=PostgresReservations(database), clock=clock, observer=metrics)
    status_lookup = StatusLookup(
        store=store, gateway=gateway, policy=rules, clock=clock, limiter=limiter, waiters=waiters, outcomes=outcomes
    )
    checkout = Checkout(store=store, gateway=gateway, policy=rules, clock=clock, admission=admission, outcomes=outcomes)
    told_sessions = ToldSessions(
        store=store,
        gateway=gateway,
        outcomes=outcomes,
        clock=clock,
        gateway_timeout_seconds=startup.GATEWAY_TIMEOUT_SECONDS,
        observer=metrics,
    )
    stack.push_async_callback(status_lookup.lookups.drain)
    stack.push_async_callback(checkout.openings.drain)
    return Application(
        store=store,
        gateway=gateway,
        policy=rules,
        clock=clock,
        limiter=limiter,
        waiters=waiters,
        outcomes=outcomes,
        told_sessions=told_sessions,
        admission=admission,
        status_lookup=status_lookup,
        checkout=checkout,
    )
