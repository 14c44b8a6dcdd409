"""The composition root: the only place that builds clients from settings; in which order they start and stop."""

import asyncio
import functools
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from faststream.asgi import AsgiFastStream
from faststream.rabbit import RabbitBroker

from contracts.actuator import Build, Health
from service.adapters.store import (
    OUTBOX_CHANNEL,
    POOL_SIZE,
    READ_CHANNEL,
    WANTED_CHANNEL,
    Database,
    PostgresFeedRecord,
    PostgresLeases,
    PostgresOutbox,
    PostgresPlaces,
    PostgresStore,
    Wakeups,
    could_rewrite,
    current_revision,
    newest_revision,
)
from service.adapters.stripe import StripeGateway
from service.application.budget import Budget
from service.application.leases import Rates
from service.application.news import News
from service.application.policy import Policy
from service.application.ports import Clock
from service.application.steps import Steps
from service.domain.errors import StoreUnavailableError
from service.domain.status import Change, ChangeKind
from service.entrypoints import actuator, consumers, pages, tasks
from service.entrypoints import broker as brokers
from service.entrypoints.delivery import Delivery
from service.entrypoints.feed import Feed
from service.entrypoints.holds import Holds
from service.entrypoints.pruner import Pruner
from service.entrypoints.relay import Relay
from service.entrypoints.settler import Settler
from service.metrics import Metrics
from service.reach import StartError, meet, reach
from service.settings import STRIPE_API_BASE, Settings

_log = logging.getLogger(__name__)

GATEWAY_TIMEOUT_SECONDS: Final = 8.0
"""Below the bridge's deadline (10 s), so that a caller hears what happened instead of nothing."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Now, in UTC."""
        return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Service:
    """The running parts. `asgi` consumes while it is served; `failed` is set if a background task ends by itself."""

    asgi: AsgiFastStream
    steps: Steps
    relay: Relay
    holds: Holds
    failed: asyncio.Event


def policy(settings: Settings) -> Policy:
    """The rules that the settings choose."""
    return Policy(
        currency=settings.payment_currency,
        success_url=settings.payment_success_url,
        cancel_url=settings.payment_cancel_url,
        origins=settings.origins,
        window_seconds=settings.payment_window_seconds,
        freshness_seconds=settings.verify_freshness_seconds,
        gateway_timeout_seconds=GATEWAY_TIMEOUT_SECONDS,
        feed_interval_seconds=settings.feed_interval_seconds,
    )


@asynccontextmanager
async def built(
    settings: Settings, *, clock: Clock | None = None, monotonic: Callable[[], float] = time.monotonic
) -> AsyncGenerator[Service]:
    """The service, ready to be served. What is started last stops first: consumers before the relay before the store.

    `monotonic` counts the seconds for which Stripe is left alone when it fails.

    Raises:
        StartError: the database or the broker does not answer, somebody's certificate cannot be trusted, or the
            database needs a migration.
    """
    clock = clock or SystemClock()
    failed = asyncio.Event()
    build = Build.installed("payment-service", commit=settings.git_commit)
    metrics = Metrics(build)
    async with AsyncExitStack() as stack:
        database = await _database(settings, stack)
        amqp_url = settings.amqp_url.get_secret_value()
        await reach("RabbitMQ (AMQP_URL)", functools.partial(_declare, amqp_url), brokers.UNREACHABLE)
        publishing = brokers.rabbit_broker(amqp_url)
        stack.push_async_callback(_disconnect, publishing)
        await _connect(publishing)
        publisher = brokers.Publisher(publishing, user=settings.amqp_user)

        news, places, outbox = News(), PostgresPlaces(database), PostgresOutbox(database)
        wakeups = Wakeups(settings.database_url.get_secret_value(), heard=_heard(news), missed=news.missed)
        store = PostgresStore(database, told=on_change(metrics.change, news, wakeups.ring))
        relay = Relay(outbox=outbox, publisher=publisher, clock=clock, alarm=wakeups)
        stack.push_async_callback(tasks.cancel, tasks.watched(wakeups.run(), name="outbox-wakeups", failed=failed))
        stack.push_async_callback(_stop_relay, relay, tasks.watched(relay.run(), name="outbox-relay", failed=failed))

        events_kept = timedelta(days=settings.outbox_retention_days)
        pruner = Pruner(store=store, outbox=outbox, places=places, clock=clock, events_kept=events_kept)
        tasks.work(stack, pruner, name="pruner", failed=failed)

        budget = await stack.enter_async_context(_budget(settings, database, metrics))
        gateway = StripeGateway(
            api_key=settings.stripe_api_key.get_secret_value(),
            api_base=None if settings.stripe_api_base == STRIPE_API_BASE else settings.stripe_api_base,
            concurrency=settings.stripe_concurrency,
            budget=budget,
            told=metrics.gateway_call,
            clock=monotonic,
        )
        stack.push_async_callback(gateway.close)
        await meet("Stripe (STRIPE_API_BASE)", functools.partial(gateway.meet, settings.stripe_api_base))
        steps = Steps(
            store=store,
            gateway=gateway,
            policy=policy(settings),
            clock=clock,
            budget=budget,
            places=places,
            news=news,
        )
        stack.push_async_callback(steps.drain)

        settler = Settler(steps=steps)
        tasks.work(stack, settler, name="settler", failed=failed)
        record = PostgresFeedRecord(database)
        feed = Feed(
            steps=steps,
            record=record,
            news=news,
            interval_seconds=settings.feed_interval_seconds,
            calls_per_second=settings.stripe_requests_per_second,
        )
        tasks.work(stack, feed, name="feed", failed=failed)

        holds = Holds(store=store, publisher=publisher)
        news.listen(holds.hear)
        stack.push_async_callback(tasks.cancel, tasks.watched(holds.run(), name="holds", failed=failed))

        metrics.read(
            feed=feed,
            news=news,
            relay=relay,
            settler=settler,
            outbox=outbox,
            holds=holds,
            calls=gateway.calls,
            budget=budget,
            admission=steps.admission,
            connections_in_use=lambda: database.in_use,
            connections_limit=POOL_SIZE,
        )
        delivery = functools.partial(
            Delivery, publisher=publisher, clock=clock, holds=holds, senders=settings.senders, told=metrics.command
        )
        consuming = brokers.rabbit_broker(amqp_url, middlewares=(delivery,))
        consumers.register(consuming, steps=steps)
        stack.push_async_callback(_disconnect, consuming)
        started, leaving = asyncio.Event(), asyncio.Event()

        def tell() -> None:
            started.set()
            _log.info("ready: consuming commands")

        health = _health(database, publishing=publishing, consuming=consuming, started=started, leaving=leaving)
        asgi = AsgiFastStream(
            consuming,
            asgi_routes=[*actuator.routes(health=health, build=build, metrics=metrics.page), *pages.routes()],
            logger=None,
            after_startup=[tell],
            # Handlers may need all of the grace time that there is.
            on_shutdown=[leaving.set, settler.stop, holds.leave],
        )
        yield Service(asgi=asgi, steps=steps, relay=relay, holds=holds, failed=failed)


