"""Each scenario is green as the service is, and red with each of its mutants."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from service.adapters.store import migrate
from service.domain.errors import StoreUnavailableError
from tests.chaos import invariants
from tests.conftest import run
from tests.mutants.mutants import MUTANTS
from tests.mutants.shop import Shop, open_shop

Scenario = Callable[[Shop], Awaitable[None]]


@pytest.fixture
def own_database(new_database: Callable[[], str]) -> str:
    """Of one test alone, to be broken."""
    url = new_database()
    run(migrate(url))
    return url


@pytest.fixture
async def shop(amqp_url: str, own_database: str, tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(amqp_url, own_database, tmp_path) as shop:
        yield shop


class ViolatedError(AssertionError):
    """Not all invariants hold."""

    def __init__(self, violations: list[invariants.Violation]) -> None:
        super().__init__("\n".join(f"{each.invariant} {each.text}" for each in violations))
        self.invariants = {each.invariant for each in violations}


async def check(shop: Shop, scenario: Scenario) -> None:
    """Raises ViolatedError with everything that does not hold after the scenario."""
    await scenario(shop)
    facts = await shop.facts()
    assert facts.payments, "nothing happened"
    if violations := invariants.check(facts):
        raise ViolatedError(violations)


@pytest.mark.parametrize(
    "scenario", list(dict.fromkeys(mutant.scenario for mutant in MUTANTS.values())), ids=lambda each: each.__name__
)
async def test_as_the_service_is_nothing_is_violated(shop: Shop, scenario: Scenario) -> None:
    await check(shop, scenario)


@pytest.mark.parametrize("name", MUTANTS)
async def test_the_invariants_see_what_is_missing(shop: Shop, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    if mutant.sql:
        await shop.rig.sql(mutant.sql)
    mutant.patch(monkeypatch)
    shop.mutant = name
    with pytest.raises(ViolatedError) as found:
        await check(shop, mutant.scenario)
    assert found.value.invariants == mutant.red


async def test_without_its_index_the_database_takes_no_payment_at_all(shop: Shop) -> None:
    await shop.rig.sql("DROP INDEX payments_live_booking_idx")
    assert await shop.create(7) == ""
    assert shop.operations[-1].answer == {"paymentStatus": StoreUnavailableError.code}
    assert not (await shop.facts()).sessions
