"""What each endpoint does.

A handler first checks, refusing what cannot be done, and then returns the work. The line between the two is Stripe's
own: a refusal before the work leaves no trace under the idempotency key, an answer to the work is kept.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from deploy.sandbox import errors, ids, objects, rules, schemas
from deploy.sandbox.parameters import METADATA_PAIRS, Hash, too_much_metadata
from deploy.sandbox.shelf import Json, Query
from deploy.sandbox.state import Account

Work = Callable[[], Json]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request after its parameters were read. ``cause`` names it in events, ``base_url`` is where it came to."""

    params: Json
    target: str
    base_url: str
    cause: Mapping[str, str | None]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """An endpoint: its name in the stats, its parameters, its handler."""

    name: str
    schema: Hash
    handle: Callable[[Account, Call], Work]


def create_session(account: Account, call: Call) -> Work:
    """``POST /v1/checkout/sessions``."""
    params, now = call.params, account.now()
    expand = _expansions(params, SESSION_EXPANSIONS)
    lines = rules.checked_lines(params, now)
    currency: str = lines[0]["currency"]
    total = sum(line["amount_total"] for line in lines)

    def work() -> Json:
        identifier = ids.session_id()
        url = f"{call.base_url}/c/pay/{identifier}#{ids.fragment()}"
        session = objects.session(params, identifier=identifier, url=url, created=now, currency=currency, total=total)
        account.add(session, line_items=lines, intent_data=params.get("payment_intent_data", {}))
        return _expanded_session(account, session, expand)

    return work


def retrieve_session(account: Account, call: Call) -> Work:
    """``GET /v1/checkout/sessions/{id}``."""
    expand = _expansions(call.params, SESSION_EXPANSIONS)
    return lambda: _expanded_session(account, account.session(call.target), expand)


def update_session(account: Account, call: Call) -> Work:
    """``POST /v1/checkout/sessions/{id}``: metadata is merged, an empty value unsets a key."""
    expand = _expansions(call.params, SESSION_EXPANSIONS)

    def work() -> Json:
        session = account.session(call.target)
        changes: dict[str, str] | None = call.params.get("metadata")
        if changes is not None:
            merged = {**session["metadata"], **changes} if changes else {}
            merged = {key: value for key, value in merged.items() if value}
            if len(merged) > METADATA_PAIRS:
                raise too_much_metadata("metadata")
            session = account.set_metadata(call.target, merged)
        return _expanded_session(account, session, expand)

    return work


def expire_session(account: Account, call: Call) -> Work:
    """``POST /v1/checkout/sessions/{id}/expire``."""
    expand = _expansions(call.params, SESSION_EXPANSIONS)
    return lambda: _expanded_session(account, account.expire(call.target, call.cause), expand)


def list_sessions(account: Account, call: Call) -> Work:
    """``GET /v1/checkout/sessions``."""
    params = call.params
    expand = _expansions(params, tuple(f"data.{name}" for name in SESSION_EXPANSIONS))
    inner = frozenset(name.removeprefix("data.") for name in expand)
    status = params.get("status")
    query = _query(params, groups=None if status is None else (status,), accepts=_session_filter(params))

    def work() -> Json:
        found, has_more = account.sessions.page(query)
        data = [_expanded_session(account, session, inner) for session in found]
        return objects.page("/v1/checkout/sessions", data, has_more=has_more)

    return work


def _session_filter(params: Json) -> Callable[[Json], bool] | None:
    intent = params.get("payment_intent")
    email = params.get("customer_details", {}).get("email")
    if intent is None and email is None:
        return None

    def accepts(session: Json) -> bool:
        known = (session["customer_details"] or {}).get("email")
        return (intent is None or session["payment_intent"] == intent) and (email is None or known == email)

    return accepts


def retrieve_intent(account: Account, call: Call) -> Work:
    """``GET /v1/payment_intents/{id}``."""
    _expansions(call.params, INTENT_EXPANSIONS)
    return lambda: account.intent(call.target)


def retrieve_event(account: Account, call: Call) -> Work:
    """``GET /v1/events/{id}``."""
    _expansions(call.params, ())

    def work() -> Json:
        event = account.events.get(call.target)
        if event is None:
            raise errors.no_such("event", call.target, "id")
        return event

    return work


