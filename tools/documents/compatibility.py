"""Breaking changes of a document; those of its schemas are found by `schema_compatibility`.

No change may break a client unless it raises the first number of the version.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tools.documents.schema_compatibility import SchemaComparison, Side, resolved

Part = Mapping[str, Any]

_METHODS: Final = ("get", "put", "post", "delete", "patch")


def incompatible(old: Part, new: Part) -> list[str]:
    """A sentence for each breaking change from `old` to `new`; none if the version's first number was raised."""
    if _first_number(new) > _first_number(old):
        return []
    compare = _async_api if "asyncapi" in new else _open_api
    return sorted(set(compare(old, new)))


def _first_number(document: Part) -> int:
    return int(str(document["info"]["version"]).partition(".")[0])


# --- OpenAPI


def _open_api(old: Part, new: Part) -> Iterator[str]:
    schemas = SchemaComparison(old=old, new=new)
    yield from _schemes(old, new)
    for path, methods in old["paths"].items():
        for method in filter(methods.__contains__, _METHODS):
            name = f"{method.upper()} {path}"
            operation = new["paths"].get(path, {}).get(method)
            if operation is None:
                yield f"{name}: was removed"
                continue
            yield from (f"{name}: {problem}" for problem in _rest_operation(methods[method], operation, schemas))


def _rest_operation(old: Part, new: Part, schemas: SchemaComparison) -> Iterator[str]:
    if old.get("operationId") != new.get("operationId"):
        yield f"operationId was {old.get('operationId')}, is {new.get('operationId')}"
    yield from _security(old, new)
    yield from _parameters(old, new, schemas)
    body, new_body = old.get("requestBody", {}), new.get("requestBody", {})
    if new_body.get("required") and not body.get("required"):
        yield "body: is now required"
    yield from _content("body", body, new_body, schemas, Side.SENDERS)
    for status, response in old["responses"].items():
        if status not in new["responses"]:
            yield f"{status}: was removed"
            continue
        answer = new["responses"][status]
        yield from _content(status, response, answer, schemas, Side.READERS)
        for header, described in response.get("headers", {}).items():
            if header not in answer.get("headers", {}):
                yield f"{status} header {header}: was removed"
            else:
                now = answer["headers"][header]
                changes = schemas.broken(described["schema"], now["schema"], Side.READERS)
                yield from (f"{status} header {header}: {change}" for change in changes)


def _parameters(old: Part, new: Part, schemas: SchemaComparison) -> Iterator[str]:
    before, after = (
        {(each["in"], each["name"]): each for each in operation.get("parameters", ())} for operation in (old, new)
    )
    for key, parameter in before.items():
        if key not in after:
            yield f"parameter {key[1]}: was removed"
            continue
        changes = schemas.broken(parameter["schema"], after[key]["schema"], Side.SENDERS)
        yield from (f"parameter {key[1]}: {change}" for change in changes)
    for key, parameter in after.items():
        if parameter.get("required") and not before.get(key, {}).get("required"):
            yield f"parameter {key[1]}: is now required"


def _content(name: str, old: Part, new: Part, schemas: SchemaComparison, side: Side) -> Iterator[str]:
    for media_type, content in old.get("content", {}).items():
        if media_type not in new.get("content", {}):
            yield f"{name} as {media_type}: was removed"
            continue
        changes = schemas.broken(content.get("schema", {}), new["content"][media_type].get("schema", {}), side)
        yield from (f"{name}: {change}" for change in changes)


def _security(old: Part, new: Part) -> Iterator[str]:
    """A caller must still be admitted with the same credentials."""
    alternatives = new.get("security", [])
    for credentials in old.get("security", []):
        if alternatives and not any(_suffices(credentials, each) for each in alternatives):
            yield f"security {' and '.join(sorted(credentials))}: does not suffice any more"


def _suffices(credentials: Part, needed: Part) -> bool:
    return all(name in credentials and set(scopes) <= set(credentials[name]) for name, scopes in needed.items())


def _schemes(old: Part, new: Part) -> Iterator[str]:
    after = new.get("components", {}).get("securitySchemes", {})
    for name, scheme in old.get("components", {}).get("securitySchemes", {}).items():
        if {**scheme, "description": ""} != {**after.get(name, {}), "description": ""}:
            yield f"security scheme {name}: was changed or removed"


# --- AsyncAPI


def _async_api(old: Part, new: Part) -> Iterator[str]:
    schemas = SchemaComparison(old=old, new=new)
    yield from _schemes(old, new)
    for name, server in old["servers"].items():
        if new["servers"].get(name, {}).get("protocol") != server["protocol"]:
            yield f"server {name}: was removed, or speaks another protocol"
    for name, channel in old["channels"].items():
        if name not in new["channels"]:
            yield f"channel {name}: was removed"
            continue
        yield from (f"channel {name}: {change}" for change in _channel(channel, new["channels"][name]))
    for name, operation in old["operations"].items():
        if name not in new["operations"]:
            yield f"operation {name}: was removed"
            continue
        changes = _message_operation(operation, new["operations"][name], schemas)
        yield from (f"operation {name}: {change}" for change in changes)


def _channel(old: Part, new: Part) -> Iterator[str]:
    if old.get("address") != new.get("address"):
        yield f"address was {old.get('address')}, is {new.get('address')}"
    before, after = (channel.get("bindings", {}).get("amqp", {}) for channel in (old, new))
    for member, value in before.items():
        if after.get(member) != value:
            yield f"binding {member}: was changed or removed"
    for name, parameter in old.get("parameters", {}).items():
        if lost := set(parameter.get("enum", ())) - set(new.get("parameters", {}).get(name, {}).get("enum", ())):
            yield f"parameter {name}: lost {', '.join(sorted(lost))}"


def _message_operation(old: Part, new: Part, schemas: SchemaComparison) -> Iterator[str]:
    for member in ("action", "channel"):
        if old[member] != new[member]:
            yield f"{member} was changed"
    if not set(_names(old.get("security"))) <= set(_names(new.get("security"))):
        yield "security: whoever had the right has it no more"
    side = Side.SENDERS if old["action"] == "receive" else Side.READERS
    yield from _messages(old, new, schemas, side)
    if "reply" not in old:
        return
    if "reply" not in new:
        yield "reply: was removed"
        return
    for member in ("channel", "address"):
        before, after = ({**operation["reply"].get(member, {}), "description": ""} for operation in (old, new))
        if before != after:
            yield f"reply {member}: was changed"
    if added := set(_names(new["reply"]["messages"])) - set(_names(old["reply"]["messages"])):
        yield f"reply: may now be {', '.join(sorted(added))}"
    yield from (f"reply {change}" for change in _messages(old["reply"], new["reply"], schemas, Side.READERS))


def _messages(old: Part, new: Part, schemas: SchemaComparison, side: Side) -> Iterator[str]:
    after = {_name(each): resolved(schemas.new, each) for each in new["messages"]}
    for reference in old["messages"]:
        name, message = _name(reference), resolved(schemas.old, reference)
        if name not in after:
            yield f"message {name}: was removed"
            continue
        for member in ("contentType", "correlationId", "bindings"):
            if message.get(member) != after[name].get(member):
                yield f"message {name}: {member} was changed"
        for member in ("headers", "payload"):
            changes = schemas.broken(message.get(member, {}), after[name].get(member, {}), side)
            yield from (f"message {name}: {member} {change}" for change in changes)


def _names(references: Any) -> list[str]:
    return [_name(each) for each in references or ()]


def _name(reference: Part) -> str:
    return str(reference["$ref"]).rpartition("/")[2]
