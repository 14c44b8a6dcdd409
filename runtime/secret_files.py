"""Secrets from files: `DATABASE_URL_FILE` names a file that holds what `DATABASE_URL` would, as orchestrators mount it.

Environment variables are shown to whoever may inspect a container; files are not. Every secret of every process can be
given either way.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr


@dataclass(frozen=True, kw_only=True)
class SecretFiles:
    """What the files hold, and what is wrong with them in one sentence each; both by the name of the member."""

    values: Mapping[str, Any]
    problems: Mapping[str, str]


def read(model: type[BaseModel]) -> SecretFiles:
    """Read the files that the environment names for the secrets of these settings; a line's end is no part of them."""
    values, problems = dict[str, str](), dict[str, str]()
    for member in _secrets(model):
        name = member.upper()
        file = os.environ.get(f"{name}_FILE")
        if not file:
            continue
        if os.environ.get(name):
            problems[member] = f"{name} and {name}_FILE are both set: only one of them may be"
            continue
        try:
            values[member] = Path(file).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, ValueError):
            problems[member] = f"{name}_FILE names a file that cannot be read"
    return SecretFiles(values=values, problems=problems)


def _secrets(model: type[BaseModel]) -> Iterator[str]:
    """The members that are a secret, or a secret or None."""
    for name, field in model.model_fields.items():
        kinds = {getattr(kind, "__origin__", kind) for kind in (field.annotation, *get_args(field.annotation))}
        if SecretStr in kinds:
            yield name
