"""Which files of the repository the lints read."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEPLOYED: Final = ("contracts", "runtime", "service", "bridge", "console")
"""Packages that run in production; their names are held to a stricter list of words."""
_GENERATED: Final = {"target", "dist", "node_modules", "__pycache__"}
_READ: Final = {".py", ".md"}
_READ_BY_NAME: Final = {"Makefile", "pyproject.toml"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One violation. `file` is relative to the repository; `line` counts from 1."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


def sources(root: Path) -> Iterator[Path]:
    """Python files, Markdown documents, the Makefile and pyproject.toml, relative to the root."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(each for each in folders if not each.startswith(".") and each not in _GENERATED)
        for name in sorted(names):
            if Path(name).suffix in _READ or name in _READ_BY_NAME:
                yield (Path(folder) / name).relative_to(root)
