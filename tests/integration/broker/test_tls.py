"""TLS to RabbitMQ, PostgreSQL and Stripe: by a known authority all works, by another nothing starts (S23)."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from contracts import addresses
from contracts.commands import CommandType
from deploy.local import postgres
from deploy.local.processes import free_ports
from deploy.local.rabbitmq import Node
from deploy.local.rabbitmq_files import BRIDGE, SERVICE
from deploy.local.settings import CHECKOUT
from service import show
from service.adapters.dead_letters import BrokerError, opened
from service.domain.errors import StoreUnavailableError
from service.entrypoints import broker as brokers
from service.settings import DatabaseSettings
from tests.conftest import Migrated
from tests.integration.sandbox.harness import KEY, running_sandbox
from tests.tls import terminated, write_certificate

OPERATOR = "payment-operator"
UP_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Ended:
    status: int
    said: str


@dataclass(kw_only=True)
class World:
    """Everything behind TLS, by certificates of one authority, and the CA file of another one."""

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


async def start(program: str, *words: str, **environment: str) -> asyncio.subprocess.Process:
    ours = {"PYTHONPATH": str(CHECKOUT), "LOG_FORMAT": "json", "PATH": os.environ["PATH"]}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", program, *words),
        env=ours | environment,
        cwd=CHECKOUT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def ended(program: str, *words: str, **environment: str) -> Ended:
    process = await start(program, *words, **environment)
    try:
        async with asyncio.timeout(UP_SECONDS):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ended(status=process.returncode or 0, said=said.decode())


async def ready(port: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(UP_SECONDS):
        while True:
            try:
                answer = await client.get(f"http://127.0.0.1:{port}/actuator/health/readiness")
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == httpx.codes.OK:
                return
            await asyncio.sleep(0.05)


async def test_both_processes_pay_over_tls_alone(world: World) -> None:
    """Broker, database with its notifications, and Stripe: all of it behind certificates that are checked."""
    service = world.service()
    (bridge_port,) = map(str, free_ports(1))
    processes = [
        await start("service", "run", **service),
        await start("bridge", "run", AMQP_URL=world.amqp(BRIDGE, world.good), BRIDGE_PORT=bridge_port),
    ]
    try:
        await asyncio.gather(ready(service["SERVICE_PORT"]), ready(bridge_port))
        identity = {"X-User-Id": "7", "X-User-Roles": "SERVICE_ACCOUNT"}
        base = f"http://127.0.0.1:{bridge_port}/api/v1/internal/payments"
        async with httpx.AsyncClient(trust_env=False, headers=identity, timeout=30) as client:
            created = await client.post(f"{base}/checkout/create", json={"bookingId": 1, "userId": 7, "amount": 449.97})
            assert created.status_code == httpx.codes.OK, created.text
            await world.sandbox.pay(created.json()["sessionId"])
            await asyncio.sleep(1.1)  # the freshness window, within which Stripe is not asked again
            verified = await client.get(f"{base}/checkout/verify/{created.json()['sessionId']}")
        assert verified.json()["paymentStatus"] == "COMPLETED", verified.text
        listening = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        assert await postgres.execute(world.plain_database, listening) == "1"
    finally:
        for process in processes:
            process.terminate()
        said = [(await process.communicate())[0].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert "in plain text" not in "".join(said)


@pytest.mark.parametrize("name", ["RabbitMQ (AMQP_URL)", "the database (DATABASE_URL)", "Stripe (STRIPE_API_BASE)"])
async def test_a_service_that_would_talk_to_somebody_else_does_not_start(world: World, name: str) -> None:
    wrong = {
        "RabbitMQ (AMQP_URL)": {"AMQP_URL": world.amqp(SERVICE, world.bad)},
        "the database (DATABASE_URL)": {"DATABASE_URL": world.database(world.bad)},
        "Stripe (STRIPE_API_BASE)": {"SSL_CERT_FILE": str(world.bad)},
    }
    end = await ended("service", "run", **world.service(**wrong[name]))
    assert end.status == 1
    *_, headline, sentence = end.said.splitlines()
    assert headline == "payment-service cannot start:"
    assert sentence.startswith(f"{name} shows a certificate that is not trusted (")
    assert "waiting for" not in end.said, "at once: time does not heal it"
    assert "Traceback" not in end.said


async def test_a_bridge_that_would_talk_to_somebody_else_ends(world: World) -> None:
    (port,) = map(str, free_ports(1))
    end = await ended("bridge", "run", AMQP_URL=world.amqp(BRIDGE, world.bad), BRIDGE_PORT=port)
    assert end.status == 1
    *_, headline, sentence = end.said.splitlines()
    assert headline == "The bridge cannot start:"
    assert sentence.startswith("RabbitMQ (AMQP_URL) shows a certificate that is not trusted (")
    assert "Traceback" not in end.said


async def test_a_certificate_for_another_name_is_not_trusted_either(world: World, tmp_path: Path) -> None:
    write_certificate(tmp_path / "elsewhere", "db.example")
    port = urlsplit(world.plain_database).port or 5432
    async with terminated(port, tmp_path / "elsewhere", postgres=True) as other:
        address = urlsplit(world.database(tmp_path / "elsewhere" / "ca.pem"))
        netloc = address.netloc.replace(f":{address.port}", f":{other}")
        url = address._replace(netloc=netloc).geturl()
        end = await ended("service", "migrate", DATABASE_URL=url)
    assert end.status == 1
    assert end.said.startswith("payment-service: the database (DATABASE_URL) shows a certificate that is not trusted (")
    assert "Traceback" not in end.said


async def test_the_commands_of_an_operator_go_by_tls_and_refuse_a_stranger(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    await brokers.declare(world.amqp("bookticket", world.good))
    async with opened(world.amqp(OPERATOR, world.good)) as queues:
        _ = [letter async for letter in queues.letters(CommandType)]
    with pytest.raises(BrokerError, match=r"^Cannot connect: RabbitMQ \(AMQP_URL\) shows a certificate that is not"):
        async with opened(world.amqp(OPERATOR, world.bad)):
            pass
    assert await show.show("1", DatabaseSettings(database_url=world.database(world.good))) == 1
    assert capsys.readouterr().err.startswith("No such payment.")
    with pytest.raises(StoreUnavailableError) as refused:
        await show.show("1", DatabaseSettings(database_url=world.database(world.bad)))
    assert (addresses.distrust(refused.value) or "").startswith("shows a certificate that is not trusted (")


async def test_plain_text_beyond_this_machine_is_one_warning_and_refused_in_production() -> None:
    (port,) = map(str, free_ports(1))
    far = {"AMQP_URL": "amqp://payment-bridge:x@broker.invalid/payments", "BRIDGE_PORT": port}
    process = await start("bridge", "run", **far)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(UP_SECONDS):
            first = (await process.stdout.readline()).decode()
    finally:
        process.terminate()
        rest = (await process.communicate())[0].decode()
    assert "AMQP_URL: what leaves this machine by it can be read on its way" in first
    assert "can be read on its way" not in rest
    end = await ended("bridge", "run", **far, PAYMENT_ENVIRONMENT="production")
    assert (end.status, end.said.splitlines()) == (
        2,
        ["The bridge cannot start:", "AMQP_URL must begin with amqps:// beyond this machine in production"],
    )


async def test_a_stripe_that_is_away_delays_nobodys_start(world: World) -> None:
    (nobody,) = free_ports(1)
    environment = world.service(STRIPE_API_BASE=f"https://127.0.0.1:{nobody}")
    process = await start("service", "run", **environment)
    try:
        await ready(environment["SERVICE_PORT"])
    finally:
        process.terminate()
        said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    assert "Stripe (STRIPE_API_BASE) cannot be reached yet" in said
