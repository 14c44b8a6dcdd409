"""Stripe's form encoding: ``line_items[0][quantity]=1`` is ``{"line_items": {"0": {"quantity": "1"}}}``."""

import re
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from tools.sandbox import stripe_errors

Tree = dict[str, Any]
"""Values are strings, trees, or lists of either."""

MAX_FIELDS = 3000


def pairs(form: str) -> list[tuple[str, str]]:
    """The decoded names and values of a form; 400 if it cannot be decoded.

    The same as ``urllib.parse.parse_qsl``, which took a third of a create: here repeated names are cached, and most
    values need no decoding.
    """
    fields = form.split("&") if form else []
    if len(fields) > MAX_FIELDS:
        raise stripe_errors.invalid("The request has too many parameters.")
    try:
        split = [field.partition("=") for field in fields if field]
        return [
            (_decoded(name), _decoded(value) if "%" in value else value.replace("+", " ")) for name, _, value in split
        ]
    except UnicodeDecodeError as error:
        raise stripe_errors.invalid("Invalid UTF-8 in the request.") from error


@lru_cache(maxsize=4096)
def _decoded(text: str) -> str:
    return unquote(text.replace("+", " "), errors="strict")


def tree(fields: list[tuple[str, str]]) -> Tree:
    """The nested form of the fields. Lists may be written ``x[0]`` or ``x[]``."""
    result: Tree = {}
    for name, value in fields:
        _insert(result, _path(name), value, name)
    return result


@lru_cache(maxsize=4096)
def _path(name: str) -> tuple[str, ...]:
    matched = re.fullmatch(r"([^\[\]]+)((?:\[[^\[\]]*\])*)", name)
    if matched is None:
        return (name,)
    return (matched[1], *re.findall(r"\[([^\[\]]*)\]", matched[2]))


def _insert(node: Any, path: tuple[str, ...], value: str, name: str) -> None:
    for place, key in enumerate(path):
        following = path[place + 1] if place + 1 < len(path) else None
        if key == "" and place > 0:
            node = _append(node, path[place + 1 :], value, name)
            continue
        if not isinstance(node, dict):
            raise stripe_errors.invalid("Invalid hash", name)
        if following is None:
            node[key] = value
        else:
            node = node.setdefault(key, [] if following == "" else {})


def _append(node: Any, rest: tuple[str, ...], value: str, name: str) -> Any:
    """``x[]=1`` adds; ``x[][a]=1`` fills the last element until that already has an ``a``."""
    if not isinstance(node, list):
        raise stripe_errors.invalid("Invalid array", name)
    if not rest:
        node.append(value)
    elif not node or _has(node[-1], rest):
        node.append({})
    return node[-1]


def _has(node: Any, path: tuple[str, ...]) -> bool:
    for key in path:
        if not isinstance(node, dict):
            return not (key == "" and isinstance(node, list))
        if key not in node:
            return False
        node = node[key]
    return True
