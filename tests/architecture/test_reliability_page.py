"""What `docs/reliability.md` says is tested, is tested: every file and every test that it names exists."""

import re
from pathlib import Path

import pytest

from tests.mutants.mutants import MUTANTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reliability.md").read_text()
SHORT = {
    "i/": "tests/integration/",
    "s/": "tests/integration/service/",
    "u/": "tests/unit/service/",
    "b/": "tests/integration/bridge/",
}
FAULTS = [line.split(" | ") for line in PAGE.splitlines() if re.match(r"\| F\d", line)]
UNTESTED = {5, 7, 9, 10, 11, 45, 61}
"""Faults that are about pace and overload."""


def files(cell: str) -> list[Path]:
    found = re.findall(r"`([a-z]/[\w/]+\.py)`", cell)
    return [ROOT / (SHORT[each[:2]] + each[2:]) for each in found]


@pytest.fixture(scope="module")
def tests() -> set[str]:
    """The name of every test function, and of every mutants' scenario."""
    sources = [path.read_text() for path in (ROOT / "tests").rglob("*.py")]
    return {name for source in sources for name in re.findall(r"def (?:test_)?(\w+)\(", source)}


@pytest.mark.parametrize("fault", FAULTS, ids=[fault[0].strip("| ") for fault in FAULTS])
def test_what_a_fault_names_is_there(fault: list[str], tests: set[str]) -> None:
    cell = fault[2]
    assert all(path.exists() for path in files(cell)), files(cell)
    names = set(re.findall(r"\b[a-z0-9]+(?:_[a-z0-9]+){2,}\b", re.sub(r"`[^`]*`", "", cell)))
    assert files(cell) or names
    assert not names - tests


def test_every_fault_has_a_row() -> None:
    rows = [re.findall(r"\d+", fault[0]) for fault in FAULTS]
    covered = {number for row in rows for number in range(int(row[0]), int(row[-1]) + 1)}
    assert covered | UNTESTED == set(range(1, 62))


def test_every_mutant_is_named() -> None:
    table = PAGE.partition("## Invariants")[2].partition("## Chaos")[0]
    missing = [name for name in MUTANTS if name not in table]
    assert not missing
