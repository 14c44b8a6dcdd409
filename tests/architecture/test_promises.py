"""What `docs/reliability.md` and `docs/security.md` say is tested, is tested: all that their rows name exists."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.containers import test_servers
from tests.mutants.machine_mutants import MACHINE
from tests.mutants.mutants import MUTANTS

ROOT = Path(__file__).parents[2]
RELIABILITY = (ROOT / "docs/reliability.md").read_text()
SECURITY = (ROOT / "docs/security.md").read_text()
Row = list[str]
"""Number, promise, tests and figure."""


def rows(page: str, letters: str) -> list[Row]:
    return [line.strip("| ").split(" | ") for line in page.splitlines() if re.match(rf"\| [{letters}]\d", line)]


FAULTS, THREATS, BAD_INPUT = rows(RELIABILITY, "F"), rows(SECURITY, "S"), rows(SECURITY, "B")
SURROUNDINGS = rows(RELIABILITY, "T")
MONEY = rows(RELIABILITY, "M")
UNTESTED_FAULTS = {5, 7, 9, 10, 11, 45, 61}
"""They are about pace and overload."""
UNTESTED_THREATS = {18, 26}
"""The last part of the page speaks of them."""


def named_files(page: str, row: Row) -> list[Path]:
    """Paths are shortened; the sentence above the table says how: `i/` is `tests/integration/`, `s/` `tests/...`."""
    folders = dict(re.findall(r"`([a-z]/)`(?: is)? `(tests/[\w/]+)`", page))
    return [ROOT / (folders[path[:2]] + path[2:]) for path in re.findall(r"`([a-z]/[\w/]+\.py)`", row[2])]


def named_tests(row: Row) -> set[str]:
    """Names of three words or more, outside of code marks."""
    return set(re.findall(r"\b[a-z0-9]+(?:_[a-z0-9]+){2,}\b", re.sub(r"`[^`]*`", "", row[2])))


def names_in(files: Iterable[Path], prefix: str = "test_") -> set[str]:
    return {name for file in files for name in re.findall(rf"def {prefix}(\w+)\(", file.read_text())}


def numbers(table: list[Row]) -> set[int]:
    """Those that have a row; `F23-F28` is six of them and `F29, F30` two."""
    found = [[int(number) for number in re.findall(r"\d+", row[0])] for row in table]
    return {number for row in found for number in range(row[0], row[-1] + 1)}


@pytest.fixture(scope="module")
def all_tests() -> set[str]:
    """Of all files, and the mutants' scenarios."""
    return names_in((ROOT / "tests").rglob("*.py"), prefix="(?:test_)?")


@pytest.mark.parametrize("row", [*FAULTS, *SURROUNDINGS, *MONEY], ids=lambda row: row[0])
def test_what_a_fault_names_is_there(row: Row, all_tests: set[str]) -> None:
    files, names = named_files(RELIABILITY, row), named_tests(row)
    assert files or names
    assert all(file.exists() for file in files), files
    assert not names - all_tests


@pytest.mark.parametrize("row", [*THREATS, *BAD_INPUT], ids=lambda row: row[0])
def test_what_a_threat_or_bad_input_names_is_there(row: Row) -> None:
    files, names = named_files(SECURITY, row), named_tests(row)
    assert files
    assert names
    assert all(file.exists() for file in files), files
    assert not names - names_in(files, prefix="(?:test_)?")


def test_every_number_has_a_row_or_is_said_to_be_untested() -> None:
    assert numbers(FAULTS) | UNTESTED_FAULTS == set(range(1, 62))
    assert numbers(THREATS) | UNTESTED_THREATS == set(range(1, 32))
    assert not numbers(THREATS) & UNTESTED_THREATS
    assert numbers(BAD_INPUT) == set(range(1, 27))
    rest = SECURITY.partition("## What does not hold")[2]
    assert all(f"**S{number}**" in rest for number in UNTESTED_THREATS)


def test_every_mutant_is_named() -> None:
    table = RELIABILITY.partition("## Invariants")[2].partition("## Chaos")[0]
    assert [name for name in MUTANTS if name not in table] == []
    page = re.sub(r"\s+", " ", RELIABILITY).lower()
    assert [mutant.__name__ for mutant in MACHINE if mutant.__name__.replace("_", " ") not in page] == []


def test_every_setting_that_is_a_secret_is_in_the_table() -> None:
    table = SECURITY.partition("## Secrets")[2].partition("\n\nThey come")[0]
    files = ("service/settings.py", "bridge/settings.py", "runtime/process_settings.py")
    sources = [(ROOT / file).read_text() for file in files]
    secret = r"^    (\w+): (?:AmqpUrl|DatabaseUrl|SecretStr|Annotated\[SecretStr)"
    names = {name.upper() for source in sources for name in re.findall(secret, source, re.MULTILINE)}
    assert {"AMQP_URL", "DATABASE_URL", "MIGRATION_DATABASE_URL", "STRIPE_API_KEY"} <= names
    assert [name for name in names if f"`{name}`" not in table] == []


@pytest.mark.parametrize("suite", [*test_servers.STORE, *test_servers.BROKER])
def test_what_runs_on_servers_in_containers_is_there(suite: str) -> None:
    assert (ROOT / suite).exists()
