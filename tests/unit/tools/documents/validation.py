"""Checking a value against a schema inside a document."""

from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

_URI = "urn:document"


def problems(document: Any, schema: Any, value: Any) -> list[str]:
    """What is wrong with the value; the schema's references are those of the document."""
    registry: Registry[Any] = Registry().with_resource(_URI, Resource(contents=document, specification=DRAFT202012))
    absolute = _absolute(schema)
    validator = Draft202012Validator(absolute, registry=registry, format_checker=FormatChecker())
    return [f"{'.'.join(map(str, error.path))}: {error.message}" for error in validator.iter_errors(value)]


def _absolute(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            name: f"{_URI}{value}" if name == "$ref" and isinstance(value, str) else _absolute(value)
            for name, value in node.items()
        }
    return [_absolute(each) for each in node] if isinstance(node, list) else node
