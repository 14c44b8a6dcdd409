"""What identifies a create, on a real database and the sandbox."""

import pytest

from tests.integration.service.ports.test_create_and_verify import shop
from tests.integration.service.shops import Ports
from tests.kit.identity_scenarios import identity_scenarios
from tests.kit.scenarios import Scenario

__all__ = ["shop"]


@pytest.mark.parametrize(**identity_scenarios())
async def test_on_real_ports(scenario: Scenario, shop: Ports) -> None:
    await scenario(shop)
