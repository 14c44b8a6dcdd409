"""Builds the console from its settings."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Final

from console.act_pages import ActPages
from console.app import create_app
from console.gate import ConsoleProtocol
from console.identity import Anybody, BehindProxy, Identify
from console.letter_pages import LetterPages
from console.login_pages import LoginPages
from console.metrics import Metrics
from console.now_pages import NowPages
from console.payment_acts import PaymentActs
from console.payment_pages import Links, PaymentPages
from console.queue_depths import QueueDepths
from console.rendering import Renderer
from console.sessions import FormTokens, Sessions
from console.settings import Settings
from console.users import Users
from runtime.aio import cancel, wait_or_timeout
from runtime.amqp_compat import survive_unreadable_properties
from runtime.health import Build, Health
from runtime.http_server import HttpServer
from service.adapters.postgres import (
    CONSOLE_GRANTED,
    Database,
    DatabaseClock,
    PostgresActs,
    PostgresOverview,
    PostgresSearch,
    PostgresStore,
    check_usable,
)
from service.domain.errors import StoreUnavailableError

STOP_SECONDS: Final = 5
CLOCK_SECONDS: Final = 1.0
"""How long the start waits for the database's time; until it is known pages go by the machine's clock."""


@contextlib.asynccontextmanager
async def console(
    settings: Settings, *, machine: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> AsyncIterator[HttpServer]:
    """The server, whose pages connect when they are asked for; `machine` is this machine's clock."""
    build = Build.installed("payment-console", commit=settings.git_commit)
    database = Database(settings.database_url.get_secret_value(), plans_once=False)
    depths = QueueDepths(settings.amqp_url.get_secret_value())
    clock = DatabaseClock(database, machine=machine)
    measured = asyncio.Event()
    measuring = asyncio.create_task(_measure(clock, measured))
    try:
        await wait_or_timeout(measured, CLOCK_SECONDS)
        yield _built(settings, build, database, depths, clock)
    finally:
        await cancel([measuring])
        await depths.close()
        await database.close()


async def _measure(clock: DatabaseClock, measured: asyncio.Event) -> None:
    """Now, and then again and again, until cancelled."""
    with contextlib.suppress(StoreUnavailableError):  # the pages say so
        await clock.measure()
    measured.set()
    await clock.run()


def _built(
    settings: Settings, build: Build, database: Database, depths: QueueDepths, clock: DatabaseClock
) -> HttpServer:
    survive_unreadable_properties()
    metrics, identify = Metrics(build), _identify(settings)
    shared = settings.console_proxy_secret
    tokens = FormTokens(shared.get_secret_value() if shared else None)
    renderer = Renderer(tokens, can_log_out=identify.can_log_in, now=clock.now)
    search, store, acts = PostgresSearch(database), PostgresStore(database), PostgresActs(database)
    server: HttpServer

    def is_leaving() -> bool:
        return server.should_exit

    now = NowPages(
        overview=PostgresOverview(database), search=search, depths=depths, renderer=renderer, is_leaving=is_leaving
    )
    payments = PaymentPages(
        search=search,
        store=store,
        acts=acts,
        renderer=renderer,
        links=Links(trace=settings.console_trace_url, logs=settings.console_logs_url),
    )
    letters = LetterPages(
        amqp_url=settings.amqp_url.get_secret_value(),
        database=database,
        store=store,
        renderer=renderer,
        tokens=tokens,
        metrics=metrics,
    )
    asked = PaymentActs(acts=acts, store=store, renderer=renderer, tokens=tokens, metrics=metrics)
    done = ActPages(search=search, acts=acts, renderer=renderer)
    routes = [route for pages in (now, payments, asked, letters, done) for route in pages.routes]
    if isinstance(identify, Sessions) and settings.console_users is not None:
        users = Users.parsed(settings.console_users.get_secret_value())
        login = LoginPages(users=users, sessions=identify, tokens=tokens, renderer=renderer, metrics=metrics)
        routes += login.routes

    async def database_answers() -> bool:
        await check_usable(database, CONSOLE_GRANTED)
        return True

    app = create_app(
        routes=routes,
        renderer=renderer,
        identify=identify,
        hosts=settings.hosts,
        is_local=settings.console_auth == "none",
        health=Health(checks={"database": database_answers}, is_leaving=is_leaving),
        build=build,
        metrics=metrics,
    )
    server = HttpServer(app, protocol=ConsoleProtocol, stop_seconds=STOP_SECONDS)
    return server


def _identify(settings: Settings) -> Identify:
    if settings.console_auth == "password":
        return Sessions(seconds=settings.console_session_seconds)
    if settings.console_auth == "proxy" and settings.console_proxy_secret is not None:
        return BehindProxy(
            secret=settings.console_proxy_secret.get_secret_value(),
            user_header=settings.console_proxy_user_header,
            roles_header=settings.console_proxy_roles_header,
        )
    return Anybody()
