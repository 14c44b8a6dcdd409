"""Connects to the servers that a service needs at its start, in whatever order they start, and to no impostor."""

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, Final

from faststream.rabbit import RabbitBroker

from runtime import broker_check, connection_urls
from runtime.aio import Backoff, LogOnChange, ThinnedOut
from runtime.command_start import CannotStartError
from runtime.health import Health, NotReadyError
from service.adapters.postgres import (
    GRANTED,
    Database,
    DatabaseClock,
    PostgresQuotaStore,
    check_usable,
    could_rewrite,
    revision_problem,
    why,
)
from service.adapters.stripe import StripeGateway
from service.adapters.stripe.calls import Calls
from service.application.policy import Policy
from service.application.ports import Clock
from service.application.single_flight import SingleFlight
from service.domain.errors import StoreUnavailableError
from service.entrypoints import broker as brokers
from service.entrypoints.publisher import Publisher
from service.entrypoints.topology_watch import TopologyWatch
from service.ratelimit.limiter import RateLimiter
from service.ratelimit.quota import Rates
from service.settings import Settings

_log = logging.getLogger(__name__)

START_SECONDS: Final = 30.0
"""How long the database and the broker may take to appear."""
GATEWAY_TIMEOUT_SECONDS: Final = 8.0
"""Below the bridge's deadline (10 s), so that a caller hears what happened instead of nothing."""
ATTEMPT_SECONDS: Final = 15.0
"""How long one attempt may take; a broker that has just started elects leaders for new queues."""


class StartError(CannotStartError):
    """The service cannot start; the text is one sentence for an operator."""


def _unreachable(error: Exception) -> str:
    return f"cannot be reached ({type(error).__name__})"


def _of_database(error: Exception) -> str:
    return why(error) if isinstance(error, StoreUnavailableError) else _unreachable(error)


def _of_broker(error: Exception) -> str:
    return broker_check.refusal(error) or _unreachable(error)


async def wait_until_reachable(
    name: str,
    attempt: Callable[[], Awaitable[Any]],
    errors: tuple[type[Exception], ...],
    *,
    why: Callable[[Exception], str],
) -> None:
    """Repeat the attempt until it succeeds: a deployment starts its parts in any order.

    `why`: what to say of an error, after the name.

    StartError is raised after `START_SECONDS`, and at once for an untrusted certificate, which no time mends.
    """
    deadline = asyncio.get_running_loop().time() + START_SECONDS
    backoff, change = Backoff(first_seconds=0.5, longest_seconds=1.0), LogOnChange(_log)
    while True:
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                await attempt()
        except errors as error:
            refuse_untrusted(name, error)
            if asyncio.get_running_loop().time() > deadline:
                raise StartError(f"{name} {why(error)}.") from None
            change.failed("waiting for %s, which %s", name, why(error))
            await asyncio.sleep(backoff.next_seconds())
        else:
            return


async def check_certificate(name: str, attempt: Callable[[], Awaitable[Any]]) -> None:
    """Try once, and raise StartError for an impostor only: a server that is down may come later."""
    try:
        await attempt()
    except OSError as error:  # TimeoutError too
        refuse_untrusted(name, error)
        _log.warning("%s cannot be reached yet (%s)", name, type(error).__name__)


def refuse_untrusted(name: str, error: Exception) -> None:
    """Raises StartError if an attempt failed because of the peer's certificate."""
    if (distrust := connection_urls.distrust(error)) is not None:
        raise StartError(f"{name} {distrust}.") from None


async def connected_database(settings: Settings, stack: AsyncExitStack) -> Database:
    """The pool; raises StartError unless it leads to a trusted database with the tables that this version needs."""
    database = Database(settings.database_url.get_secret_value(), plans_once=True, warnings=ThinnedOut(_log))
    stack.push_async_callback(database.close)
    away = StoreUnavailableError, TimeoutError
    await wait_until_reachable("the database (DATABASE_URL)", database.ping, away, why=_of_database)
    if (problem := await revision_problem(database)) is not None:
        raise StartError(problem)
    if await could_rewrite(database):
        _log.warning("the role of DATABASE_URL could change the record: see MIGRATION_DATABASE_URL")
    return database


async def measured_clock(database: Database) -> DatabaseClock:
    """The time by which replicas compare; raises StartError if it cannot be measured."""
    clock = DatabaseClock(database)
    try:
        await clock.measure()
    except StoreUnavailableError as error:
        raise StartError(f"The database (DATABASE_URL) was lost at the start: it {why(error)}.") from None
    return clock


