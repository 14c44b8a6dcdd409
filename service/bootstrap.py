"""The composition root: the only place that builds clients from settings; in which order they start and stop."""

import asyncio
import functools
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from faststream.asgi import AsgiFastStream

from runtime.health import Build
from service import notifications, pinning, startup
from service.adapters.postgres import (
    Database,
    PostgresActs,
    PostgresEventCursor,
    PostgresGatewayHealth,
    PostgresListener,
    PostgresOutbox,
    PostgresReservations,
    PostgresStore,
    why,
)
from service.application.event_reader import UnreadError
from service.application.ports import Clock
from service.application.reconciliation import Reconciliation
from service.application.waiters import WaiterRegistry
from service.assembly import Application, assembled
from service.domain.errors import StoreUnavailableError
from service.entrypoints import actuator, consumers, docs_page
from service.entrypoints import broker as brokers
from service.entrypoints.long_poll import LongPoll
from service.entrypoints.middleware import CommandMiddleware
from service.entrypoints.publisher import Publisher
from service.metrics import Metrics
from service.settings import Settings
from service.workers import supervision
from service.workers.act_worker import ActWorker
from service.workers.after_paid_reader import AfterPaidReader
from service.workers.event_feed import EventFeed
from service.workers.health_teller import HealthTeller
from service.workers.pruner import Pruner
from service.workers.reconciler import Reconciler
from service.workers.relay import Relay
from service.workers.sweeper import Sweeper

_log = logging.getLogger(__name__)

_NOT_COMPARED: Final = "The payments have to be compared with Stripe before anything is served: "


@dataclass(frozen=True, kw_only=True)
class Service:
    """The running parts. `asgi` consumes while it is served; `failed` is set if a background task ends by itself."""

    asgi: AsgiFastStream
    application: Application
    relay: Relay
    long_poll: LongPoll
    failed: asyncio.Event


@asynccontextmanager
async def built(
    settings: Settings, *, clock: Clock | None = None, monotonic: Callable[[], float] = time.monotonic
) -> AsyncGenerator[Service]:
    """The service, ready to be served. What is started last stops first: consumers before the relay before the store.

    `monotonic` counts the seconds for which Stripe is not called when it fails.

    Raises:
        StartError: a server does not answer, a certificate is not trusted, or the database needs a migration or is
            another account's.
    """
    build = Build.installed("payment-service", commit=settings.git_commit)
    metrics, failed = Metrics(build), asyncio.Event()
    async with AsyncExitStack() as stack:
        database = await startup.connected_database(settings, stack)
        await pinning.pin(settings, database, stack, failed=failed)
        measured = await startup.measured_clock(database)
        clock = clock or measured
        publisher, watch = await startup.connected_publisher(settings, stack, clock=clock)
        waiters, outbox = WaiterRegistry(), PostgresOutbox(database)
        listener = PostgresListener(
            (settings.database_listen_url or settings.database_url).get_secret_value(),
            on_notification=notifications.by_channel(waiters),
            on_reconnect=waiters.resync,
        )
        store = PostgresStore(database, on_change=notifications.on_change(metrics.on_change, waiters, listener.wake))
        supervision.run_until_cancelled(stack, measured.run(), name="clock", failed=failed)
        relay = Relay(outbox=outbox, publisher=publisher, clock=clock, wakeup=listener, observer=metrics)
        supervision.run_until_cancelled(stack, listener.run(), name="notifications", failed=failed)
        stack.push_async_callback(relay.flush)
        supervision.work(stack, relay, name="outbox-relay", failed=failed)
        shared = functools.partial(assembled, settings, stack, database=database, store=store, clock=clock)
        application = await shared(waiters=waiters, metrics=metrics, monotonic=monotonic)
        reconciler = await _reconciled(settings, application, metrics)
        sweeper, feed = _workers(
            settings,
            stack,
            application,
            database=database,
            outbox=outbox,
            metrics=metrics,
            reconciliation=reconciler.reconciliation,
            failed=failed,
        )
        supervision.run_until_cancelled(stack, reconciler.run(feed), name="reconciler", failed=failed)
        long_poll = LongPoll(store=store, publisher=publisher, observer=metrics)
        waiters.subscribe(lambda payment_id: long_poll.resync() if payment_id is None else long_poll.notify(payment_id))
        supervision.run_until_cancelled(stack, long_poll.run(), name="long-poll", failed=failed)
        metrics.read_from(
            database=database,
            outbox=outbox,
            feed=feed,
            waiters=waiters,
            long_poll=long_poll,
            calls=application.gateway.calls,
            clock=measured,
            limiter=application.limiter,
            outstanding=application.admission.outstanding,
        )
        leaving, started = asyncio.Event(), asyncio.Event()
        consuming = _consuming(
            settings, application, publisher=publisher, long_poll=long_poll, metrics=metrics, leaving=leaving
        )
        stack.push_async_callback(brokers.disconnect, consuming.stop)
        supervision.run_until_cancelled(stack, watch.run(consuming, started), name="topology-watch", failed=failed)

        def on_started() -> None:
            started.set()
            _log.info("ready: consuming commands")

        health = startup.health(
            database=database,
            publisher=publisher,
            consuming=consuming,
            calls=application.gateway.calls,
            watch=watch,
            clock=measured,
            started=started,
            leaving=leaving,
        )
        asgi = AsgiFastStream(
            consuming,
            asgi_routes=[*actuator.routes(health=health, build=build, metrics=metrics.page), *docs_page.routes()],
            logger=None,
            after_startup=[on_started],
            # Handlers may need all of the grace time that there is.
            on_shutdown=[leaving.set, sweeper.stop, long_poll.stop],
        )
        await startup.consume(consuming)  # last, for the application changes the context of handlers
        yield Service(asgi=asgi, application=application, relay=relay, long_poll=long_poll, failed=failed)


