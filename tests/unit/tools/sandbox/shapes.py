"""Compares an answer with the SDK's types: no unknown member, no missing member, no wrong null."""

import sys
import typing
from decimal import Decimal
from typing import Any, get_args, get_origin

import stripe

LEFT_OUT: dict[str, frozenset[str]] = {
    # Members that Stripe omits when they do not apply (not nullable in its specification).
    "Session": frozenset(
        "line_items name_collection presentment_details redirect_on_completion return_url tax_id_collection"
        " allowed_payment_method_types excluded_payment_method_types".split()
    ),
    "PaymentIntent": frozenset(
        "allowed_payment_method_types excluded_payment_method_types hooks managed_payments payment_details"
        " payment_record presentment_details".split()
    ),
    # Errors name only what there is to say.
    "ErrorObject": frozenset(
        "advice_code charge code decline_code doc_url message network_advice_code network_decline_code param"
        " payment_intent payment_method payment_method_type request_log_url setup_intent source user_message".split()
    ),
    "LastPaymentError": frozenset(
        "advice_code charge decline_code network_advice_code network_decline_code param payment_intent"
        " payment_method_type request_log_url setup_intent source".split()
    ),
    "Event": frozenset({"account", "context"}),
    "Data": frozenset({"previous_attributes"}),
    "Price": frozenset({"currency_options", "deleted", "tiers"}),
    "AmountDetails": frozenset({"discount_amount", "error", "line_items", "shipping", "tax"}),
    "Tip": frozenset({"amount"}),
    "TotalDetails": frozenset({"breakdown"}),
    "Charge": frozenset("authorization_code level3 presentment_details refunds transfer".split()),
    "FraudDetails": frozenset({"stripe_report", "user_report"}),
    "Outcome": frozenset({"rule"}),
    "RadarOptions": frozenset({"session"}),
    "Refund": frozenset(
        "description failure_balance_transaction failure_reason instructions_email next_action pending_reason"
        " presentment_details".split()
    ),
    "Dispute": frozenset({"intended_submission_method"}),
    "Evidence": frozenset({"appeal"}),
    # Of an account of one's own, which is no platform's.
    "Account": frozenset("company deleted groups individual".split()),
    "BusinessProfile": frozenset(
        "minority_owned_business_designation monthly_estimated_revenue"
        " specified_commercial_transactions_act_url".split()
    ),
    "Controller": frozenset("fees is_controller losses requirement_collection stripe_dashboard".split()),
    "Settings": frozenset(
        "bacs_debit_payments card_issuing invoices payouts paypay_payments sepa_debit_payments treasury".split()
    ),
    "Payments": frozenset({"statement_descriptor_prefix_kana", "statement_descriptor_prefix_kanji"}),
    "TosAcceptance": frozenset({"service_agreement"}),
}
ONE_OF_MANY = frozenset(
    "Capabilities Card DestinationDetails EnhancedEligibility EnhancedEvidence NextAction PaymentMethod"
    " PaymentMethodDetails PaymentMethodOptions".split()
)
"""Classes with a member per payment method: only members that the sandbox sends are compared."""


def problems(value: Any, kind: type) -> list[str]:
    """Every way in which a decoded JSON value is not what the SDK's class declares."""
    return list(_object(value, kind, kind.__name__))


def _members(kind: type) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("stripe") and base.__name__ not in {"StripeObject", "UntypedStripeObject"}:
            members |= {name: (hint, base) for name, hint in vars(base).get("__annotations__", {}).items()}
    return {name: pair for name, pair in members.items() if not name.startswith("_") and name != "OBJECT_NAME"}


def _object(value: Any, kind: type, where: str) -> typing.Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where}: {value!r} is no {kind.__name__}"
        return
    members = _members(kind)
    for name in value.keys() - members.keys():
        yield f"{where}.{name}: unknown to {kind.__name__}"
    for name, (hint, base) in members.items():
        if name in value:
            yield from _value(value[name], _resolved(hint, base), f"{where}.{name}")
        elif kind.__name__ not in ONE_OF_MANY and name not in LEFT_OUT.get(kind.__name__, frozenset()):
            yield f"{where}.{name}: missing"


def _resolved(hint: Any, base: type) -> Any:
    names = {**vars(typing), **vars(stripe), **vars(stripe.checkout), **vars(sys.modules[base.__module__])}
    for name in dir(base):
        names.setdefault(name, getattr(base, name))
    while isinstance(hint, str | typing.ForwardRef):
        text = hint if isinstance(hint, str) else hint.__forward_arg__
        hint = getattr(stripe, text, None) or eval(text, names)  # noqa: S307 - the SDK's own annotations
    return hint


def _value(value: Any, hint: Any, where: str) -> typing.Iterator[str]:
    hint = _resolved(hint, stripe.StripeObject)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is typing.Union:
        yield from _union(value, arguments, where)
    elif origin is list and isinstance(value, list):
        for place, element in enumerate(value):
            yield from _value(element, arguments[0], f"{where}[{place}]")
    elif origin is stripe.ListObject:
        yield from _list(value, arguments[0], where)
    elif origin is None and isinstance(hint, type) and issubclass(hint, stripe.StripeObject):
        yield from _object(value, hint, where)
    elif not _is_plain(value, hint, origin, arguments):
        yield f"{where}: {value!r} is no {hint}"


def _is_plain(value: Any, hint: Any, origin: Any, arguments: tuple[Any, ...]) -> bool:
    if origin is typing.Literal:
        return value in arguments
    if isinstance(origin, type) and issubclass(origin, stripe.StripeObject):  # free-form, as metadata is
        return isinstance(value, dict)
    if hint is Decimal:
        return isinstance(value, str)
    return hint is Any or type(value) is hint


def _union(value: Any, options: tuple[Any, ...], where: str) -> typing.Iterator[str]:
    literals = [option for option in options if get_origin(option) is typing.Literal]
    if value is None:
        if type(None) not in options:
            yield f"{where}: null"
        return
    if isinstance(value, str) and literals:  # `Literal[...] | str`: the sandbox may say known words only
        yield from _value(value, literals[0], where)
        return
    if type(value) is str and str in options:  # an id; the classes that could stand there need not be known
        return
    if type(value) is str and str in options:  # an id; the classes that could stand there need not be known
        return
    tried = [list(_value(value, option, where)) for option in options if option is not type(None)]
    if all(tried):
        yield from min(tried, key=len)


def _list(value: Any, of: Any, where: str) -> typing.Iterator[str]:
    if not isinstance(value, dict) or set(value) != {"object", "url", "has_more", "data"}:
        yield f"{where}: no list object"
        return
    if value["object"] != "list" or type(value["has_more"]) is not bool or type(value["url"]) is not str:
        yield f"{where}: a list object with wrong members"
    for place, element in enumerate(value["data"]):
        yield from _value(element, of, f"{where}.data[{place}]")
