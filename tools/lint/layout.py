"""Refuses file names that exist twice without a reason, and packages that do not say what they hold."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.lint.repository import DEPLOYED, Finding, sources

_PARTS: Final = (*DEPLOYED, "tools")
SHARED_NAMES: Final = {
    "__init__": "Python's own",
    "__main__": "Python's own",
    "app": "the web application of each process that has one",
    "bootstrap": "the composition root of each process",
    "check": "the same command of each process",
    "docs_page": "the page of each process's document",
    "errors": "the error tree of the domain and of the bridge",
    "events": "the messages of that name, and the operator's command that prints them",
    "metrics": "the metrics of each process",
    "middleware": "what surrounds a command, and what surrounds a request",
    "migrate": "the operator's command, and what it does in the database",
    "overview": "how things stand now, and how it is read from the database",
    "search": "what operators look for, and how it is found in the database",
    "server": "the HTTP servers of the bridge and of the sandbox",
    "sessions": "who has logged in to the console, and what connects to PostgreSQL",
    "settings": "the settings of each process",
}
"""File names that may exist more than once, each with its reason."""


def check(root: Path) -> Iterator[Finding]:
    """Both rules."""
    yield from repeated_names(root)
    yield from silent_packages(root)


def repeated_names(root: Path) -> Iterator[Finding]:
    """A name stands for one thing, except for those in `SHARED_NAMES`."""
    files: dict[str, list[str]] = defaultdict(list)
    for file in sources(root):
        if file.suffix == ".py" and file.parts[0] in _PARTS and "migrations" not in file.parts:
            files[file.stem].append(file.as_posix())
    for name, paths in files.items():
        for path in paths[1:] if name not in SHARED_NAMES else ():
            yield Finding(file=path, line=1, text=f"the name is taken by {paths[0]}; see SHARED_NAMES in {__name__}")


def silent_packages(root: Path) -> Iterator[Finding]:
    """A package's docstring begins with one or two sentences: what belongs here, and what does not."""
    for file in sources(root):
        if file.name != "__init__.py" or file.parts[0] not in _PARTS:
            continue
        summary = (ast.get_docstring(ast.parse((root / file).read_text())) or "").partition("\n\n")[0]
        if len(re.findall(r"[.!?](?:\s|$)", summary)) not in {1, 2}:
            text = "the docstring must say in one or two sentences what belongs in this package and what does not"
            yield Finding(file=file.as_posix(), line=1, text=text)
