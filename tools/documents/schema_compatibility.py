"""Breaking changes of a JSON Schema, for senders or for readers: a change may help one side and break the other.

A change that is not understood counts as breaking.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

Schema = Mapping[str, Any]

_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_FORMS: Final = ("pattern", "format", "multipleOf", "uniqueItems", "allOf", "not")
_MAX_DEPTH: Final = 30


class Side(Enum):
    """Who is affected by the schema."""

    SENDERS = "senders"
    """The schema says what we accept: what was accepted must stay accepted."""
    READERS = "readers"
    """The schema says what we write: no new values may come, and no member may be missing."""


@dataclass(frozen=True, kw_only=True)
class SchemaComparison:
    """Compares schemas of two documents, which resolve their references."""

    old: Mapping[str, Any]
    new: Mapping[str, Any]

    def broken(self, old: Schema, new: Schema, side: Side, *, at: str = "", depth: int = 0) -> Iterator[str]:
        """A sentence for each change that breaks `side`; `at` is the place in the message."""
        if depth > _MAX_DEPTH:
            return
        old_variants, new_variants = _variants(resolved(self.old, old)), _variants(resolved(self.new, new))
        if len(old_variants) == len(new_variants) == 1:
            yield from self._single(old_variants[0], new_variants[0], side, at, depth)
            return
        # Each variant must be accepted by one of the other side: the old ones by us, the new ones by our readers.
        for variant in old_variants if side is Side.SENDERS else new_variants:
            problems = [
                list(self._single(variant, other, side, at, depth))
                if side is Side.SENDERS
                else list(self._single(other, variant, side, at, depth))
                for other in (new_variants if side is Side.SENDERS else old_variants)
            ]
            yield from min(problems, key=len)

    def _single(self, old: Schema, new: Schema, side: Side, at: str, depth: int) -> Iterator[str]:
        yield from (f"{at or 'it'}: {problem}" for problem in _own(old, new, side))
        if "items" in old or "items" in new:
            yield from self.broken(old.get("items", {}), new.get("items", {}), side, at=f"{at}[]", depth=depth + 1)
        before, after = old.get("properties", {}), new.get("properties", {})
        for name, member in before.items():
            where = f"{at}.{name}".lstrip(".")
            if name not in after:
                yield f"{where}: was removed"
            else:
                yield from self.broken(member, after[name], side, at=where, depth=depth + 1)
        required, requires = set(old.get("required", ())), set(new.get("required", ()))
        if side is Side.SENDERS:
            yield from (f"{at}.{name}: is now required".lstrip(".") for name in sorted(requires - required))
            if old.get("additionalProperties") is not False and new.get("additionalProperties") is False:
                yield f"{at or 'it'}: refuses further members now"
        else:
            yield from (
                f"{at}.{name}: may now be missing".lstrip(".") for name in sorted((required - requires) & set(after))
            )


def resolved(document: Mapping[str, Any], part: Any) -> Any:
    """The target of a reference (empty if it is gone), merged with its siblings; any other value unchanged."""
    for _ in range(_MAX_DEPTH):
        if not isinstance(part, Mapping) or "$ref" not in part:
            return part
        found: Any = document
        for step in part["$ref"].removeprefix("#/").split("/"):
            found = found.get(step.replace("~1", "/").replace("~0", "~"), {})
        part = {**found, **{name: value for name, value in part.items() if name != "$ref"}}
    return part


def _variants(schema: Any) -> list[Schema]:
    """The alternatives of a schema, each of one type."""
    if not isinstance(schema, Mapping):  # true: anything
        return [{}]
    for name in ("anyOf", "oneOf"):
        if name in schema:
            rest = {key: value for key, value in schema.items() if key != name}
            return [{**rest, **variant} for variant in schema[name]]
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": each} for each in schema["type"]]
    return [schema]


def _own(old: Schema, new: Schema, side: Side) -> Iterator[str]:
    """The breaking changes of the schema itself, without its members."""
    if not _type_fits(old.get("type"), new.get("type"), side):
        yield f"was {old.get('type', 'of any type')}, is {new.get('type', 'of any type')}"
    yield from _values(old, new, side)
    for names, sign in ((_LOWER, 1), (_UPPER, -1)):
        for name in names:
            before, after = old.get(name), new.get(name)
            if before == after:
                continue
            tighter = after is not None and (before is None or (after - before) * sign > 0)
            if tighter is (side is Side.SENDERS):
                yield f"{name} was {before}, is {after}"
    for name in _FORMS:
        before, after = old.get(name), new.get(name)
        # Harmless is only a form that readers did not have before, or one that we no longer ask of senders.
        if before != after and (after if side is Side.SENDERS else before) is not None:
            yield f"{name} was {before}, is {after}"


def _type_fits(old: Any, new: Any, side: Side) -> bool:
    wide, narrow = (new, old) if side is Side.SENDERS else (old, new)
    return wide in {narrow, None} or (narrow, wide) == ("integer", "number")


def _values(old: Schema, new: Schema, side: Side) -> Iterator[str]:
    before, after = _enumerated(old), _enumerated(new)
    if before is None:
        if after is not None and side is Side.SENDERS:
            yield f"takes nothing but {', '.join(sorted(after))} now"
        return
    if after is None:
        if side is Side.READERS and not old.get("x-extensible"):
            yield "may now have any value"
        return
    if lost := before - after:
        yield f"lost {', '.join(sorted(lost))}"
    if side is Side.READERS and not old.get("x-extensible") and (added := after - before):
        yield f"may now be {', '.join(sorted(added))}"


def _enumerated(schema: Schema) -> set[str] | None:
    if "const" in schema:
        return {repr(schema["const"])}
    return {repr(value) for value in schema["enum"]} if "enum" in schema else None
