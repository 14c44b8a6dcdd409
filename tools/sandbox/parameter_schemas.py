"""The parameters of each endpoint, as data.

Source: Stripe's API reference for version 2026-10-28.endive. A parameter that is missing here is unknown to Stripe too
(for example ``payment_method_types`` of a Checkout Session, which endive removed). ``Unsupported`` and
``Flag(on=False)`` mark what Stripe supports and the sandbox does not.
"""

from tools.sandbox.parameters import (
    Email,
    Flag,
    Fraction,
    Hash,
    Items,
    Kind,
    Metadata,
    Reference,
    Text,
    Unsupported,
    Url,
    Whole,
)

LOCALES = (
    "auto bg cs da de el en en-GB es es-419 et fi fil fr fr-CA hi-IN hr hu id it ja ko lt lv ms mt nb nl pl pt pt-BR"
    " ro ru sk sl sv th tr vi zh zh-HK zh-TW"
)
PAYMENT_METHODS = (
    "acss_debit affirm afterpay_clearpay alipay alma amazon_pay au_becs_debit bacs_debit bancontact billie bizum blik"
    " boleto card cashapp crypto customer_balance eps fpx giropay grabpay ideal kakao_pay klarna konbini kr_card link"
    " mb_way mobilepay multibanco naver_pay nz_bank_account oxxo p24 pay_by_bank payco paynow paypal paypay payto pix"
    " promptpay revolut_pay samsung_pay satispay scalapay sepa_debit sequra sofort sunbit swish twint upi"
    " us_bank_account wechat_pay zip"
)


def _one_of(words: str) -> Text:
    return Text(choices=tuple(words.split()))


def _switch(*, on: bool) -> Hash:
    return Hash(fields={"enabled": Flag(on=on)}, required=("enabled",))


EXPAND = Items(of=Text(), most=20)
METHODS = Items(of=_one_of(PAYMENT_METHODS), most=100)
METADATA = Metadata()

PRODUCT_DATA = Hash(
    fields={
        "name": Text(),
        "description": Text(most=40000),
        "images": Items(of=Url(), most=8),
        "metadata": METADATA,
        "tax_code": Text(),
        "tax_details": Unsupported(),
        "unit_label": Text(most=12),
    },
    required=("name",),
)
PRICE_DATA = Hash(
    fields={
        "currency": Text(),
        "product": Reference(resource="product"),
        "product_data": PRODUCT_DATA,
        "recurring": Unsupported(),
        "tax_behavior": _one_of("exclusive inclusive unspecified"),
        "unit_amount": Whole(),
        "unit_amount_decimal": Fraction(),
    },
    required=("currency",),
)
LINE_ITEM = Hash(
    fields={
        "adjustable_quantity": _switch(on=False),
        "metadata": METADATA,
        "price": Reference(resource="price"),
        "price_data": PRICE_DATA,
        "quantity": Whole(most=999_999),
        "tax_rates": Items(of=Reference(resource="tax rate"), most=5),
    }
)
PAYMENT_INTENT_DATA = Hash(
    fields={
        "application_fee_amount": Unsupported(),
        "capture_method": _one_of("automatic automatic_async manual"),
        "description": Text(most=1000),
        "metadata": METADATA,
        "on_behalf_of": Reference(resource="account"),
        "receipt_email": Email(),
        "setup_future_usage": _one_of("off_session on_session"),
        "shipping": Unsupported(),
        "statement_descriptor": Text(most=22),
        "statement_descriptor_suffix": Text(most=22),
        "transfer_data": Unsupported(),
        "transfer_group": Text(),
    }
)
CARD_OPTIONS = Hash(
    fields={
        "capture_method": _one_of("manual"),
        "installments": _switch(on=False),
        **dict.fromkeys(
            "request_extended_authorization request_incremental_authorization request_multicapture"
            " request_overcapture".split(),
            _one_of("if_available never"),
        ),
        "request_three_d_secure": _one_of("any automatic challenge"),
        "restrictions": Unsupported(),
        "setup_future_usage": _one_of("off_session on_session"),
        "statement_descriptor_suffix_kana": Text(most=22),
        "statement_descriptor_suffix_kanji": Text(most=17),
    }
)

