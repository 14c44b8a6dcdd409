import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.integration.service.crash.programs import Program, starting
from tests.integration.service.messages.rig import Rig, around, until
from tests.interop.java import Jar, JavaProgram, build
from tools.devstack.processes import free_ports

USER, PASSWORD = "spring", "canary@pass"


@dataclass(frozen=True, kw_only=True)
class Platform:
    """A Eureka server, two bridges before one service, and a caller that finds them as the Booking Service does."""

    rig: Rig
    eureka: JavaProgram
    bridges: tuple[Program, Program]
    booking: httpx.AsyncClient
    registry: httpx.AsyncClient

    async def registered(self) -> dict[str, str]:
        """The bridges' status by instance id, from the server's registry and not from its cache."""
        found: dict[str, str] = {}
        for bridge, host in zip(self.bridges, ("127.0.0.1", "localhost"), strict=True):
            answer = await self.registry.get(f"/apps/PAYMENT-SERVICE/{host}:payment-service:{bridge.port}")
            if answer.status_code == 200:
                instance = answer.json()["instance"]
                found[instance["instanceId"]] = instance["status"]
        return found

    async def known(self) -> set[str]:
        """The addresses that the caller would call."""
        return set(await self.ask("GET", "/instances"))

    async def ask(self, method: str, path: str, **parameters: Any) -> Any:
        """Let the caller do something, and return its answer."""
        answer = await self.booking.request(method, path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json() if answer.content else None


@pytest.fixture(scope="session")
def jar() -> Jar:
    """Built first: without Java nothing else starts."""
    return build()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(
    jar: Jar, amqp_url: str, migrated_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Platform]:
    """Everything starts once: the bridges before Eureka, and the caller last."""
    folder = tmp_path_factory.mktemp("interop")
    eureka_port, booking_port, nobody = free_ports(3)
    patient = {"BRIDGE_TIMEOUT_SECONDS": "60"}  # no bound that a busy machine could reach
    place = f"{USER}:{PASSWORD.replace('@', '%40')}@127.0.0.1:{eureka_port}/eureka/"
    password = (f"--interop.user={USER}", f"--interop.password={PASSWORD}")

    def program(name: str, port: int, *arguments: str) -> JavaProgram:
        return JavaProgram(jar=jar, name=name, port=port, arguments=arguments, folder=folder)

    async with AsyncExitStack() as stack:
        rig = await stack.enter_async_context(around(amqp_url, migrated_url))
        programs = await stack.enter_async_context(starting(rig, logs=folder))
        eureka = program("eureka", eureka_port, *password)
        stack.push_async_callback(eureka.kill)
        _, one, other, _ = await asyncio.gather(
            programs.service(),
            programs.bridge(**patient, EUREKA_URL=f"http://{place}"),
            programs.bridge(
                **patient,
                EUREKA_URL=f"http://{USER}:canary@127.0.0.1:{nobody}/eureka, http://{place}",
                INSTANCE_HOST="localhost",
            ),
            eureka.start(),
        )
        registry = await stack.enter_async_context(_client(f"{eureka.url}/eureka", auth=(USER, PASSWORD)))
        booking = program("booking", booking_port, f"--eureka.client.service-url.defaultZone=http://{place}")
        caller = await stack.enter_async_context(_client(booking.url))
        platform = Platform(rig=rig, eureka=eureka, bridges=(one, other), booking=caller, registry=registry)

        async def both_registered() -> bool:
            return list((await platform.registered()).values()) == ["UP", "UP"]

        await until(both_registered)
        stack.push_async_callback(booking.kill)
        await booking.start()
        yield platform


def _client(base_url: str, **options: Any) -> httpx.AsyncClient:
    headers = {"Accept": "application/json"}
    return httpx.AsyncClient(base_url=base_url, headers=headers, timeout=60, trust_env=False, **options)
