from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio

from tests.integration.sandbox.harness import Running, running_sandbox
from tests.integration.service.messages.rig import Rig, around

OF_A_MODULE: Final = {"rig", "answering", "measured", "life"}
"""Fixtures that live in the loop of their module."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests that use one of them in the same loop."""
    for item in items:
        if OF_A_MODULE & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(amqp_url: str, migrated_url: str) -> AsyncIterator[Rig]:
    """Broker, database, sandbox and a client, without the service: tests start their own."""
    async with around(amqp_url, migrated_url) as rig:
        yield rig


@pytest.fixture
async def sandbox() -> AsyncIterator[Running]:
    async with running_sandbox() as running:
        yield running
