"""Variables that were meant for us and are misspelt: a setting that nobody reads is noticed by nobody."""

import os
from collections.abc import Mapping
from difflib import SequenceMatcher
from typing import Final

from pydantic import BaseModel

_ALIKE: Final = 0.9
"""A letter or two of a name. Strangers' variables beside ours, such as `STRIPE_WEBHOOK_SECRET`, are less alike."""


def variables(*models: type[BaseModel], environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables that are none of these settings' and are spelt almost like one, each with the one that is meant."""
    ours = {name.upper() for model in models for name in model.model_fields}
    known = ours | {f"{name}_FILE" for name in ours}
    given = sorted(os.environ if environment is None else environment)
    likely = {name: _closest(name, known) for name in given if name.upper() not in known and not name[-1:].isdigit()}
    return {name: meant for name, meant in likely.items() if meant is not None}


def sentences(*models: type[BaseModel]) -> list[str]:
    """The same of this process's environment, for an operator."""
    return [f"{name} is not a setting: is {meant} meant?" for name, meant in variables(*models).items()]


def _closest(name: str, known: set[str]) -> str | None:
    """The known name that is most like it, if one is alike."""
    alike = {each: SequenceMatcher(None, name.upper(), each).ratio() for each in known}
    closest = max(sorted(alike), key=alike.__getitem__)
    return closest if alike[closest] >= _ALIKE else None
