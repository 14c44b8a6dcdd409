"""The rules of a new Checkout Session beyond the types of its parameters: times, methods, lines and amounts."""

from decimal import ROUND_HALF_UP, Decimal

from tools.sandbox import amounts, objects, stripe_errors
from tools.sandbox.object_store import Json

SHORTEST_SECONDS, LONGEST_SECONDS = 30 * 60, 24 * 3600
"""The bounds of a session's lifetime (https://docs.stripe.com/api/checkout/sessions/create)."""


def checked_lines(params: Json, now: int, settlement: str) -> list[Json]:
    """The line items of a valid session at this time (unix seconds); ``ApiError`` for an invalid one.

    ``settlement`` is the currency of the account's bank.
    """
    _check_mode(params)
    _check_expiry(params, now)
    _check_methods(params)
    _check_intent_data(params)
    lines = [_line(wanted, place, now) for place, wanted in enumerate(params["line_items"])]
    _check_total(lines, settlement, cards_only=params.get("allowed_payment_method_types") == ["card"])
    return lines


def _check_mode(params: Json) -> None:
    if params["mode"] != "payment":
        raise stripe_errors.unsupported("mode")
    if params.get("ui_mode", "hosted_page") != "hosted_page":
        raise stripe_errors.unsupported("ui_mode")
    if params.get("submit_type") == "subscribe":
        message = "You can not pass `submit_type=subscribe` in `payment` mode."
        raise stripe_errors.invalid(message, "submit_type")
    for name in ("line_items", "success_url"):
        if not params.get(name):
            raise stripe_errors.missing(name)


def _check_expiry(params: Json, now: int) -> None:
    if "expires_at" not in params:
        return
    lifetime = params["expires_at"] - now
    if lifetime < SHORTEST_SECONDS:
        message = "The `expires_at` timestamp must be at least 30 minutes from Checkout Session creation."
        raise stripe_errors.invalid(message, "expires_at")
    if lifetime > LONGEST_SECONDS:
        message = "The `expires_at` timestamp must be less than 24 hours from Checkout Session creation."
        raise stripe_errors.invalid(message, "expires_at")


def _check_methods(params: Json) -> None:
    """The account accepts only cards, so a filter must not exclude them."""
    allowed = params.get("allowed_payment_method_types", ["card"])
    if "card" not in allowed or "card" in params.get("excluded_payment_method_types", []):
        message = (
            "No valid payment method types for this Checkout Session. Please ensure that you have activated payment "
            "methods compatible with your chosen currency in your dashboard "
            "(https://dashboard.stripe.com/settings/payment_methods) or specify compatible payment method types."
        )
        raise stripe_errors.invalid(message)


def _check_intent_data(params: Json) -> None:
    """Cards refuse the plain descriptor (https://docs.stripe.com/get-started/account/statement-descriptors)."""
    if "statement_descriptor" in params.get("payment_intent_data", {}):
        message = (
            "The `statement_descriptor` parameter is not supported for the `card` payment method type. If you want to "
            "customize the statement descriptor of card charges, use `statement_descriptor_suffix` instead."
        )
        raise stripe_errors.invalid(message, "payment_intent_data[statement_descriptor]")


def _line(wanted: Json, place: int, now: int) -> Json:
    param = f"line_items[{place}]"
    data = wanted.get("price_data")
    if data is None:
        raise stripe_errors.invalid("You must specify either `price` or `price_data` when creating a line item.", param)
    if "product_data" not in data:
        raise stripe_errors.missing(f"{param}[price_data][product_data]")
    if "quantity" not in wanted:
        raise stripe_errors.missing(f"{param}[quantity]")
    if wanted["quantity"] < 1:
        message = "This value must be greater than or equal to 1."
        raise stripe_errors.invalid(message, f"{param}[quantity]", "parameter_invalid_integer")
    currency = data["currency"].lower()
    if currency not in amounts.CURRENCIES:
        listed = ", ".join(sorted(amounts.CURRENCIES))
        message = f"Invalid currency: {data['currency']}. Stripe currently supports these currencies: {listed}"
        raise stripe_errors.invalid(message, f"{param}[price_data][currency]")
    unit = _unit_amount(data, f"{param}[price_data]")
    total = int((unit * wanted["quantity"]).quantize(Decimal(1), ROUND_HALF_UP))
    _check_step(total, currency, f"{param}[price_data][unit_amount]")
    return objects.line_item(wanted, created=now, currency=currency, unit_amount=unit, total=total)


def _unit_amount(data: Json, param: str) -> Decimal:
    if "unit_amount" in data and "unit_amount_decimal" in data:
        message = "You may only specify one of these parameters: unit_amount, unit_amount_decimal."
        raise stripe_errors.invalid(message, param, "parameters_exclusive")
    if "unit_amount" in data:
        return Decimal(data["unit_amount"])
    if "unit_amount_decimal" in data:
        return Decimal(data["unit_amount_decimal"])
    raise stripe_errors.missing(f"{param}[unit_amount]")


def _check_step(total: int, currency: str, param: str) -> None:
    step = amounts.step(currency)
    if total % step:
        message = f"Invalid integer: {total}; amounts in {currency} must be divisible by {step}"
        raise stripe_errors.invalid(message, param, "parameter_invalid_integer")


def _check_total(lines: list[Json], settlement: str, *, cards_only: bool) -> None:
    currency, total = lines[0]["currency"], sum(line["amount_total"] for line in lines)
    if any(line["currency"] != currency for line in lines):
        message = "All prices on a Checkout Session must be expressed in the same currency."
        raise stripe_errors.invalid(message, "line_items")
    if total:
        _check_minimum(total, currency, settlement)
    if total > (maximum := amounts.maximum(currency, cards_only=cards_only)):
        most = amounts.text(maximum, currency)
        message = f"The Checkout Session's total amount due must be no more than {most}."
        raise stripe_errors.invalid(message, code="amount_too_large")


def _check_minimum(total: int, currency: str, settlement: str) -> None:
    """The minimum holds in the settlement currency; both sentences are as observed."""
    value = amounts.converted(total, currency, settlement)
    if value >= amounts.MINIMUM[settlement]:
        return
    if currency == settlement:
        floor = amounts.text(amounts.MINIMUM[settlement], settlement)
        message = f"The Checkout Session's total amount due must add up to at least {floor} {settlement}"
    else:
        shown, about = amounts.text(total, currency), amounts.text(value, settlement)
        message = (
            f"The Checkout Session's total amount must convert to at least {amounts.least(settlement)}. {shown} "
            f"converts to approximately {about}."
        )
    raise stripe_errors.invalid(message, code="amount_too_small")