async def connected_publisher(
    settings: Settings, stack: AsyncExitStack, *, clock: Clock
) -> tuple[Publisher, TopologyWatch]:
    """What publishes, and what keeps the topology; raises StartError if RabbitMQ does not take that."""
    amqp_url = settings.amqp_url.get_secret_value()
    try:
        await wait_until_reachable(
            "RabbitMQ (AMQP_URL)", lambda: brokers.declare(amqp_url), brokers.UNREACHABLE, why=_of_broker
        )
    except brokers.TopologyRefusedError as error:
        raise StartError(f"RabbitMQ (AMQP_URL) refuses what is needed: {error}") from None
    try:
        publishing = await brokers.connected(amqp_url)
    except brokers.UNREACHABLE as error:
        raise StartError(f"RabbitMQ (AMQP_URL) was lost at the start ({type(error).__name__}).") from None
    stack.push_async_callback(brokers.disconnect, publishing.close)
    watch = TopologyWatch(publishing)
    publisher = Publisher(publishing, now=clock.now, user=settings.amqp_user, on_missing=watch.wake)
    stack.push_async_callback(publisher.close)
    return publisher, watch


async def consume(broker: RabbitBroker) -> None:
    """Have the commands consumed; StartError if RabbitMQ stays away.

    FastStream's application tries once, and by then RabbitMQ may have gone again: what comes before may take minutes.
    """
    await wait_until_reachable("RabbitMQ (AMQP_URL)", broker.start, brokers.UNREACHABLE, why=_of_broker)


async def built_gateway(
    settings: Settings,
    stack: AsyncExitStack,
    database: Database,
    *,
    observer: Any,
    clock: Clock,
    monotonic: Callable[[], float] = time.monotonic,
) -> tuple[StripeGateway, RateLimiter]:
    """Stripe, within the rates that all replicas and commands share through the database."""
    rates = quota_store = None
    if settings.stripe_requests_per_second:  # otherwise no statement is spent on quota
        rates = Rates(endpoint=settings.stripe_requests_per_second, everything=settings.global_requests_per_second)
        quota_store = PostgresQuotaStore(database, rates=rates)
    limiter = RateLimiter(
        concurrency=settings.stripe_concurrency,
        rates=rates,
        quota_store=quota_store,
        observer=observer,
        now=clock.now,
    )
    stack.push_async_callback(limiter.close)
    base = settings.stripe_api_base
    gateway = StripeGateway(
        api_key=settings.stripe_api_key.get_secret_value(),
        api_base=base,
        concurrency=settings.stripe_concurrency,
        limiter=limiter,
        observer=observer,
        clock=monotonic,
        now=clock.now,
        billing_address=settings.payment_billing_address,
        description=settings.payment_description,
    )
    stack.push_async_callback(gateway.close)
    await check_certificate("Stripe (STRIPE_API_BASE)", lambda: gateway.check_certificate(base))
    return gateway, limiter


def health(
    *,
    database: Database,
    publisher: Publisher,
    consuming: RabbitBroker,
    calls: Calls,
    watch: TopologyWatch,
    clock: DatabaseClock,
    started: asyncio.Event,
    leaving: asyncio.Event,
) -> Health:
    """What the health page checks. Nothing is ready before `started` is set; Stripe makes nothing unready."""

    def details() -> dict[str, dict[str, Any]]:
        misconfigured = sorted(each.value for each in calls.misconfigured)
        stripe = {"clockSkewSeconds": _seconds(calls.skew.measured), "misconfigured": misconfigured}
        return {"clock": {"databaseSkewSeconds": _seconds(clock.skew)}, "stripe": stripe}

    looking = SingleFlight[None]()

    async def takes_writes() -> bool:
        await check_usable(database, GRANTED)
        return True

    async def takes_messages() -> bool:
        if not started.is_set():
            return False
        if watch.problem is not None:
            raise NotReadyError(watch.problem)
        await publisher.check()
        return True

    async def delivers() -> bool:
        # Asked while FastStream still connects, it would connect a second time, and that one would stay.
        if not started.is_set():
            return False
        await looking.run(
            "consumers", functools.partial(brokers.check_consumers, consuming), seconds=brokers.CHECK_SECONDS
        )
        return True

    checks = {"broker": takes_messages, "consumers": delivers, "database": takes_writes}
    return Health(checks=checks, is_leaving=leaving.is_set, details=details)


def _seconds(measured: timedelta | None) -> int | None:
    return None if measured is None else round(measured.total_seconds())


def policy(settings: Settings) -> Policy:
    """The rules that the settings choose."""
    return Policy(
        currency=settings.payment_currency,
        success_url=settings.payment_success_url,
        cancel_url=settings.payment_cancel_url,
        origins=settings.origins,
        window_seconds=settings.payment_window_seconds,
        reuse_seconds=settings.payment_reuse_seconds,
        freshness_seconds=settings.verify_freshness_seconds,
        gateway_timeout_seconds=GATEWAY_TIMEOUT_SECONDS,
        feed_interval_seconds=settings.feed_interval_seconds,
    )
