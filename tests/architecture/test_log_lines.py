"""What each line from WARNING on means, and what to do, is told to operators."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
OPERATING: Final = ROOT / "docs/operating.md"
DEPLOYED: Final = ("service", "bridge", "runtime", "contracts")
LOUD: Final = {"warning", "error", "exception", "critical", "failed"}
"""Methods of loggers, and of `LogOnChange`."""
LEVEL_AT: Final = {"log": 0, "_log_change": 1}
"""Methods that are told the level, and where it stands."""
QUIET_LEVELS: Final = {"logging.INFO", "logging.DEBUG"}
PLACE: Final = re.compile(r"%[-+0-9.]*[sdgfr]")


def lines_of(source: str) -> Iterator[str]:
    """The templates of all lines that may be a warning or worse; `?` if it is no text that can be read here."""
    tree = ast.parse(source)
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
        texts: dict[str, object] = {
            target.id: node.value.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
            if (template := template_of(call, texts)) is not None:
                yield template


def template_of(call: ast.Call, texts: Mapping[str, object]) -> str | None:
    for keyword in call.keywords:
        if keyword.arg == "trouble" and isinstance(keyword.value, ast.Constant):
            return f"{keyword.value.value!s}; trying again"
    if not isinstance(call.func, ast.Attribute) or not call.args:
        return None
    if (level := LEVEL_AT.get(call.func.attr)) is not None:
        is_quiet = ast.unparse(call.args[level]) in QUIET_LEVELS
        return None if is_quiet else text_of(call.args[level + 1 :], texts)
    if call.func.attr not in LOUD or ast.unparse(call.func.value) == "self":
        return None
    return text_of(call.args, texts)


def text_of(arguments: list[ast.expr], texts: Mapping[str, object]) -> str | None:
    match arguments:
        case [ast.Constant(value=str(text)), *_]:
            return text
        case [ast.Name(id=name), *_] if isinstance(texts.get(name), str):
            return str(texts[name])
        case []:
            return None
    return "?"


PASSED_ON: Final = {("runtime/aio.py", "?"), ("bridge/eureka.py", "?")}
"""They write the text that another function gives them, where it is found."""


def told() -> set[str]:
    page = OPERATING.read_text()
    section = page[page.index("### What the lines mean") :].split("\n## ")[0]
    return {text for row in section.splitlines() if row.startswith("| ") for text in re.findall(r"`([^`]*)`", row)}


def test_every_line_from_warning_on_is_explained() -> None:
    written = {
        (file.relative_to(ROOT).as_posix(), template)
        for part in DEPLOYED
        for file in (ROOT / part).rglob("*.py")
        for template in lines_of(file.read_text())
    }
    explained = told()
    assert {(file, text) for file, text in written - PASSED_ON if PLACE.sub("…", text) not in explained} == set()


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ('_log.warning("a %s", x)', ["a %s"]),
        ('_log.error("b")', ["b"]),
        ('self._change.failed("c (%s)", e)', ["c (%s)"]),
        ('_log.log(level, "d %d", x)', ["d %d"]),
        ('_log.log(logging.INFO, "e")', []),
        ('_log.info("f")', []),
        ('text = "g %s"; self._change.failed(text, x)', ["g %s"]),
        ("_log.warning(sentence)", ["?"]),
        ('PeriodicLoop(trouble="h")', ["h; trying again"]),
        ('self._log_change("x", logging.WARNING, "i")', ["i"]),
    ],
)
def test_a_line_is_seen_however_it_is_written(code: str, found: list[str]) -> None:
    assert list(lines_of(f"def function():\n    {code}")) == found
