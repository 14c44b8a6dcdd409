import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.integration.service.crash.evidence import ExpectedEvents, delivered
from tests.integration.service.crash.programs import Programs, starting
from tests.integration.service.messages.rig import Rig, around
from tests.kit.databases import Migrated

Expected = dict[int, ExpectedEvents]
_log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def migrated_url(migrated: Migrated) -> str:
    """For the owner of the tables: these tests change them."""
    return migrated.owner


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(amqp_url: str, migrated_url: str) -> AsyncIterator[Rig]:
    """Broker, database, sandbox and a client; the services are processes that the tests start."""
    async with around(amqp_url, migrated_url) as rig:
        await rig.read_no_events()  # a fail point counts who passes, and that shall be the commands alone
        yield rig


@pytest_asyncio.fixture(loop_scope="module")
async def programs(rig: Rig, tmp_path: Path) -> AsyncIterator[Programs]:
    """Starts services and bridges; what still runs at the end is killed."""
    async with starting(rig, logs=tmp_path) as programs:
        yield programs


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def told(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Expected]:
    """By payment, the events that subscribers must have when the module is done.

    It is looked at once for all tests, because what a dead relay had claimed is free again after 10 s only.
    """
    expected: Expected = {}
    yield expected
    logs = tmp_path_factory.mktemp("last")
    async with starting(rig, logs=logs) as programs:
        await programs.service()
        await rig.all_sent()
        copies = [await delivered(rig, payment_id, each) for payment_id, each in expected.items()]
        _log.info("%d payments, no event lost, %d second copies", len(expected), sum(copies))


@pytest.fixture(scope="session")
def runs(pytestconfig: pytest.Config) -> int:
    """How often each fail point kills."""
    chosen: int = pytestconfig.getoption("--crash-runs")
    return chosen
