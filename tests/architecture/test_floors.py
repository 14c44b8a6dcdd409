"""The floors of pyproject.toml hold, and each rule turns red when it is broken."""

import ast
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("contracts", "runtime", "service", "bridge", "console", "tools")

# One offence per rule, each in a file of its own: rule id -> (file, the line that breaks it). The house has one more.
OFFENCES = {
    "service-floors": ("service/application/handlers.py", "import service.workers.relay"),
    "contracts-floors": ("contracts/fields.py", "import contracts.topology"),
    "bridge-floors": ("bridge/auth.py", "import bridge.app"),
    "console-floors": ("console/identity.py", "import console.app"),
    "console-reads-the-record": ("console/check.py", "import service.startup"),
    "house-floors": ("bridge/routes.py", "import service.domain.money"),
    "domain-floors": ("service/domain/errors.py", "import service.domain.payment"),
    "ratelimit-knows-no-payment": ("service/ratelimit/permit.py", "import service.domain.payment"),
    "contracts-are-data": ("contracts/replies.py", "import aiohttp"),
    "failpoints-stand-alone": ("service/failpoints.py", "import pydantic"),
    "stripe-in-its-adapter": ("service/application/checkout.py", "import stripe"),
    "sql-in-its-adapter": ("service/entrypoints/consumers.py", "import sqlalchemy"),
    "http-in-the-bridge": ("service/settings.py", "import fastapi"),
    "metrics-at-the-edge": ("service/workers/relay.py", "import prometheus_client"),
    "faststream-at-the-entrance": ("service/adapters/stripe/stripe_gateway.py", "import faststream"),
}


def rules() -> dict[str, str]:
    """Each rule's id and name."""
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {rule["id"]: rule["name"] for rule in configuration["tool"]["importlinter"]["contracts"]}


def lint(folder: Path) -> str:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


@pytest.fixture(scope="module")
def broken_copy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the linter says of a copy in which every rule is broken once."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copy(ROOT / "pyproject.toml", folder)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file, line in OFFENCES.values():
        path = folder / file
        path.write_text(f"{path.read_text()}\n{line}\n")
    (folder / "runtime" / "lever.py").write_text('"""Below the tools."""\n\nimport tools.sandbox\n')
    (folder / "service" / "attic.py").write_text('"""A module on no floor."""\n')
    return lint(folder)


def test_every_rule_has_an_offence_that_breaks_it() -> None:
    assert set(OFFENCES) == set(rules())


def test_every_rule_is_kept() -> None:
    report = lint(ROOT)
    assert f"Contracts: {len(rules())} kept, 0 broken." in report, report


@pytest.mark.parametrize("rule", OFFENCES)
def test_each_rule_turns_red_when_it_is_broken(rule: str, broken_copy: str) -> None:
    file, line = OFFENCES[rule]
    importer = file.removesuffix(".py").replace("/", ".")
    imported = line.removeprefix("import ")
    _, _, details = broken_copy.partition("Broken contracts")
    sections = details.split(rules()[rule] + "\n")
    assert len(sections) > 1, f"{rule} was not broken:\n{broken_copy}"
    assert importer in sections[1], sections[1]
    assert imported.split(".")[0] in sections[1], sections[1]


def test_what_is_deployed_knows_no_tool(broken_copy: str) -> None:
    assert "runtime.lever -> tools.sandbox" in broken_copy


def test_a_module_on_no_floor_is_noticed(broken_copy: str) -> None:
    assert "attic" in broken_copy


def imports(file: Path) -> set[str]:
    """The top-level names that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize(
    ("files", "others"),
    [
        ("service/domain/*.py", ("service.domain",)),
        ("service/failpoints.py", ()),
        ("contracts/*.py", ("contracts", "pydantic")),
    ],
)
def test_a_floor_stands_on_the_standard_library_and_on_little_else(files: str, others: tuple[str, ...]) -> None:
    for file in ROOT.glob(files):
        strangers = {name for name in imports(file) if name.split(".")[0] not in sys.stdlib_module_names}
        assert all(name.startswith(others) for name in strangers), (file.name, strangers)


def test_the_domain_asks_no_clock_and_makes_no_dice() -> None:
    for file in (ROOT / "service" / "domain").glob("*.py"):
        text = file.read_text()
        assert not {"time", "random", "uuid", "asyncio", "os"} & imports(file), file.name
        assert ".now(" not in text, file.name


@pytest.mark.parametrize("package", PACKAGES)
def test_a_file_stays_short(package: str) -> None:
    long = {
        str(file.relative_to(ROOT)): lines
        for file in (ROOT / package).rglob("*.py")
        if (lines := len(file.read_text().splitlines())) > 320
    }
    assert not long
