from collections.abc import AsyncIterator

import pytest_asyncio

from tests.integration.service.messages.rig import Rig, running
from tests.kit.brokers import RoleUrl


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(amqp_url: str, role_url: RoleUrl, migrated_url: str) -> AsyncIterator[Rig]:
    """The running service, one per module, by its own user of the broker."""
    async with running(amqp_url, migrated_url, service_url=role_url("payment-service")) as rig:
        yield rig
