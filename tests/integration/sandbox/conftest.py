from collections.abc import AsyncIterator

import pytest
import stripe

from tests.integration.sandbox.harness import Running, running_sandbox


@pytest.fixture
async def sandbox() -> AsyncIterator[Running]:
    async with running_sandbox() as running:
        yield running


@pytest.fixture
def client(sandbox: Running) -> stripe.StripeClient:
    return sandbox.client()
