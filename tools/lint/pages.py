"""Refuses documents that name files, link to places or call make targets which do not exist."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.lint.repository import Finding, sources

_CODE: Final = re.compile(r"`([\w.-]+(?:/[\w.-]+)+\.(?:py|md|json|yaml|toml|sh))`")
_LINK: Final = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)")
_MAKE: Final = re.compile(r"(?:^|`)(?:\$ )?(?:[A-Z_]+=\S+ )*make ([a-z][a-z-]*)")
_ABBREVIATED: Final = re.compile(r"[a-z]/")
"""`s/ports/test_store.py`: the tables of docs/reliability.md and docs/security.md, which have tests of their own."""
_BASES: Final = (Path(), Path("service"), Path("docs"))
"""Where a path may begin: the text is about the service more often than not."""


def check(root: Path) -> Iterator[Finding]:
    """Every path in code marks, and every link, that leads nowhere."""
    makefile = root / "Makefile"
    targets = set(re.findall(r"^([a-z-]+):", makefile.read_text(), re.MULTILINE)) if makefile.exists() else set()
    for page in sources(root):
        if page.suffix != ".md" or page.name == "CHANGELOG.md":  # it names what is gone
            continue
        for number, line in enumerate((root / page).read_text().splitlines(), start=1):
            unknown = [f"make {target}" for target in _MAKE.findall(line) if target not in targets]
            for missing in (*unknown, *_missing_files(root, line), *_broken_links(root, page, line)):
                yield Finding(file=page.as_posix(), line=number, text=f"{missing} does not exist")


def _missing_files(root: Path, line: str) -> Iterator[str]:
    for path in _CODE.findall(line):
        written_by_somebody = path.startswith(".") or _ABBREVIATED.match(path)
        if not written_by_somebody and not any((root / base / path).exists() for base in _BASES):
            yield path


def _broken_links(root: Path, page: Path, line: str) -> Iterator[str]:
    for path, anchor in _LINK.findall(line):
        target = (root / page).parent / path if path else root / page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            yield f"{path}#{anchor}" if anchor else str(path)


def _anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
