"""Parses and writes message bodies: strict JSON in, compact JSON out.

Python's own parser is used because it passes on the *text* of a number: a price must never become a float.
"""

import json
import re
from decimal import Decimal
from functools import cache
from typing import Any, Final, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue

from contracts.fields import holds_card_number

MAX_NUMBER_LENGTH: Final = 64
"""In characters, of one JSON number. A 64-bit integer has 19, a Java double at most 24."""

MAX_NAMED_PROBLEMS: Final = 10

_LINE_BREAK: Final = re.compile(r"(?<!\n)\n(?!\n)")
_UNREPEATABLE: Final = re.compile(r"[^\w .?-]")
"""Characters of URLs, scripts and templates: a member's name that holds one is neither answered nor logged."""


class Record(BaseModel):
    """The base of every message: frozen, camelCase on the wire, unknown members refused, input never echoed."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        json_schema_serialization_defaults_required=True,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema without titles and defaults that repeat a member's name or type, and without line breaks."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        for member in schema.get("properties", {}).values():
            member.pop("title", None)
            member.pop("default", None)
        for part in (schema, *schema.get("properties", {}).values()):
            if "description" in part:
                part["description"] = _LINE_BREAK.sub(" ", part["description"])
        return schema


class InvalidBodyError(ValueError):
    """A body that is not valid; the text is one sentence that names the fields and repeats no value."""


AnyRecord = TypeVar("AnyRecord", bound=BaseModel)


def read(model: type[AnyRecord], body: bytes) -> AnyRecord:
    """Parse `body` as `model`; InvalidBodyError if it is not strict JSON (see `loads`) or not of the model's shape.

    For commands: a member that is not known may be misspelt, and is refused.
    """
    return _validated(model, read_object(body))


def read_object(body: bytes) -> dict[str, Any]:
    """Parse `body` as a JSON object, or InvalidBodyError."""
    document = loads(body)
    if not isinstance(document, dict):
        raise InvalidBodyError("The body must be a JSON object.")
    return document


def read_known(model: type[AnyRecord], document: dict[str, Any]) -> AnyRecord:
    """What `model` knows of a reply, fault or event: a newer release of its sender may say more."""
    known = _known(model)
    return _validated(model, {name: value for name, value in document.items() if name in known})


@cache
def _known(model: type[BaseModel]) -> frozenset[str | None]:
    return frozenset(field.alias for field in model.model_fields.values())


def _validated(model: type[AnyRecord], document: dict[str, Any]) -> AnyRecord:
    try:
        # Python's names are not accepted on the wire.
        return model.model_validate(document, by_alias=True, by_name=False)
    except ValidationError as error:
        raise InvalidBodyError(describe(error)) from None


def write(record: BaseModel) -> bytes:
    """The record as compact UTF-8 JSON with the wire's names."""
    return record.model_dump_json(by_alias=True).encode()


def loads(body: bytes) -> Any:
    """Strict JSON (UTF-8, every member once, no NaN or Infinity; fractions as `Decimal`), or InvalidBodyError."""
    try:
        return _DECODER.decode(body.decode("utf-8", "strict"))
    except InvalidBodyError:
        raise
    except (ValueError, ArithmeticError, RecursionError):  # bad UTF-8 or JSON; an exponent no Decimal has; nesting
        raise InvalidBodyError("The body is not valid JSON.") from None


def describe(error: ValidationError) -> str:
    """A failed validation as one sentence: field names and what is expected, never a value that was sent."""
    problems = [_problem(details) for details in error.errors(include_url=False, include_input=False)]
    more = len(problems) - MAX_NAMED_PROBLEMS
    named = "; ".join(problems[:MAX_NAMED_PROBLEMS])
    return f"{named}; and {more} more." if more > 0 else f"{named}."


def _problem(details: Any) -> str:
    field = ".".join(str(part) for part in details["loc"]) or "body"
    field = "".join(character if character.isprintable() else "?" for character in field[:64])
    if _UNREPEATABLE.search(field) or holds_card_number(field):
        field = "A field"
    match details["type"]:
        case "missing":
            return f"{field} is required"
        case "extra_forbidden":
            return f"{field} is not a known field"
        case "value_error":
            return f"{field} {details['ctx']['error']}"
        case "string_type":
            return f"{field} must be a string"
        case _:
            return f"{field} is not valid"


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise InvalidBodyError("The body names a field more than once.")
    return members


def _no_constant(_: str) -> NoReturn:
    raise InvalidBodyError("The body holds a number that is not a number.")


def _bounded(text: str) -> str:
    if len(text) > MAX_NUMBER_LENGTH:
        raise InvalidBodyError("The body holds a number that is too long.")
    return text


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique_members,
    parse_constant=_no_constant,
    parse_float=lambda text: Decimal(_bounded(text)),
    parse_int=lambda text: int(_bounded(text)),
)
"""One for all bodies: `json.loads` would make one for each."""
