"""The ports' suites on PostgreSQL and RabbitMQ in containers, in every version that is supported.

They are suites of `make test`, which run once more in a process of their own, with the server's address in
`DATABASE_URL` or `AMQP_URL`.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from testcontainers.core.container import DockerContainer

from runtime import broker_check
from tests.containers import docker
from tests.kit.until import until
from tools.devstack import postgres_server
from tools.devstack.processes import LocalError
from tools.devstack.stack_settings import CHECKOUT

STORE: Final = ("tests/integration/service/ports",)
BROKER: Final = tuple(
    f"tests/integration/service/{name}.py"
    for name in ("messages/test_answers", "messages/test_fire_and_forget", "relay/test_relay")
)
SUITE_SECONDS: Final = 1500
HERE: Final = "127.0.0.1"
USER: Final = "tests"
PASSWORD: Final = "containers-of-a-test"

_tried = dict[str, str]()


@contextmanager
def running(image: str, port: int, **environment: str) -> Iterator[tuple[DockerContainer, int]]:
    """A container and where its port is found on this machine, and nowhere else."""
    container = DockerContainer(docker.needed(image)).with_envs(**environment)
    ports: dict[str, Any] = container.ports  # of the Docker client, which knows addresses too
    ports[f"{port}/tcp"] = (HERE, None)
    with container:
        yield container, container.get_exposed_port(port)


def said(container: DockerContainer, *command: str) -> str:
    return container.exec(list(command)).output.decode().strip()


def skip_if_tried(image: str, version: str) -> None:
    """Where images are stand-ins, a name may hold what another one holds."""
    if (other := _tried.setdefault(version, image)) != image:
        pytest.skip(f"the image {image} holds {version}, which was tried as {other}")
    sys.stdout.write(f"{image} holds {version}\n")


def passes(*files: str, **address: str) -> None:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *files],
        cwd=CHECKOUT,
        env=ours | address,
        capture_output=True,
        text=True,
        timeout=SUITE_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-6000:]
    sys.stdout.write(f"{ran.stdout.strip().splitlines()[-1]}\n")


@pytest.mark.parametrize("image", docker.POSTGRES)
def test_the_store_holds_on_postgresql(image: str) -> None:
    with running(image, 5432, POSTGRES_USER=USER, POSTGRES_PASSWORD=PASSWORD) as (container, port):
        skip_if_tried(image, said(container, "postgres", "--version"))
        url = f"postgresql://{USER}:{PASSWORD}@{HERE}:{port}/postgres"

        async def answers() -> bool:
            try:
                return await postgres_server.execute(url, "SELECT 1") == "1"
            except LocalError:
                return False

        asyncio.run(until(answers, every=0.2))
        passes(*STORE, DATABASE_URL=url)


@pytest.mark.parametrize("image", docker.RABBITMQ)
def test_commands_and_events_hold_on_rabbitmq(image: str) -> None:
    with running(image, 5672, RABBITMQ_DEFAULT_USER=USER, RABBITMQ_DEFAULT_PASS=PASSWORD) as (container, port):
        url = f"amqp://{USER}:{PASSWORD}@{HERE}:{port}/%2F"

        async def lets_in() -> bool:
            return await broker_check.problem_of(url) is None

        asyncio.run(until(lets_in, every=0.5))
        skip_if_tried(image, f"RabbitMQ {said(container, 'rabbitmqctl', '--quiet', 'version')}")
        passes(*BROKER, AMQP_URL=url)
