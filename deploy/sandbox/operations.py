"""What each endpoint does.

A handler first checks, refusing what cannot be done, and then returns the work. The line between the two is Stripe's
own: a refusal before the work leaves no trace under the idempotency key, an answer to the work is kept.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from fnmatch import fnmatchcase
from typing import Any

from deploy.sandbox import errors, ids, money, objects, schemas
from deploy.sandbox.parameters import Hash, too_much_metadata
from deploy.sandbox.shelf import Json, Query
from deploy.sandbox.state import Account

SHORTEST_SECONDS, LONGEST_SECONDS = 30 * 60, 24 * 3600
"""How long a session may live, by the sandbox's clock (https://docs.stripe.com/api/checkout/sessions/create)."""

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
    _check_mode(params)
    _check_expiry(params, now)
    _check_methods(params)
    _check_intent_data(params)
    expand = _expansions(params, SESSION_EXPANSIONS)
    lines = [_line(wanted, place, now) for place, wanted in enumerate(params["line_items"])]
    currency: str = lines[0]["currency"]
    total = sum(line["amount_total"] for line in lines)
    _check_total(lines, currency, total)

    def work() -> Json:
        identifier = ids.session_id()
        url = f"{call.base_url}/c/pay/{identifier}#{ids.fragment()}"
        session = objects.session(params, identifier=identifier, url=url, created=now, currency=currency, total=total)
        account.add(session, line_items=lines, intent_data=params.get("payment_intent_data", {}))
        return _expanded_session(account, session, expand)

    return work


def _check_mode(params: Json) -> None:
    if params["mode"] != "payment":
        raise errors.unsupported("mode")
    if params.get("ui_mode", "hosted_page") != "hosted_page":
        raise errors.unsupported("ui_mode")
    if params.get("submit_type") == "subscribe":
        message = "You can not pass `submit_type=subscribe` in `payment` mode."
        raise errors.invalid(message, "submit_type")
    for name in ("line_items", "success_url"):
        if not params.get(name):
            raise errors.missing(name)


def _check_expiry(params: Json, now: int) -> None:
    if "expires_at" not in params:
        return
    lifetime = params["expires_at"] - now
    if lifetime < SHORTEST_SECONDS:
        message = "The `expires_at` timestamp must be at least 30 minutes from Checkout Session creation."
        raise errors.invalid(message, "expires_at")
    if lifetime > LONGEST_SECONDS:
        message = "The `expires_at` timestamp must be less than 24 hours from Checkout Session creation."
        raise errors.invalid(message, "expires_at")


def _check_methods(params: Json) -> None:
    """The account takes cards only; a filter that leaves none of them leaves nothing to pay with."""
    allowed = params.get("allowed_payment_method_types", ["card"])
    if "card" not in allowed or "card" in params.get("excluded_payment_method_types", []):
        message = (
            "No valid payment method types for this Checkout Session. Please ensure that you have activated payment "
            "methods compatible with your chosen currency in your dashboard "
            "(https://dashboard.stripe.com/settings/payment_methods) or specify compatible payment method types."
        )
        raise errors.invalid(message)


def _check_intent_data(params: Json) -> None:
    """Cards refuse the plain descriptor (https://docs.stripe.com/get-started/account/statement-descriptors)."""
    if "statement_descriptor" in params.get("payment_intent_data", {}):
        message = (
            "The `statement_descriptor` parameter is not supported for the `card` payment method type. If you want to "
            "customize the statement descriptor of card charges, use `statement_descriptor_suffix` instead."
        )
        raise errors.invalid(message, "payment_intent_data[statement_descriptor]")


def _line(wanted: Json, place: int, now: int) -> Json:
    param = f"line_items[{place}]"
    data = wanted.get("price_data")
    if data is None:
        raise errors.invalid("You must specify either `price` or `price_data` when creating a line item.", param)
    if "product_data" not in data:
        raise errors.missing(f"{param}[price_data][product_data]")
    if "quantity" not in wanted:
        raise errors.missing(f"{param}[quantity]")
    if wanted["quantity"] < 1:
        message = "This value must be greater than or equal to 1."
        raise errors.invalid(message, f"{param}[quantity]", "parameter_invalid_integer")
    currency = data["currency"].lower()
    if currency not in money.CURRENCIES:
        listed = ", ".join(sorted(money.CURRENCIES))
        message = f"Invalid currency: {data['currency']}. Stripe currently supports these currencies: {listed}"
        raise errors.invalid(message, f"{param}[price_data][currency]")
    unit = _unit_amount(data, f"{param}[price_data]")
    total = int((unit * wanted["quantity"]).quantize(Decimal(1), ROUND_HALF_UP))
    _check_step(total, currency, f"{param}[price_data][unit_amount]")
    return objects.line_item(wanted, created=now, currency=currency, unit_amount=unit, total=total)


def _unit_amount(data: Json, param: str) -> Decimal:
    if "unit_amount" in data and "unit_amount_decimal" in data:
        message = "You may only specify one of these parameters: unit_amount, unit_amount_decimal."
        raise errors.invalid(message, param, "parameters_exclusive")
    if "unit_amount" in data:
        return Decimal(data["unit_amount"])
    if "unit_amount_decimal" in data:
        return Decimal(data["unit_amount_decimal"])
    raise errors.missing(f"{param}[unit_amount]")


def _check_step(total: int, currency: str, param: str) -> None:
    step = money.step(currency)
    if total % step:
        message = f"Invalid integer: {total}; amounts in {currency} must be divisible by {step}"
        raise errors.invalid(message, param, "parameter_invalid_integer")


def _check_total(lines: list[Json], currency: str, total: int) -> None:
    if any(line["currency"] != currency for line in lines):
        message = "All prices on a Checkout Session must be expressed in the same currency."
        raise errors.invalid(message, "line_items")
    if 0 < total < money.minimum(currency):
        least = money.text(money.minimum(currency), currency)
        message = f"The Checkout Session's total amount due must add up to at least {least} {currency}"
        raise errors.invalid(message, code="amount_too_small")
    if total > money.MAXIMUM:
        most = money.text(money.MAXIMUM - money.MAXIMUM % money.step(currency), currency)
        message = f"The Checkout Session's total amount due must be no more than {most}."
        raise errors.invalid(message, code="amount_too_large")


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


METADATA_PAIRS = 50


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
