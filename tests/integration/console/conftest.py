"""The console over a real database and a real broker, with its own role and user; asked as a browser asks."""

import html
import json
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiormq
import httpx
import pytest

from console import bootstrap
from console.identity import Role
from console.settings import Settings
from console.users import user_line
from contracts import topology
from contracts.commands import CommandType
from service.adapters.postgres import migrate
from service.entrypoints import broker as brokers
from tests.integration.service.dead_letters.conftest import properties
from tests.kit import canary
from tests.kit.brokers import RoleUrl
from tests.kit.databases import Migrated
from tests.kit.servers import run
from tools.devstack import postgres_server

ORIGIN = "http://127.0.0.1:8087"
PASSWORDS = {Role.OPERATOR: canary.secret("operator"), Role.VIEWER: canary.secret("viewer")}
PROXY_SECRET = canary.secret("proxyproxyproxyproxyproxyproxy")
EVIL = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>"
SURE = {"by": "asha", "why": "a test", "sure": "yes"}


def field(page: str, name: str) -> str:
    """The value of the first hidden field of this name."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    return html.unescape(found[1]) if found else ""


class Browser:
    """Keeps cookies, sends where a form comes from, and finds the tokens of forms."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def get(self, path: str, **more: Any) -> httpx.Response:
        return await self.client.get(path, **more)

    async def text(self, path: str) -> str:
        answer = await self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.text

    async def token(self, path: str) -> str:
        return field((await self.client.get(path)).text, "token")

    async def post(
        self, path: str, form: Mapping[str, str], *, token: str, origin: str | None = ORIGIN
    ) -> httpx.Response:
        headers = {} if origin is None else {"origin": origin}
        return await self.client.post(path, data={**form, "token": token}, headers=headers)


Browsers = Callable[..., Any]
ParkCreate = Callable[[int], Awaitable[str]]


@pytest.fixture(scope="module")
def console_url(migrated: Migrated, postgres_url: str) -> Iterator[str]:
    """The database for the console's own role."""
    if migrated.owner == migrated.application:
        pytest.skip("the user of DATABASE_URL may make no roles")
    role, password = f"bookticket_test_{uuid.uuid4().hex[:12]}", canary.secret("console")
    run(postgres_server.make_role(postgres_url, role, password))
    service = urlsplit(migrated.application).username
    run(migrate(migrated.owner, application=service, console=role))
    address = urlsplit(migrated.owner)
    yield address._replace(netloc=f"{role}:{password}@{address.netloc.rpartition('@')[2]}").geturl()
    run(postgres_server.execute(migrated.owner, f"DROP OWNED BY {role}"))
    run(postgres_server.execute(postgres_url, f"DROP ROLE {role}"))


@pytest.fixture
def browsers(console_url: str, role_url: RoleUrl, amqp_url: str) -> Browsers:
    """Makes a browser at a console with these settings."""
    run(brokers.declare(amqp_url))

    @asynccontextmanager
    async def browser(**changes: Any) -> AsyncIterator[Browser]:
        urls = {"database_url": console_url, "amqp_url": role_url("payment-console")}
        async with bootstrap.console(Settings(**{**urls, **changes})) as server:
            transport = httpx.ASGITransport(server.config.app)
            async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
                yield Browser(client)

    return browser


@pytest.fixture
async def browser(browsers: Browsers) -> AsyncIterator[Browser]:
    """At a console on this machine, where nobody logs in."""
    async with browsers() as one:
        yield one


@pytest.fixture(scope="session")
def users() -> str:
    return "\n".join(user_line(f"a-{role}", role, password) for role, password in PASSWORDS.items())


async def logged_in(browser: Browser, role: Role) -> httpx.Response:
    form = {"name": f"a-{role}", "password": PASSWORDS[role]}
    return await browser.post("/login", form, token=await browser.token("/login"))


@pytest.fixture
async def letters(amqp_url: str, browsers: Browsers) -> AsyncIterator[Any]:  # noqa: ARG001 - it declares the queues
    """A channel to publish dead letters by; there are none yet, and no commands."""
    async with await aiormq.connect(amqp_url) as connection:
        channel = await connection.channel()
        for queue in (*topology.DEAD_LETTER_QUEUES.values(), *topology.COMMAND_QUEUES.values()):
            await channel.queue_purge(queue.name)
        yield channel


async def park(channel: Any, body: Mapping[str, Any], **changes: Any) -> None:
    """Dead-letter a create."""
    await channel.basic_publish(
        json.dumps(body).encode(),
        exchange=topology.DEAD_LETTERS.name,
        routing_key=topology.COMMAND_QUEUES[CommandType.CREATE_CHECKOUT].name,
        properties=properties(**changes),
        mandatory=True,
    )


@pytest.fixture
def parked_create(letters: Any, browser: Browser) -> ParkCreate:
    """Dead-letters a create of another amount for a booking, sent just now; the address of its page."""

    async def parked(booking_id: int) -> str:
        await park(letters, {"bookingId": booking_id, "userId": 5, "amount": "100"}, message_id=f"m-{booking_id}")
        listed = await browser.text("/letters")
        return "/letters/" + listed.partition('href="/letters/')[2].partition('"')[0]

    return parked


@pytest.fixture
async def dead_letter(letters: Any) -> str:
    """The id of the only dead letter, which is full of what would be dangerous in a page."""
    message_id = f"m-{uuid.uuid4()}{EVIL}"
    headers = {"x-reason": EVIL, "x-reason-text": EVIL, "x-sender": EVIL, EVIL: EVIL}
    body = {"bookingId": 77, "x": EVIL}
    await park(letters, body, message_id=message_id, correlation_id=EVIL, app_id=EVIL, headers=headers)
    return message_id
