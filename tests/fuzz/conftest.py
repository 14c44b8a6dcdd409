import sys
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from tests.integration.service.crash.programs import Programs, starting
from tests.integration.service.messages.rig import around


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def programs(
    amqp_url: str, migrated_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Programs]:
    """Starts services and bridges as processes, around a broker, a database, a sandbox and a client."""
    logs = tmp_path_factory.mktemp("fuzz")
    async with around(amqp_url, migrated_url) as rig, starting(rig, logs=logs) as programs:
        yield programs


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    chosen: int = pytestconfig.getoption("--seed")
    return chosen


@pytest.fixture(scope="session")
def cases(pytestconfig: pytest.Config) -> int:
    chosen: int = pytestconfig.getoption("--cases")
    return chosen


Say = Callable[[str], None]


@pytest.fixture(scope="session")
def say(pytestconfig: pytest.Config) -> Say:
    """Writes a line past pytest's capture."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def write(line: str) -> None:
        with capture.global_and_fixture_disabled():
            sys.stderr.write(f"\n{line}\n")

    return write