def list_events(account: Account, call: Call) -> Work:
    """``GET /v1/events``: by ``type`` (``*`` stands for anything) or by up to 20 ``types``."""
    params = call.params
    _expansions(params, ())
    if "type" in params and "types" in params:
        message = "You may only specify one of these parameters: type, types."
        raise errors.invalid(message, "type", "parameters_exclusive")
    wanted = params.get("types", [params["type"]] if "type" in params else None)
    groups = None
    if wanted is not None:
        kinds = account.events.groups()
        groups = tuple(kind for kind in kinds if any(_matches(kind, pattern) for pattern in wanted))
    undelivered = params.get("delivery_success") is False
    query = _query(params, groups=() if undelivered else groups)

    def work() -> Json:
        found, has_more = account.events.page(query)
        return objects.page("/v1/events", found, has_more=has_more)

    return work


def _matches(kind: str, pattern: str) -> bool:
    return fnmatchcase(kind, pattern.replace("[", "[[]"))


def _query(params: Json, **narrowed: Any) -> Query:
    if "starting_after" in params and "ending_before" in params:
        message = "You may only specify one of these parameters: ending_before, starting_after."
        raise errors.invalid(message, "ending_before", "parameters_exclusive")
    names = ("limit", "starting_after", "ending_before", "created")
    return Query(**{name: params[name] for name in names if name in params}, **narrowed)


SESSION_EXPANSIONS = (
    "customer",
    "invoice",
    "line_items",
    "payment_intent",
    "payment_link",
    "setup_intent",
    "subscription",
)
INTENT_EXPANSIONS = ("customer", "payment_method", "latest_charge", "review", "on_behalf_of", "application")
_NOT_KEPT = frozenset({"payment_method", "latest_charge"})
"""The sandbox gives these ids and keeps no objects for them."""


def _expansions(params: Json, known: tuple[str, ...]) -> frozenset[str]:
    wanted = frozenset(params.get("expand", ()))
    for place, name in enumerate(params.get("expand", ())):
        param = f"expand[{place}]"
        if name in known and name.rpartition(".")[2] not in _NOT_KEPT:
            continue
        if name in known or name.rpartition(".")[0].removeprefix("data.") == "payment_intent":
            raise errors.unsupported(param)
        raise errors.invalid(f"This property cannot be expanded ({name}).", param)
    return wanted


def _expanded_session(account: Account, session: Json, expand: frozenset[str]) -> Json:
    if not expand:
        return session
    expanded = dict(session)
    if "line_items" in expand:
        lines = account.notes(session["id"]).line_items
        url = f"/v1/checkout/sessions/{session['id']}/line_items"
        expanded["line_items"] = objects.page(url, lines, has_more=False)
    if "payment_intent" in expand and session["payment_intent"] is not None:
        expanded["payment_intent"] = account.intent(session["payment_intent"])
    return expanded


ROUTES: dict[tuple[str, str], Operation] = {
    ("POST", "checkout/sessions"): Operation(
        name="checkout.sessions.create", schema=schemas.CREATE_SESSION, handle=create_session
    ),
    ("GET", "checkout/sessions"): Operation(
        name="checkout.sessions.list", schema=schemas.LIST_SESSIONS, handle=list_sessions
    ),
    ("GET", "checkout/sessions/{id}"): Operation(
        name="checkout.sessions.retrieve", schema=schemas.RETRIEVE, handle=retrieve_session
    ),
    ("POST", "checkout/sessions/{id}"): Operation(
        name="checkout.sessions.update", schema=schemas.UPDATE_SESSION, handle=update_session
    ),
    ("POST", "checkout/sessions/{id}/expire"): Operation(
        name="checkout.sessions.expire", schema=schemas.RETRIEVE, handle=expire_session
    ),
    ("GET", "payment_intents/{id}"): Operation(
        name="payment_intents.retrieve", schema=schemas.RETRIEVE_INTENT, handle=retrieve_intent
    ),
    ("GET", "events"): Operation(name="events.list", schema=schemas.LIST_EVENTS, handle=list_events),
    ("GET", "events/{id}"): Operation(name="events.retrieve", schema=schemas.RETRIEVE, handle=retrieve_event),
}
ENDPOINTS = frozenset(operation.name for operation in ROUTES.values())


def route(method: str, path: str) -> tuple[Operation, str] | None:
    """The endpoint of a path below ``/v1/`` and the id in it, or ``None``."""
    parts = path.split("/")
    root = 2 if parts[0] == "checkout" else 1
    target = parts[root] if len(parts) > root else ""
    if len(parts) > root:
        if not target:
            return None
        parts[root] = "{id}"
    operation = ROUTES.get((method, "/".join(parts)))
    return None if operation is None else (operation, target)
