"""What each endpoint does.

A handler first validates the call and then returns the work. Stripe makes the same distinction: an error of the
validation leaves no trace under the idempotency key, an answer of the work is stored.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from tools.sandbox import account_object, ids, objects, parameter_schemas, session_rules, stripe_errors
from tools.sandbox.account import Account
from tools.sandbox.object_store import Json, Query
from tools.sandbox.parameters import METADATA_PAIRS, Hash, too_much_metadata

Work = Callable[[], Json]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request with parsed parameters. ``cause`` identifies it in events; ``base_url`` is the URL it was sent to."""

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
    params, now, settings = call.params, account.now(), account.faults.settings
    expand = _expansions(params, SESSION_EXPANSIONS)
    lines = session_rules.checked_lines(params, now, settings.settlement_currency)
    if settings.account_error:
        raise stripe_errors.account_not_set_up()
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
    """``POST /v1/checkout/sessions/{id}``: merges metadata; an empty value unsets a key."""
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
    groups: tuple[str, ...] | None = (params["status"],) if "status" in params else None
    only = account.session_of(params["payment_intent"]) if "payment_intent" in params else None
    if only is None and "payment_intent" in params:
        groups = ()
    query = _query(params, groups=groups, only=only, accepts=_session_filter(params))

    def work() -> Json:
        found, has_more = account.sessions.page(query)
        data = [_expanded_session(account, session, inner) for session in found]
        return objects.page("/v1/checkout/sessions", data, has_more=has_more)

    return work


def _session_filter(params: Json) -> Callable[[Json], bool] | None:
    email = params.get("customer_details", {}).get("email")
    return None if email is None else lambda session: (session["customer_details"] or {}).get("email") == email


def retrieve_intent(account: Account, call: Call) -> Work:
    """``GET /v1/payment_intents/{id}``."""
    expand = _expansions(call.params, INTENT_EXPANSIONS)
    return lambda: _expanded_intent(account, call.target, with_charge="latest_charge" in expand)


def retrieve_account(account: Account, call: Call) -> Work:
    """``GET /v1/account``: the account that the key belongs to."""
    _expansions(call.params, ())
    return lambda: account_object.described(account.id, account.faults.settings.settlement_currency)


def retrieve_event(account: Account, call: Call) -> Work:
    """``GET /v1/events/{id}``."""
    _expansions(call.params, ())

    def work() -> Json:
        event = account.events.get(call.target)
        if event is None:
            raise stripe_errors.no_such("event", call.target, "id")
        return event

    return work


def list_events(account: Account, call: Call) -> Work:
    """``GET /v1/events``: by ``type`` (with ``*`` as a wildcard) or by up to 20 ``types``."""
    params = call.params
    _expansions(params, ())
    if "type" in params and "types" in params:
        message = "You may only specify one of these parameters: type, types."
        raise stripe_errors.invalid(message, "type", "parameters_exclusive")
    wanted = params.get("types", [params["type"]] if "type" in params else None)
    groups = None
    if wanted is not None:
        kinds = account.events.groups()
        groups = tuple(kind for kind in kinds if any(_matches(kind, pattern) for pattern in wanted))
    undelivered = params.get("delivery_success") is False
    query = _query(params, groups=() if undelivered else groups, accepts=account.is_listed)

    def work() -> Json:
        found, has_more = account.events.page(query)
        return objects.page("/v1/events", found, has_more=has_more)

    return work


def _matches(kind: str, pattern: str) -> bool:
    return fnmatchcase(kind, pattern.replace("[", "[[]"))


def _query(params: Json, **narrowed: Any) -> Query:
    if "starting_after" in params and "ending_before" in params:
        message = "You may only specify one of these parameters: ending_before, starting_after."
        raise stripe_errors.invalid(message, "ending_before", "parameters_exclusive")
    names = ("limit", "starting_after", "ending_before", "created")
    return Query(**{name: params[name] for name in names if name in params}, **narrowed)


CHARGE_OF_SESSION = "payment_intent.latest_charge"
SESSION_EXPANSIONS = tuple(
    f"customer invoice line_items payment_intent payment_link setup_intent subscription {CHARGE_OF_SESSION}".split()
)
INTENT_EXPANSIONS = ("customer", "payment_method", "latest_charge", "review", "on_behalf_of", "application")
_NOT_KEPT = frozenset({"payment_method"})
"""The sandbox has ids but no objects of this type."""


def _expansions(params: Json, known: tuple[str, ...]) -> frozenset[str]:
    wanted = frozenset(params.get("expand", ()))
    for place, name in enumerate(params.get("expand", ())):
        param = f"expand[{place}]"
        if name in known and name.rpartition(".")[2] not in _NOT_KEPT:
            continue
        if name in known or name.rpartition(".")[0].removeprefix("data.") == "payment_intent":
            raise stripe_errors.unsupported(param)
        raise stripe_errors.invalid(f"This property cannot be expanded ({name}).", param)
    return wanted


def _expanded_session(account: Account, session: Json, expand: frozenset[str]) -> Json:
    if not expand:
        return session
    expanded = dict(session)
    if "line_items" in expand:
        lines = account.notes(session["id"]).line_items
        url = f"/v1/checkout/sessions/{session['id']}/line_items"
        expanded["line_items"] = objects.page(url, lines, has_more=False)
    with_charge = CHARGE_OF_SESSION in expand
    if ("payment_intent" in expand or with_charge) and session["payment_intent"] is not None:
        expanded["payment_intent"] = _expanded_intent(account, session["payment_intent"], with_charge=with_charge)
    return expanded


def _expanded_intent(account: Account, identifier: str, *, with_charge: bool) -> Json:
    intent = account.intent(identifier)
    if not with_charge or intent["latest_charge"] is None:
        return intent
    return {**intent, "latest_charge": account.charges[intent["latest_charge"]]}


_SESSIONS, _SESSION = "checkout/sessions", "checkout/sessions/{id}"
_ROUTES: tuple[tuple[str, str, str, Hash, Callable[[Account, Call], Work]], ...] = (
    ("POST", _SESSIONS, "checkout.sessions.create", parameter_schemas.CREATE_SESSION, create_session),
    ("GET", _SESSIONS, "checkout.sessions.list", parameter_schemas.LIST_SESSIONS, list_sessions),
    ("GET", _SESSION, "checkout.sessions.retrieve", parameter_schemas.RETRIEVE, retrieve_session),
    ("POST", _SESSION, "checkout.sessions.update", parameter_schemas.UPDATE_SESSION, update_session),
    ("POST", f"{_SESSION}/expire", "checkout.sessions.expire", parameter_schemas.RETRIEVE, expire_session),
    ("GET", "payment_intents/{id}", "payment_intents.retrieve", parameter_schemas.RETRIEVE_INTENT, retrieve_intent),
    ("GET", "account", "account.retrieve", parameter_schemas.RETRIEVE, retrieve_account),
    ("GET", "events", "events.list", parameter_schemas.LIST_EVENTS, list_events),
    ("GET", "events/{id}", "events.retrieve", parameter_schemas.RETRIEVE, retrieve_event),
)
ROUTES = {
    (method, path): Operation(name=name, schema=schema, handle=handle) for method, path, name, schema, handle in _ROUTES
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
