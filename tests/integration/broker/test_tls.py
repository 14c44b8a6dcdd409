"""TLS to RabbitMQ, PostgreSQL and Stripe: a known authority works, another one stops the start (S23)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from contracts.commands import CommandType
from runtime import connection_urls
from runtime.dead_letters.queues import BrokerError, opened
from runtime.process_settings import DatabaseSettings
from service.cli import show
from service.cli.parser import parser
from service.domain.errors import StoreUnavailableError
from service.entrypoints import broker as brokers
from tests.integration.sandbox.harness import KEY, running_sandbox
from tests.kit.databases import Migrated
from tests.kit.programs import END_SECONDS, ended, start
from tests.kit.tls import terminated, write_certificate
from tests.kit.until import until
from tools.devstack import postgres_server
from tools.devstack.processes import free_ports
from tools.devstack.rabbitmq_files import BRIDGE, SERVICE
from tools.devstack.rabbitmq_server import Node

OPERATOR = "payment-operator"


@dataclass(kw_only=True)
class World:
    """Every server behind TLS with certificates of one authority, and the CA file of another."""

    amqp: Callable[[str, Path], str]
    database: Callable[[Path], str]
    stripe: str
    plain_database: str
    good: Path
    bad: Path
    sandbox: Any

    def service(self, **changes: str) -> dict[str, str]:
        return {
            "AMQP_URL": self.amqp(SERVICE, self.good),
            "DATABASE_URL": self.database(self.good),
            "STRIPE_API_KEY": KEY,
            "STRIPE_API_BASE": self.stripe,
            "SSL_CERT_FILE": str(self.good),
            "SERVICE_PORT": str(free_ports(1)[0]),
        } | changes


@pytest.fixture
async def world(
    rabbitmq_node: Node, worker: str, new_migrated: Callable[[], Migrated], tmp_path: Path
) -> AsyncIterator[World]:
    write_certificate(tmp_path / "ours")
    write_certificate(tmp_path / "others")
    authority = tmp_path / "all.pem"
    broker_ca = rabbitmq_node.folder / "tls" / "ca.pem"
    authority.write_bytes((tmp_path / "ours" / "ca.pem").read_bytes() + broker_ca.read_bytes())
    database = (await asyncio.to_thread(new_migrated)).application
    address = urlsplit(database)

    def amqp(user: str, ca: Path) -> str:
        plain = urlsplit(rabbitmq_node.url(worker, user=user))
        netloc = plain.netloc.replace(f":{rabbitmq_node.port}", f":{rabbitmq_node.tls_port}")
        return plain._replace(scheme="amqps", netloc=netloc, query=f"cafile={ca}").geturl()

    async with (
        running_sandbox() as sandbox,
        terminated(urlsplit(sandbox.url).port or 0, tmp_path / "ours") as stripe_port,
        terminated(address.port or 5432, tmp_path / "ours", postgres=True) as database_port,
    ):
        netloc = f"{address.netloc.rpartition('@')[0]}@127.0.0.1:{database_port}"

        def secured(ca: Path) -> str:
            return address._replace(netloc=netloc, query=f"sslmode=verify-full&sslrootcert={ca}").geturl()

        yield World(
            amqp=amqp,
            database=secured,
            stripe=f"https://127.0.0.1:{stripe_port}",
            plain_database=database,
            good=authority,
            bad=tmp_path / "others" / "ca.pem",
            sandbox=sandbox,
        )


@asynccontextmanager
async def running(*arguments: str, **environment: str) -> AsyncIterator[list[str]]:
    """A process until the end of the block, where SIGTERM ends it well; what it said is in the list then."""
    process, said = await start(*arguments, **environment), list[str]()
    try:
        yield said
    finally:
        process.terminate()
        said.append((await process.communicate())[0].decode())
    assert process.returncode == 0, said


async def ready(port: str) -> None:
    async def is_ready() -> bool:
        with suppress(httpx.TransportError):
            return (await client.get(f"http://127.0.0.1:{port}/actuator/health/readiness")).is_success
        return False

    async with httpx.AsyncClient(trust_env=False) as client:
        await until(is_ready)


async def test_both_processes_pay_over_tls_alone(world: World) -> None:
    """Broker, database with its notifications, and Stripe have certificates that are checked."""
    service = world.service()
    (bridge_port,) = map(str, free_ports(1))
    bridge = {"AMQP_URL": world.amqp(BRIDGE, world.good), "BRIDGE_PORT": bridge_port}
    async with running("-m", "service", "run", **service) as said, running("-m", "bridge", "run", **bridge) as told:
        await asyncio.gather(ready(service["SERVICE_PORT"]), ready(bridge_port))
        identity = {"X-User-Id": "7", "X-User-Roles": "SERVICE_ACCOUNT"}
        base = f"http://127.0.0.1:{bridge_port}/api/v1/internal/payments"
        async with httpx.AsyncClient(trust_env=False, headers=identity, timeout=60) as client:
            created = await client.post(f"{base}/checkout/create", json={"bookingId": 1, "userId": 7, "amount": 449.97})
            assert created.status_code == httpx.codes.OK, created.text
            await world.sandbox.pay(created.json()["sessionId"])
            await asyncio.sleep(1.1)  # the freshness window, within which Stripe is not asked again
            verified = await client.get(f"{base}/checkout/verify/{created.json()['sessionId']}")
        assert verified.json()["paymentStatus"] == "COMPLETED", verified.text
        listening = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        assert await postgres_server.execute(world.plain_database, listening) == "1"
    assert "in plain text" not in said[0] + told[0]


async def test_a_process_that_would_talk_to_somebody_else_does_not_start(world: World) -> None:
    bridge = {"AMQP_URL": world.amqp(BRIDGE, world.bad), "BRIDGE_PORT": str(free_ports(1)[0])}
    for program, environment, name in (
        ("service", world.service(AMQP_URL=world.amqp(SERVICE, world.bad)), "RabbitMQ (AMQP_URL)"),
        ("service", world.service(DATABASE_URL=world.database(world.bad)), "the database (DATABASE_URL)"),
        ("service", world.service(SSL_CERT_FILE=str(world.bad)), "Stripe (STRIPE_API_BASE)"),
        ("bridge", bridge, "RabbitMQ (AMQP_URL)"),
    ):
        end = await ended("-m", program, "run", **environment)
        assert end.status == 1
        *_, headline, sentence = end.said.splitlines()
        assert headline == {"service": "payment-service cannot start:", "bridge": "The bridge cannot start:"}[program]
        assert sentence.startswith(f"{name} shows a certificate that is not trusted (")
        assert "waiting for" not in end.said, "at once: time does not heal it"
        assert "Traceback" not in end.said


async def test_a_certificate_for_another_name_is_not_trusted_either(world: World, tmp_path: Path) -> None:
    write_certificate(tmp_path / "elsewhere", "db.example")
    port = urlsplit(world.plain_database).port or 5432
    async with terminated(port, tmp_path / "elsewhere", postgres=True) as other:
        address = urlsplit(world.database(tmp_path / "elsewhere" / "ca.pem"))
        netloc = address.netloc.replace(f":{address.port}", f":{other}")
        url = address._replace(netloc=netloc).geturl()
        end = await ended("-m", "service", "migrate", DATABASE_URL=url)
    assert end.status == 1
    assert end.said.startswith("payment-service: the database (DATABASE_URL) shows a certificate that is not trusted (")
    assert "Traceback" not in end.said


async def test_the_commands_of_an_operator_go_by_tls_and_refuse_a_stranger(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = parser().parse_args(["show", "1"])
    await brokers.declare(world.amqp("bookticket", world.good))
    async with opened(world.amqp(OPERATOR, world.good)) as queues:
        _ = [letter async for letter in queues.letters(CommandType)]
    with pytest.raises(BrokerError, match=r"^Cannot connect: RabbitMQ \(AMQP_URL\) shows a certificate that is not"):
        async with opened(world.amqp(OPERATOR, world.bad)):
            pass
    assert await show.run(wanted, DatabaseSettings(database_url=world.database(world.good))) == 1
    assert capsys.readouterr().err.startswith("No such payment.")
    with pytest.raises(StoreUnavailableError) as refused:
        await show.run(wanted, DatabaseSettings(database_url=world.database(world.bad)))
    assert (connection_urls.distrust(refused.value) or "").startswith("shows a certificate that is not trusted (")


async def test_plain_text_beyond_this_machine_is_one_warning() -> None:
    (port,) = map(str, free_ports(1))
    far = "amqp://payment-bridge:x@broker.invalid/payments"
    process = await start("-m", "bridge", "run", AMQP_URL=far, BRIDGE_PORT=port)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(END_SECONDS):
            first = (await process.stdout.readline()).decode()
    finally:
        process.terminate()
        rest = (await process.communicate())[0].decode()
    assert "AMQP_URL: what leaves this machine by it can be read on its way" in first
    assert "can be read on its way" not in rest


async def test_a_stripe_that_is_away_delays_nobodys_start(world: World) -> None:
    (nobody,) = free_ports(1)
    environment = world.service(STRIPE_API_BASE=f"https://127.0.0.1:{nobody}")
    async with running("-m", "service", "run", **environment) as said:
        await ready(environment["SERVICE_PORT"])
    assert "Stripe (STRIPE_API_BASE) cannot be reached yet" in said[0]
