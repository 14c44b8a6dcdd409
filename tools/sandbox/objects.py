"""Stripe's objects as Stripe sends them (version 2026-10-28.endive).

Every member of Stripe's type is present, as ``null`` when it is empty, except those that Stripe omits when they do not
apply: ``line_items`` (until expanded), ``name_collection``,
``presentment_details``, ``redirect_on_completion``, ``return_url``, ``tax_id_collection`` and the two
``..._payment_method_types`` filters of a session, and their like on a PaymentIntent. Source: the field lists of
https://docs.stripe.com/api/checkout/sessions/object and the SDK's types.

Bodies are immutable: a change makes a new one, so that an event keeps the old state.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tools.sandbox import ids
from tools.sandbox.cards import Card, Decline
from tools.sandbox.object_store import Json

API_VERSION = "2026-10-28.endive"
MERCHANT = "BookTicket (sandbox)"
METHODS_CONFIGURATION = "pmc_1SandboxBookTicketDefau"
_ECHOED = (
    "billing_address_collection cancel_url client_reference_id customer_creation customer_email"
    " integration_identifier locale origin_context submit_type success_url wallet_options"
).split()
_NULL_IN_SESSION = (
    "after_expiration allow_promotion_codes client_secret collected_information consent consent_collection"
    " currency_conversion customer customer_account invoice optional_items payment_intent payment_link permissions"
    " recovered_from saved_payment_method_options setup_intent shipping_address_collection shipping_cost subscription"
).split()
_NULL_IN_INTENT = (
    "application application_fee_amount canceled_at cancellation_reason customer customer_account last_payment_error"
    " latest_charge next_action on_behalf_of payment_method processing review shipping source transfer_data"
).split()


def session(params: Json, *, identifier: str, url: str, created: int, currency: str, total: int) -> Json:
    """A new Checkout Session. ``total`` is in minor units."""
    email = params.get("customer_email")
    body: Json = {
        **_FRESH_SESSION,
        "id": identifier,
        **{name: params[name] for name in _ECHOED if name in params},
        "amount_subtotal": total,
        "amount_total": total,
        "created": created,
        "currency": currency,
        "customer_details": None if email is None else customer_details(email=email, name=None),
        "expires_at": params.get("expires_at", created + 24 * 3600),
        "metadata": {key: value for key, value in params.get("metadata", {}).items() if value},
        "mode": params["mode"],
        "url": url,
    }
    if params.get("adaptive_pricing", {}).get("enabled"):
        body["adaptive_pricing"] = {"enabled": True}
    if "payment_method_options" in params:
        body["payment_method_options"] = {"card": card_options(params)}
    if not total:
        body["payment_status"] = "no_payment_required"
    for name in ("allowed_payment_method_types", "excluded_payment_method_types"):
        if name in params:
            body[name] = params[name]
    return body


_CARD_OPTIONS: Json = {"request_three_d_secure": "automatic"}
_FRESH_SESSION: Json = {
    "id": None,
    "object": "checkout.session",
    **dict.fromkeys(_NULL_IN_SESSION),
    **dict.fromkeys(_ECHOED),
    "adaptive_pricing": {"enabled": False},
    "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
    "branding_settings": {
        "background_color": "#ffffff",
        "border_style": "rounded",
        "button_color": "#4338ca",
        "display_name": MERCHANT,
        "font_family": "default",
        "icon": None,
        "logo": None,
    },
    "custom_fields": [],
    "custom_text": dict.fromkeys(("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")),
    "customer_creation": "if_required",
    "discounts": [],
    "invoice_creation": {
        "enabled": False,
        "invoice_data": {
            **dict.fromkeys("account_tax_ids custom_fields description footer issuer rendering_options".split()),
            "metadata": {},
        },
    },
    "livemode": False,
    "managed_payments": {"enabled": False},
    "payment_method_collection": "if_required",
    "payment_method_configuration_details": {"id": METHODS_CONFIGURATION, "parent": None},
    "payment_method_options": {"card": _CARD_OPTIONS},
    "payment_method_types": ["card"],
    "payment_status": "unpaid",
    "phone_number_collection": {"enabled": False},
    "shipping_options": [],
    "status": "open",
    "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
    "ui_mode": "hosted_page",
}
"""What sessions have in common, built once, because building it each time took a third of a create."""


def card_options(params: Json) -> Json:
    """``payment_method_options.card``: the request's, else Stripe's default."""
    return {**_CARD_OPTIONS, **params.get("payment_method_options", {}).get("card", {})}


def customer_details(*, email: str | None, name: str | None, given: Json | None = None) -> Json:
    """The payer; the page collects only the country of the address, unless it is to ask for more (`given`)."""
    nothing: Json = dict.fromkeys(("address", "business_name", "individual_name", "phone", "tax_ids"))
    paid = {} if name is None else {"address": address(given), "tax_ids": []}
    return {**nothing, **paid, "email": email, "name": name, "tax_exempt": "none"}


def address(given: Json | None = None) -> Json:
    """An address with what is given of it, else with only a country."""
    return {**dict.fromkeys(("city", "line1", "line2", "postal_code", "state")), "country": "IN", **(given or {})}


def line_item(wanted: Json, *, created: int, currency: str, unit_amount: Decimal, total: int) -> Json:
    """One line of a session, with the price that Stripe creates for it."""
    data: Json = wanted["price_data"]
    product: Json = data["product_data"]
    whole = unit_amount == unit_amount.to_integral_value()
    return {
        "id": f"li_1{ids.token(23)}",
        "object": "item",
        "adjustable_quantity": None,
        "amount_discount": 0,
        "amount_subtotal": total,
        "amount_tax": 0,
        "amount_total": total,
        "currency": currency,
        "description": product["name"],
        "discounts": [],
        "metadata": wanted.get("metadata", {}),
        "price": {
            "id": f"price_1{ids.token(23)}",
            "object": "price",
            "active": False,
            "billing_scheme": "per_unit",
            "created": created,
            "currency": currency,
            "custom_unit_amount": None,
            "livemode": False,
            "lookup_key": None,
            "metadata": {},
            "nickname": None,
            "product": ids.short_id("prod"),
            "recurring": None,
            "tax_behavior": data.get("tax_behavior", "unspecified"),
            "tiers_mode": None,
            "transform_quantity": None,
            "type": "one_time",
            "unit_amount": int(unit_amount) if whole else None,
            "unit_amount_decimal": format(
                unit_amount.normalize() if not whole else unit_amount.to_integral_value(), "f"
            ),
        },
        "quantity": wanted["quantity"],
        "taxes": [],
    }


def payment_intent(owner: Json, data: Json, created: int) -> Json:
    """The PaymentIntent that a session creates at the first attempt to pay.

    The session's metadata is not copied; ``payment_intent_data`` (here ``data``) sets the PaymentIntent's own
    (https://docs.stripe.com/metadata).
    """
    identifier = ids.object_id("pi")
    card = owner["payment_method_options"]["card"]
    names = "description receipt_email setup_future_usage statement_descriptor statement_descriptor_suffix"
    return {
        "id": identifier,
        "object": "payment_intent",
        **dict.fromkeys(_NULL_IN_INTENT),
        **{name: data.get(name) for name in (*names.split(), "transfer_group")},
        "amount": owner["amount_total"],
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "automatic_payment_methods": None,
        "capture_method": data.get("capture_method", "automatic_async"),
        "client_secret": ids.client_secret(identifier),
        "confirmation_method": "automatic",
        "created": created,
        "currency": owner["currency"],
        "livemode": False,
        "metadata": {key: value for key, value in data.get("metadata", {}).items() if value},
        "payment_method_configuration_details": owner["payment_method_configuration_details"],
        "payment_method_options": {"card": {"installments": None, "mandate_options": None, "network": None, **card}},
        "payment_method_types": ["card"],
        "status": "requires_payment_method",
    }


def payment_error(decline: Decline, method: Json, charge: str | None) -> Json:
    """``last_payment_error`` of a PaymentIntent; without a charge if the attempt ended before there was one."""
    error: Json = {
        "code": decline.code,
        "doc_url": f"https://stripe.com/docs/error-codes/{decline.code.replace('_', '-')}",
        "message": decline.message,
        "payment_method": method,
        "type": "card_error",
    }
    if charge is None:
        return {**error, "type": "invalid_request_error"}
    if decline.decline_code is not None:
        error |= {"decline_code": decline.decline_code, "advice_code": "try_again_later"}
    return {**error, "charge": charge}


def payment_method(card: Card, details: Json, *, created: int) -> Json:
    """The card of an attempt, with only the last four digits of its number."""
    return {
        "id": ids.object_id("pm"),
        "object": "payment_method",
        "allow_redisplay": "limited",
        "billing_details": billing_details(details),
        "card": {
            "brand": card.brand,
            "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
            "country": "US",
            "display_brand": {"amex": "american_express"}.get(card.brand, card.brand),
            "exp_month": 12,
            "exp_year": 2034,
            "fingerprint": ids.token(16),
            "funding": "credit",
            "generated_from": None,
            "last4": card.number[-4:],
            "networks": {"available": [card.brand], "preferred": None},
            "regulated_status": "unregulated",
            "three_d_secure_usage": {"supported": True},
            "wallet": None,
        },
        "created": created,
        "customer": None,
        "customer_account": None,
        "livemode": False,
        "metadata": {},
        "type": "card",
    }


def billing_details(payer: Json) -> Json:
    """The payer's details as a payment method has them."""
    known = {name: payer.get(name) for name in ("email", "name")}
    return {"address": address(payer.get("address")), **known, "phone": None, "tax_id": None}


def event(
    kind: str,
    subject: Json,
    *,
    created: int,
    cause: Mapping[str, str | None] | None = None,
    previous: Json | None = None,
) -> Json:
    """An event with the current state of the object.

    ``cause`` is the request, if one caused it; ``previous`` has the old values of the members that an update changed.
    """
    return {
        "id": ids.object_id("evt"),
        "object": "event",
        "api_version": API_VERSION,
        "created": created,
        "data": {"object": subject} if previous is None else {"object": subject, "previous_attributes": previous},
        "livemode": False,
        "pending_webhooks": 0,
        "request": {"id": None, "idempotency_key": None, **(cause or {})},
        "type": kind,
    }


def page(url: str, data: list[Json], *, has_more: bool) -> dict[str, Any]:
    """Stripe's list envelope."""
    return {"object": "list", "data": data, "has_more": has_more, "url": url}
