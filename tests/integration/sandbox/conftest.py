import pytest
import stripe

from tests.integration.sandbox.harness import Running


@pytest.fixture
def client(sandbox: Running) -> stripe.StripeClient:
    return sandbox.client()
