"""What `docs/security.md` says is tested, is tested: every file and every test that it names exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text()
SHORT = {
    "i/": "tests/integration/",
    "s/": "tests/integration/service/",
    "u/": "tests/unit/",
    "b/": "tests/integration/bridge/",
    "f/": "tests/fuzz/",
}
ROWS = [line.split(" | ") for line in PAGE.splitlines() if re.match(r"\| [SB]\d", line)]
UNTESTED = {18, 26}
"""Threats that the page's last part speaks of."""


def number(row: list[str]) -> str:
    return row[0].strip("| ")


def files(cell: str) -> list[Path]:
    found = re.findall(r"`([a-z]/[\w/]+\.py)`", cell)
    return [ROOT / (SHORT[each[:2]] + each[2:]) for each in found]


@pytest.mark.parametrize("row", ROWS, ids=number)
def test_what_a_row_names_is_there(row: list[str]) -> None:
    cell = row[2]
    assert files(cell)
    assert all(path.exists() for path in files(cell)), files(cell)
    names = set(re.findall(r"\b[a-z0-9]+(?:_[a-z0-9]+){2,}\b", re.sub(r"`[^`]*`", "", cell)))
    tests = {name for path in files(cell) for name in re.findall(r"def test_(\w+)\(", path.read_text())}
    assert names
    assert not names - tests


def test_every_threat_has_a_row() -> None:
    covered = {int(number(row)[1:]) for row in ROWS if number(row).startswith("S")}
    assert covered | UNTESTED == set(range(1, 28))
    assert not covered & UNTESTED


def test_every_bad_input_has_a_row() -> None:
    rows = [re.findall(r"\d+", number(row)) for row in ROWS if number(row).startswith("B")]
    covered = {each for row in rows for each in range(int(row[0]), int(row[-1]) + 1)}
    assert covered == set(range(1, 27))


def test_what_is_not_tested_is_said() -> None:
    rest = PAGE.partition("## What does not hold")[2]
    assert all(f"**S{each}**" in rest for each in UNTESTED)


def test_every_setting_that_is_a_secret_is_in_the_table() -> None:
    table = PAGE.partition("## Secrets")[2].partition("\n\nThey come")[0]
    sources = [(ROOT / f"{part}/settings.py").read_text() for part in ("service", "bridge")]
    secret = r"^    (\w+): (?:_AmqpUrl|_DatabaseUrl|Annotated\[SecretStr)"
    names = {name.upper() for source in sources for name in re.findall(secret, source, re.MULTILINE)}
    assert {"AMQP_URL", "DATABASE_URL", "MIGRATION_DATABASE_URL", "STRIPE_API_KEY"} <= names
    assert [name for name in names if f"`{name}`" not in table] == []
