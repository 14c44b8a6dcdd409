"""Each deployable declares what it imports: an image and `pip install '.[service]'` have nothing else."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
OURS: Final = {"contracts", "runtime", "service", "bridge", "console"}
EXTRAS: Final = ("service", "bridge", "console")
NEVER_CALLED: Final = {"console": {"alembic"}}
"""Imported within a function of the service that this deployable does not call: the console never migrates."""
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def normal(name: str) -> str:
    """A distribution's name as packaging tools compare it, without extras and versions."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=;! ]", name)[0]).lower()


@cache
def file_of(module: str) -> Path | None:
    path = ROOT / module.replace(".", "/")
    return next((each for each in (path.with_suffix(".py"), path / "__init__.py") if each.exists()), None)


def imported(file: Path) -> Iterator[str]:
    """Modules, and names that may be modules, wherever in the file they are imported."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reached(package: str) -> dict[str, str]:
    """The top-level modules of others that a package of ours needs, each with a module of ours that imports it."""
    files = (ROOT / package).rglob("*.py")
    waiting = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
    seen, others = set[str](), dict[str, str]()
    while waiting:
        module = waiting.pop()
        parts = module.split(".")
        waiting += [".".join(parts[:count]) for count in range(1, len(parts)) if parts[0] in OURS]
        file = file_of(module)
        if module in seen or file is None:
            continue
        seen.add(module)
        for each in imported(file):
            top = each.partition(".")[0]
            if top in OURS:
                waiting.append(each)
            elif top not in sys.stdlib_module_names:
                others.setdefault(top, module)
    return others


@pytest.mark.parametrize("extra", EXTRAS)
def test_what_a_deployable_imports_is_declared_by_its_extra(extra: str) -> None:
    extras = PROJECT["optional-dependencies"]
    # `runtime/otel.py` is imported only where traces are recorded, and says which extra is missing.
    declared = {normal(each) for each in [*PROJECT["dependencies"], *extras[extra], *extras["otel"]]}
    distributions = packages_distributions()
    others = reached(extra)
    for module in others.keys() - NEVER_CALLED.get(extra, set()):
        known = {normal(each) for each in distributions.get(module, [module])}
        assert known & declared, f"{others[module]} imports {module}, which the extra {extra} does not declare"
