"""The account object as Stripe sends it (https://docs.stripe.com/api/accounts/object)."""

from tools.sandbox import objects
from tools.sandbox.object_store import Json

_NULL_IN_PROFILE = (
    "annual_revenue estimated_worker_count product_description support_address support_email support_phone support_url"
    " url"
).split()
_NOTHING_DUE = "alternatives currently_due errors eventually_due past_due pending_verification".split()


def described(identifier: str, currency: str) -> Json:
    """The account that a key belongs to: standard, and able to charge cards."""
    nothing_due: Json = {
        **{name: [] for name in _NOTHING_DUE},
        **dict.fromkeys(("current_deadline", "disabled_reason")),
    }
    return {
        "id": identifier,
        "object": "account",
        "business_profile": {**dict.fromkeys(_NULL_IN_PROFILE), "mcc": "7922", "name": objects.MERCHANT},
        "business_type": "company",
        "capabilities": {"card_payments": "active", "transfers": "active"},
        "charges_enabled": True,
        "controller": {"type": "account"},
        "country": "IN",
        "created": 1_700_000_000,
        "default_currency": currency,
        "details_submitted": True,
        "email": "owner@example.com",
        "external_accounts": objects.page(f"/v1/accounts/{identifier}/external_accounts", [], has_more=False),
        "future_requirements": nothing_due,
        "metadata": {},
        "payouts_enabled": True,
        "requirements": nothing_due,
        "settings": {
            "branding": dict.fromkeys(("icon", "logo", "primary_color", "secondary_color")),
            "card_payments": {
                "decline_on": {"avs_failure": False, "cvc_failure": False},
                **dict.fromkeys(f"statement_descriptor_prefix{kind}" for kind in ("", "_kana", "_kanji")),
            },
            "dashboard": {"display_name": objects.MERCHANT, "timezone": "Asia/Kolkata"},
            "payments": {
                "statement_descriptor": "BOOKTICKET",
                **dict.fromkeys(("statement_descriptor_kana", "statement_descriptor_kanji")),
            },
        },
        "tos_acceptance": {"date": None, "ip": None, "user_agent": None},
        "type": "standard",
    }