async def _reconciled(settings: Settings, application: Application, metrics: Metrics) -> Reconciler:
    """What compares payments with Stripe; after a restore it has done so before anything is served.

    Raises:
        StartError: the database lacks what Stripe has, and one of the two stopped answering.
    """
    reconciliation = Reconciliation(
        store=application.store,
        gateway=application.gateway,
        told_sessions=application.told_sessions,
        clock=application.clock,
        gateway_timeout_seconds=startup.GATEWAY_TIMEOUT_SECONDS,
        grace_seconds=application.policy.feed_trusted_seconds,
    )
    creates, interval = application.admission, settings.reconcile_interval_seconds
    reconciler = Reconciler(reconciliation=reconciliation, creates=creates, observer=metrics, interval_seconds=interval)
    if settings.reconcile_on_start != "never":
        try:
            await reconciler.before_serving(always=settings.reconcile_on_start == "always")
        except UnreadError as error:
            raise startup.StartError(f"{_NOT_COMPARED}Stripe cannot be asked ({error}).") from None
        except StoreUnavailableError as error:
            raise startup.StartError(f"{_NOT_COMPARED}the database (DATABASE_URL) {why(error)}.") from None
    return reconciler


def _workers(
    settings: Settings,
    stack: AsyncExitStack,
    application: Application,
    *,
    database: Database,
    outbox: PostgresOutbox,
    metrics: Metrics,
    reconciliation: Reconciliation,
    failed: asyncio.Event,
) -> tuple[Sweeper, EventFeed]:
    """Start what works in the background beside the relay."""
    store, gateway = application.store, application.gateway
    outcomes, clock = application.outcomes, application.clock
    pruner = Pruner(
        store=store,
        outbox=outbox,
        reservations=PostgresReservations(database),
        clock=clock,
        events_kept=timedelta(days=settings.outbox_retention_days),
    )
    sweeper = Sweeper(store=store, checkout=application.checkout, clock=clock, observer=metrics)
    feed = EventFeed(
        store=store,
        gateway=gateway,
        outcomes=outcomes,
        clock=clock,
        told_sessions=application.told_sessions,
        cursor=PostgresEventCursor(database),
        waiters=application.waiters,
        observer=metrics,
        gateway_timeout_seconds=startup.GATEWAY_TIMEOUT_SECONDS,
        interval_seconds=settings.feed_interval_seconds,
        calls_per_second=settings.stripe_requests_per_second,
    )
    acts = ActWorker(
        acts=PostgresActs(database),
        reconciliation=reconciliation,
        store=store,
        gateway=gateway,
        outcomes=outcomes,
        clock=clock,
    )
    work = functools.partial(supervision.work, stack, failed=failed)
    work(pruner, name="pruner")
    work(sweeper, name="sweeper")
    work(feed, name="event-feed")
    work(acts, name="act-worker")
    totals, rate = gateway.calls.totals, settings.stripe_requests_per_second
    work(HealthTeller(store=PostgresGatewayHealth(database), totals=totals, per_second=rate), name="health-teller")
    work(AfterPaidReader(feed=feed), name="after-paid-reader")
    return sweeper, feed


def _consuming(
    settings: Settings,
    application: Application,
    *,
    publisher: Publisher,
    long_poll: LongPoll,
    metrics: Metrics,
    leaving: asyncio.Event,
) -> brokers.CommandBroker:
    """The connection that commands come by, with its middleware and handlers."""
    middleware = functools.partial(
        CommandMiddleware,
        publisher=publisher,
        clock=application.clock,
        long_poll=long_poll,
        senders=settings.senders,
        observer=metrics,
        leaving=leaving,
    )
    consuming = brokers.CommandBroker(settings.amqp_url.get_secret_value(), middlewares=(middleware,))
    consumers.register(
        consuming,
        store=application.store,
        gateway=application.gateway,
        policy=application.policy,
        clock=application.clock,
        checkout=application.checkout,
        status_lookup=application.status_lookup,
    )
    return consuming