_SUPPORTED: dict[str, Kind] = {
    "adaptive_pricing": Hash(fields={"enabled": Flag()}),
    "allow_promotion_codes": Flag(on=False),
    "allowed_payment_method_types": METHODS,
    "automatic_tax": Hash(fields={"enabled": Flag(on=False), "liability": Unsupported()}, required=("enabled",)),
    "billing_address_collection": _one_of("auto required"),
    "cancel_url": Url(),
    "client_reference_id": Text(most=200),
    "customer": Reference(resource="customer"),
    "customer_account": Reference(resource="account"),
    "customer_creation": _one_of("always if_required"),
    "customer_email": Email(),
    "discounts": Items(of=Unsupported(), most=1),
    "excluded_payment_method_types": METHODS,
    "expand": EXPAND,
    "expires_at": Whole(),
    "integration_identifier": Text(most=500),
    "invoice_creation": Hash(fields={"enabled": Flag(on=False), "invoice_data": Unsupported()}, required=("enabled",)),
    "line_items": Items(of=LINE_ITEM, most=100),
    "locale": _one_of(LOCALES),
    "managed_payments": Hash(fields={"enabled": Flag(on=False)}),
    "metadata": METADATA,
    "mode": _one_of("payment setup subscription"),
    "origin_context": _one_of("mobile_app web"),
    "payment_intent_data": PAYMENT_INTENT_DATA,
    "payment_method_options": Hash(
        fields={**dict.fromkeys(PAYMENT_METHODS.split(), Unsupported()), "card": CARD_OPTIONS}
    ),
    "phone_number_collection": _switch(on=False),
    "submit_type": _one_of("auto book donate pay subscribe"),
    "success_url": Url(),
    "tax_id_collection": Hash(
        fields={"enabled": Flag(on=False), "required": _one_of("if_supported never")}, required=("enabled",)
    ),
    "ui_mode": _one_of("elements embedded_page form hosted_page"),
    "wallet_options": Hash(fields={"link": Hash(fields={"display": _one_of("auto never")})}),
}
_NOT_PLAYED = (
    "after_expiration branding_settings consent_collection custom_fields custom_text customer_update name_collection"
    " optional_items payment_method_collection payment_method_configuration payment_method_data permissions"
    " redirect_on_completion return_url saved_payment_method_options setup_intent_data shipping_address_collection"
    " shipping_options subscription_data"
)
CREATE_SESSION = Hash(fields={**_SUPPORTED, **dict.fromkeys(_NOT_PLAYED.split(), Unsupported())}, required=("mode",))
UPDATE_SESSION = Hash(
    fields={
        **dict.fromkeys("collected_information line_items payment_intent_data shipping_options".split(), Unsupported()),
        "expand": EXPAND,
        "metadata": METADATA,
    }
)
RETRIEVE = Hash(fields={"expand": EXPAND})
RETRIEVE_INTENT = Hash(fields={"client_secret": Text(), "expand": EXPAND})

_PAGE: dict[str, Kind] = {
    "created": Hash(fields=dict.fromkeys(("gt", "gte", "lt", "lte"), Whole()), scalar=Whole()),
    "ending_before": Text(),
    "expand": EXPAND,
    "limit": Whole(least=1, most=100),
    "starting_after": Text(),
}
LIST_SESSIONS = Hash(
    fields={
        **_PAGE,
        "customer": Reference(resource="customer"),
        "customer_account": Reference(resource="account"),
        "customer_details": Hash(fields={"email": Text(most=800)}, required=("email",)),
        "payment_intent": Text(),
        "payment_link": Reference(resource="payment_link"),
        "status": _one_of("complete expired open"),
        "subscription": Reference(resource="subscription"),
    }
)
LIST_EVENTS = Hash(fields={**_PAGE, "delivery_success": Flag(), "type": Text(), "types": Items(of=Text(), most=20)})
