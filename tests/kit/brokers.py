"""RabbitMQ for the tests: one node for a run, a virtual host for each worker, and private nodes to be killed."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.kit import canary
from tests.kit.servers import PrivateServer, run, shared
from tests.kit.tls import write_certificate
from tools.devstack import rabbitmq_server

RIGHTS: Final = "rights"
"""The virtual host of the tests of the users' rights, who delete queues and exchanges."""
RoleUrl = Callable[[str], str]


@pytest.fixture(scope="session")
def rabbitmq_node(servers_folder: Path) -> rabbitmq_server.Node:
    """The broker of this run, which also listens with TLS; skipped where AMQP_URL names another."""
    if os.environ.get("AMQP_URL"):
        pytest.skip("AMQP_URL names a broker, whose users and certificates are not ours")
    vhosts = [f"gw{number}" for number in range(int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))]
    folder = servers_folder / "rabbitmq"

    def start() -> str:
        write_certificate(folder / "tls")
        canary.put_broker_passwords(folder)
        return rabbitmq_server.record(run(rabbitmq_server.start(folder, vhosts=[*vhosts, RIGHTS], tls=True)))

    return rabbitmq_server.recorded(shared(servers_folder, "rabbitmq", start))


@pytest.fixture(scope="session")
def role_url(request: pytest.FixtureRequest, worker: str) -> RoleUrl:
    """The address of this worker's virtual host for a user of `deploy/rabbitmq`; AMQP_URL as it is, where set."""
    if named := os.environ.get("AMQP_URL"):
        return lambda _: named
    node: rabbitmq_server.Node = request.getfixturevalue("rabbitmq_node")
    return lambda user: node.url(worker, user=user)


@pytest.fixture(scope="session")
def amqp_url(request: pytest.FixtureRequest, worker: str) -> str:
    """The same for a user who may do everything."""
    if named := os.environ.get("AMQP_URL"):
        return named
    node: rabbitmq_server.Node = request.getfixturevalue("rabbitmq_node")
    return node.url(worker)


@pytest.fixture(scope="session", name="rabbitmq")
def private_rabbitmq(servers_folder: Path, worker: str) -> Iterator[PrivateServer]:
    """A broker for tests of faults. The test that stops it starts it again.

    A quorum queue must be some 25 s old before `kill`, or RabbitMQ 3.10 loses its leader.
    """
    folder = servers_folder / f"rabbitmq-{worker}"
    canary.put_broker_passwords(folder)
    node = PrivateServer(rabbitmq_server, folder)
    yield node
    node.stop()
