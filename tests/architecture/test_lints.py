"""The project's own lints find what they are for, and nothing else, in a small repository that breaks every rule."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.lint import layout, pages, retired_words
from tools.lint.__main__ import main

ROOT = Path(__file__).parents[2]
GLOSSARY = """# Glossary

## Retired words

| Retired | Where | Use |
|---|---|---|
| `gizmos?\\|widgets` | anywhere | device |
| `spun` | names | turned |
| `Sock\\|sock` | names | Shoe |

## Where a retired word stays

| Word | Files | Why |
|---|---|---|
| `gizmos?` | `service/old/*` | a contract |
| `.*` | `docs/glossary.md` | this page |
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with nothing to find."""
    for name, text in {
        "docs/glossary.md": GLOSSARY,
        "service/__init__.py": '"""The service. No bridge here."""\n',
    }.items():
        written(tmp_path, name, text)
    return tmp_path


def written(repository: Path, name: str, text: str) -> None:
    (repository / name).parent.mkdir(parents=True, exist_ok=True)
    (repository / name).write_text(text)


def test_a_clean_repository_has_no_findings(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], repository) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "text", "line", "word", "use"),
    [
        ("service/a.py", "x = 1\nGizmoCase = 2\n", 2, "gizmo", "device"),
        ("service/a.py", "def first_gizmo_id() -> None: ...\n", 1, "gizmo", "device"),
        ("service/a.py", "x = 1  # the gizmo's own\n", 1, "gizmo", "device"),
        ("service/a.py", '"""A docstring.\n\nOf Gizmos.\n"""\n', 3, "gizmos", "device"),
        ("service/a.py", '_log.info(f"{x} widgets_total")\n', 1, "widgets", "device"),
        ("service/a.py", "def _spun() -> None: ...\n", 1, "spun", "turned"),
        ("service/a.py", "class Sock: ...\n", 1, "Sock", "Shoe"),
        ("service/gizmo_store.py", "", 1, "gizmo", "device"),
        ("service/spun/a.py", "", 1, "spun", "turned"),
        ("tests/test_a.py", "def test_no_gizmo_is_lost() -> None: ...\n", 1, "gizmo", "device"),
        ("docs/page.md", "# Page\n\nThe `gizmo_id` of it.\n", 3, "gizmo", "device"),
        ("Makefile", "run: ## starts the gizmo\n", 1, "gizmo", "device"),
        ("pyproject.toml", "# gizmo\n", 1, "gizmo", "device"),
    ],
)
def test_a_retired_word_is_named_with_its_place_and_the_new_word(  # noqa: PLR0917
    repository: Path, name: str, text: str, line: int, word: str, use: str
) -> None:
    written(repository, name, text)
    assert [str(each) for each in retired_words.check(repository)] == [f'{name}:{line}: "{word}" is retired: {use}']


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("service/a.py", "gizmology = 1\n"),  # another word
        ("service/a.py", '"""It was spun."""\n'),  # retired as a name only
        ("tests/test_a.py", "spun = 1\n"),  # not deployed
        ("service/a.py", "sock_size = 1\n"),  # retired as a whole name only
        ("service/old/a.py", "gizmo = 1\n"),  # exempt
        (".venv/a.py", "gizmo = 1\n"),
        ("notes.txt", "gizmo\n"),
    ],
)
def test_what_is_no_retired_word_passes(repository: Path, name: str, text: str) -> None:
    written(repository, name, text)
    assert list(retired_words.check(repository)) == []


@pytest.mark.parametrize(
    "broken", [GLOSSARY.replace("anywhere", "somewhere"), GLOSSARY.replace("| Shoe ", ""), "# Glossary\n"]
)
def test_a_rule_that_is_not_understood_is_no_rule_less(repository: Path, broken: str) -> None:
    written(repository, "docs/glossary.md", broken)
    with pytest.raises(ValueError, match=re.escape("docs/glossary.md")):
        list(retired_words.check(repository))


def test_a_name_that_exists_twice_needs_a_reason(repository: Path) -> None:
    for name in ("service/wheel.py", "bridge/wheel.py", "service/settings.py", "bridge/settings.py", "tests/wheel.py"):
        written(repository, name, "")
    assert [str(each) for each in layout.repeated_names(repository)] == [
        "service/wheel.py:1: the name is taken by bridge/wheel.py; see SHARED_NAMES in tools.lint.layout"
    ]


@pytest.mark.parametrize("docstring", ["", '""" """\n', '"""One. Two. Three."""\n'])
def test_a_package_says_what_it_holds(repository: Path, docstring: str) -> None:
    written(repository, "service/inner/__init__.py", docstring)
    assert [each.file for each in layout.silent_packages(repository)] == ["service/inner/__init__.py"]


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("see `service/a.py` and `inner/b.py`", None),
        ("see `service/c.py`", "service/c.py"),
        ("see `s/test_c.py`, `.stack/stack.json`, `a.py`, `payments/{id}`", None),
        ("[a](other.md) [b](other.md#a-heading) [c](#a-page) [d](https://x.test/y.md)", None),
        ("[a](else.md)", "else.md"),
        ("`make run`, `PORT=1 make run`, make haste", None),
        ("`make walk`", "make walk"),
        ("$ make walk", "make walk"),
        ("[a](other.md#no-heading)", "other.md#no-heading"),
    ],
)
def test_what_a_page_names_is_there(repository: Path, line: str, missing: str | None) -> None:
    for name in ("service/a.py", "service/inner/b.py"):
        written(repository, name, "")
    written(repository, "Makefile", ".PHONY: run\nrun: ## starts it\n")
    written(repository, "docs/other.md", "# Other\n\n## A `heading`\n")
    written(repository, "docs/page.md", f"# A page\n\n{line}\n")
    found = [str(each) for each in pages.check(repository)]
    assert found == ([] if missing is None else [f"docs/page.md:3: {missing} does not exist"])


def test_the_exit_status_says_whether_anything_was_found(repository: Path) -> None:
    written(repository, "service/gizmo.py", "")
    assert main(["words"], repository) == 1
    assert main(["layout"], repository) == 0
    assert main(["spelling"], repository) == 2


def real() -> Iterator[retired_words.RetiredWord]:
    yield from retired_words.read_glossary((ROOT / "docs/glossary.md").read_text()).retired


def test_no_new_word_is_itself_retired() -> None:
    for row in real():
        for new in row.use.split(", "):
            for other in real():
                found = other.found_in_name(new) if " " not in new else other.found_in_text(new)
                assert found is None, f"{new} is to be used, and {found} is retired"


def test_the_glossary_has_at_most_thirty_words() -> None:
    words = (ROOT / "docs/glossary.md").read_text().partition("## Words\n")[2].partition("\n## ")[0]
    rows = [line.split(" | ")[0] for line in words.splitlines() if line.startswith("| ")][1:]
    assert 0 < len(rows) <= 30
    assert len(set(rows)) == len(rows)
