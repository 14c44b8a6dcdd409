"""What identifies a create, on fakes."""

from decimal import Decimal

import pytest

from service.application.policy import fingerprint
from tests.kit.identity_scenarios import identity_scenarios
from tests.kit.scenarios import Scenario
from tests.kit.service import SHOP, create
from tests.kit.shops import Fakes


@pytest.mark.parametrize(**identity_scenarios())
async def test_on_fakes(scenario: Scenario) -> None:
    await scenario(Fakes())


def test_every_member_of_a_create_counts_and_so_does_its_absence() -> None:
    members: dict[str, object] = {"currency": "inr", "successUrl": f"{SHOP}/done", "cancelUrl": f"{SHOP}/back"}
    others = [
        {},
        *({name: value} for name, value in members.items()),
        {"bookingId": 8},
        {"userId": 6},
        {"amount": Decimal("449.98")},
        {"amount": Decimal("449.9701")},
    ]
    assert len({fingerprint(create(**other)) for other in others}) == len(others)
    assert fingerprint(create(currency="INR")) == fingerprint(create(currency="inr"))
    assert fingerprint(create(successUrl=None)) == fingerprint(create())