async def _database(settings: Settings, stack: AsyncExitStack) -> Database:
    database = Database(settings.database_url.get_secret_value())
    stack.push_async_callback(database.close)
    await reach("the database (DATABASE_URL)", database.ping, (StoreUnavailableError, TimeoutError))
    await _check_revision(database)
    if await could_rewrite(database):
        _log.warning("the role of DATABASE_URL could change the record: see MIGRATION_DATABASE_URL")
    return database


@asynccontextmanager
async def _budget(settings: Settings, database: Database, metrics: Metrics) -> AsyncGenerator[Budget]:
    """Not paced if the settings say so: then no statement is spent on it."""
    rates = leases = None
    if settings.stripe_requests_per_second:
        rates = Rates(endpoint=settings.stripe_requests_per_second, everything=settings.global_requests_per_second)
        leases = PostgresLeases(database, rates=rates)
    budget = Budget(concurrency=settings.stripe_concurrency, rates=rates, leases=leases, told=metrics.turn)
    try:
        yield budget
    finally:
        await budget.close()


def _health(
    database: Database,
    *,
    publishing: RabbitBroker,
    consuming: RabbitBroker,
    started: asyncio.Event,
    leaving: asyncio.Event,
) -> Health:
    async def takes_writes() -> bool:
        await database.ping()
        return True

    async def takes_events() -> bool:
        return started.is_set() and await brokers.publishing(publishing)

    async def delivers() -> bool:
        # Asked while FastStream still connects, it would connect a second time, and that one would stay.
        return started.is_set() and await brokers.consuming(consuming)

    checks = {"broker": takes_events, "consumers": delivers, "database": takes_writes}
    return Health(checks=checks, is_leaving=leaving.is_set)


def on_change(count: Callable[[Change], None], news: News, wake: Callable[[], None]) -> Callable[[Change], None]:
    """What hears of each change: the metrics, of events this process's relay, of the final ones whoever waits here."""

    def told(change: Change) -> None:
        count(change)
        if change.kind is not ChangeKind.CREATED:  # which is no event
            wake()
        if change.payment.status.is_final:
            news.settled(change.payment.id)

    return told


def _heard(news: News) -> dict[str, Callable[[str], None]]:
    """By NOTIFY channel, who hears what other replicas say.

    How long their word takes is not in the seconds they tell: milliseconds, and Stripe promises no less.
    """
    return {
        OUTBOX_CHANNEL: lambda payload: news.settled(int(payload)) if payload.isdecimal() else None,
        WANTED_CHANNEL: lambda _: news.want_reading(here=False),
        READ_CHANNEL: lambda seconds: news.read(seconds_ago=float(seconds)),
    }


async def _declare(amqp_url: str) -> None:
    try:
        await brokers.declare(amqp_url)
    except brokers.TopologyRefusedError as error:
        raise StartError(f"RabbitMQ (AMQP_URL) refuses what is needed: {error}") from None


async def _connect(publishing: RabbitBroker) -> None:
    """Once: what FastStream began in vain would stay, so a broker that ends in this very moment ends us."""
    try:
        await publishing.connect()
    except brokers.UNREACHABLE as error:
        raise StartError(f"RabbitMQ (AMQP_URL) was lost at the start ({type(error).__name__}).") from None


async def _check_revision(database: Database) -> None:
    current, newest = await current_revision(database), newest_revision()
    if current != newest:
        found = current or "none"
        raise StartError(f"The database is at revision {found}, but {newest} is needed: run payment-service migrate.")


async def _disconnect(broker: RabbitBroker) -> None:
    """Also from a silent RabbitMQ: FastStream then stops halfway, and its connection would never give up."""
    for _ in range(2):
        try:
            async with asyncio.timeout(brokers.PUBLISH_SECONDS):
                await broker.stop()
        except brokers.UNREACHABLE as error:
            _log.warning("the connection to RabbitMQ did not end well (%s)", type(error).__name__)
        else:
            return


async def _stop_relay(relay: Relay, task: asyncio.Task[None]) -> None:
    """What is committed leaves before we do; what cannot is sent by another replica or at the next start."""
    await tasks.stop(relay, task)
    try:
        await relay.flush()
    except StoreUnavailableError:
        _log.warning("the last events are left to another relay")
