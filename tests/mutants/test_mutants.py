"""Each scenario is green with the service as it is and red with each of its mutants; so is the state machine."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from service.domain.errors import IllegalTransitionError, StoreUnavailableError
from tests.kit.databases import NewMigrated
from tests.mutants.machine_mutants import MACHINE
from tests.mutants.mutants import MUTANTS, Patch
from tests.mutants.shop import Shop, open_shop
from tests.unit.service.application.test_state_machine import HISTORIES, AnythingMayHappen, _in_silence
from tools.chaos import invariants

__all__ = ["_in_silence"]
Scenario = Callable[[Shop], Awaitable[None]]


@pytest.fixture
def own_database(new_migrated: NewMigrated) -> str:
    """A database of one test, to be broken by its owner."""
    return new_migrated().owner


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
    """Raise ViolatedError with every invariant that does not hold after the scenario."""
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
    shop.programs.command = ("tests.mutants", name)
    with pytest.raises(ViolatedError) as found:
        await check(shop, mutant.scenario)
    assert found.value.invariants == mutant.red


async def test_without_its_index_the_database_takes_no_payment_at_all(shop: Shop) -> None:
    await shop.rig.sql("DROP INDEX payments_live_booking_idx")
    assert await shop.create(7) == ""
    assert shop.operations[-1].answer == {"paymentStatus": StoreUnavailableError.code}
    assert not (await shop.facts()).sessions


SOME = settings(HISTORIES, max_examples=200, phases=[Phase.generate], report_multiple_bugs=False)
"""Far fewer runs than usual."""


@pytest.mark.usefixtures("_in_silence")
@pytest.mark.parametrize("mutant", MACHINE, ids=lambda mutant: mutant.__name__)
def test_the_state_machine_notices(mutant: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    with pytest.raises((AssertionError, IllegalTransitionError), match=MACHINE[mutant]):
        run_state_machine_as_test(AnythingMayHappen, settings=SOME)
