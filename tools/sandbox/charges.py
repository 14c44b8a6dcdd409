"""What follows a PaymentIntent, as Stripe sends it: charges, refunds, disputes.

Source: the field lists of https://docs.stripe.com/api/charges/object, /refunds/object and /disputes/object, and the
SDK's types. A charge has a copy of its PaymentIntent's metadata (https://docs.stripe.com/metadata); refunds and
disputes have metadata of their own, which is empty.
"""

from tools.sandbox import ids
from tools.sandbox.cards import Decline
from tools.sandbox.object_store import Json
from tools.sandbox.objects import MERCHANT

DISPUTE_FEE = 1500
"""Minor units; what Stripe charges differs by country."""
EVIDENCE_SECONDS = 9 * 24 * 3600

_NULL_IN_CHARGE = (
    "application application_fee application_fee_amount customer failure_balance_transaction failure_code"
    " failure_message on_behalf_of receipt_number review shipping source source_transfer transfer_data"
).split()
_NULL_IN_REFUND = "customer customer_account receipt_number source_transfer_reversal transfer_reversal".split()
_EVIDENCE = (
    "access_activity_log billing_address cancellation_policy cancellation_policy_disclosure cancellation_rebuttal"
    " customer_communication customer_email_address customer_name customer_purchase_ip customer_signature"
    " duplicate_charge_documentation duplicate_charge_explanation duplicate_charge_id product_description receipt"
    " refund_policy refund_policy_disclosure refund_refusal_explanation service_date service_documentation"
    " shipping_address shipping_carrier shipping_date shipping_documentation shipping_tracking_number"
    " uncategorized_file uncategorized_text"
).split()


def charge(intent: Json, method: Json, *, created: int, failure: Decline | None = None) -> Json:
    """One attempt to take the money of a PaymentIntent; ``method`` is its payment method."""
    identifier, taken = ids.object_id("ch"), failure is None
    descriptor = intent["statement_descriptor_suffix"]
    return {
        "id": identifier,
        "object": "charge",
        **dict.fromkeys(_NULL_IN_CHARGE),
        "amount": intent["amount"],
        "amount_captured": intent["amount"] if taken and intent["capture_method"] != "manual" else 0,
        "amount_refunded": 0,
        "balance_transaction": ids.object_id("txn") if taken else None,
        "billing_details": method["billing_details"],
        "calculated_statement_descriptor": f"BOOKTICKET* {descriptor}" if descriptor else "BOOKTICKET",
        "captured": taken and intent["capture_method"] != "manual",
        "created": created,
        "currency": intent["currency"],
        "description": intent["description"],
        "disputed": False,
        "failure_code": None if failure is None else failure.code,
        "failure_message": None if failure is None else failure.message,
        "fraud_details": {},
        "livemode": False,
        "metadata": intent["metadata"],
        "outcome": _outcome(failure),
        "paid": taken,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": _details(method, intent),
        "radar_options": {},
        "receipt_email": intent["receipt_email"],
        "receipt_url": f"https://pay.stripe.com/receipts/{identifier}" if taken else None,
        "refunded": False,
        "statement_descriptor": intent["statement_descriptor"],
        "statement_descriptor_suffix": descriptor,
        "status": "succeeded" if taken else "failed",
        "transfer_group": intent["transfer_group"],
    }


def _outcome(failure: Decline | None) -> Json:
    declined = failure is not None
    return {
        "advice_code": "try_again_later" if declined else None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": "declined_by_network" if declined else "approved_by_network",
        "reason": None if failure is None else failure.decline_code,
        "risk_level": "normal",
        "risk_score": 20,
        "seller_message": "The bank did not return any further details." if declined else "Payment complete.",
        "type": "issuer_declined" if declined else "authorized",
    }


def _details(method: Json, intent: Json) -> Json:
    kind: str = method["type"]
    if kind != "card":
        known = {name: method[kind][name] for name in "bank_code branch_code country fingerprint last4".split()}
        return {"type": kind, kind: {**known, "expected_debit_date": None, "mandate": None}}
    card = method["card"]
    copied = "brand checks country exp_month exp_year fingerprint funding last4 regulated_status wallet".split()
    details: Json = {
        **{name: card[name] for name in copied},
        "amount_authorized": intent["amount"],
        "authorization_code": None,
        "extended_authorization": {"status": "disabled"},
        "incremental_authorization": {"status": "unavailable"},
        "installments": None,
        "mandate": None,
        "multicapture": {"status": "unavailable"},
        "network": card["brand"],
        "network_token": {"used": False},
        "network_transaction_id": None,
        "overcapture": {"maximum_amount_capturable": intent["amount"], "status": "unavailable"},
        "three_d_secure": None,
    }
    return {"type": "card", "card": details}


def bank_account(details: Json, *, created: int) -> Json:
    """The payment method of a delayed payment: a bank account that is debited some days later."""
    return {
        "id": ids.object_id("pm"),
        "object": "payment_method",
        "allow_redisplay": "limited",
        "billing_details": details,
        "created": created,
        "customer": None,
        "customer_account": None,
        "livemode": False,
        "metadata": {},
        "sepa_debit": {
            "bank_code": "37040044",
            "branch_code": "",
            "country": "DE",
            "fingerprint": ids.token(16),
            "generated_from": {"charge": None, "setup_attempt": None},
            "last4": "3000",
        },
        "type": "sepa_debit",
    }


def refund(source: Json, amount: int, *, created: int) -> Json:
    """A refund of a charge. A refund to a card or an account that can be reached succeeds at once."""
    kind: str = source["payment_method_details"]["type"]
    reached: Json = {"reference_status": "pending", "reference_type": "acquirer_reference_number", "type": "refund"}
    return {
        "id": ids.object_id("re"),
        "object": "refund",
        **dict.fromkeys(_NULL_IN_REFUND),
        "amount": amount,
        "balance_transaction": ids.object_id("txn"),
        "charge": source["id"],
        "created": created,
        "currency": source["currency"],
        "destination_details": {"type": kind, kind: reached} if kind == "card" else {"type": kind},
        "metadata": {},
        "payment_intent": source["payment_intent"],
        "payment_method": source["payment_method"],
        "reason": "requested_by_customer",
        "status": "succeeded",
    }


def referenced(made: Json) -> Json:
    """The refund once the bank has told its reference, which is when Stripe sends its updates."""
    details = made["destination_details"]
    if details["type"] != "card":
        return {**made, "receipt_number": ids.token(8)}
    card = {**details["card"], "reference": ids.token(23), "reference_status": "available"}
    return {**made, "destination_details": {**details, "card": card}}


def failed(made: Json) -> Json:
    """The refund once the payer's bank has sent it back: the money is with the merchant again."""
    lost = {"failure_balance_transaction": ids.object_id("txn"), "failure_reason": "expired_or_canceled_card"}
    return {**made, **lost, "status": "failed"}


def dispute(source: Json, *, created: int) -> Json:
    """A dispute of what a charge has left, with the money already withdrawn."""
    amount = source["amount"] - source["amount_refunded"]
    identifier = ids.object_id("du")
    return {
        "id": identifier,
        "object": "dispute",
        "amount": amount,
        "balance_transactions": [_withdrawal(identifier, amount, source["currency"], created)],
        "charge": source["id"],
        "created": created,
        "currency": source["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {**dict.fromkeys(_EVIDENCE), "enhanced_evidence": {}},
        "evidence_details": {
            "due_by": created + EVIDENCE_SECONDS,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
            "submission_method": "not_submitted",
        },
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": {},
        "network_reason_code": "10.4",
        "payment_intent": source["payment_intent"],
        "payment_method_details": _disputed_card(source["payment_method_details"]),
        "reason": "fraudulent",
        "status": "needs_response",
    }


def disputed_on(made: Json, status: str, *, created: int) -> Json:
    """The dispute in a later state; one that is won has the money back, the fee apart."""
    changed = {**made, "status": status}
    if status == "won":
        back = _withdrawal(made["id"], -made["amount"], made["currency"], created)
        description = f"Chargeback reversal for {MERCHANT}"
        back |= {"description": description, "fee": 0, "fee_details": [], "net": back["amount"]}
        back["reporting_category"] = "dispute_reversal"
        changed["balance_transactions"] = [*made["balance_transactions"], back]
    if status == "under_review":
        details = {"has_evidence": True, "submission_count": 1}
        changed["evidence_details"] = {**made["evidence_details"], **details}
    return changed


def _disputed_card(details: Json) -> Json | None:
    """Only cards have details here."""
    if details["type"] != "card":
        return None
    brand = details["card"]["brand"]
    card = {"brand": brand, "case_type": "chargeback", "network": brand, "network_reason_code": "10.4"}
    return {"type": "card", "card": card}


def _withdrawal(source: str, amount: int, currency: str, created: int) -> Json:
    return {
        "id": ids.object_id("txn"),
        "object": "balance_transaction",
        "amount": -amount,
        "available_on": created,
        "balance_type": "payments",
        "created": created,
        "currency": currency,
        "description": f"Chargeback withdrawal of {MERCHANT}",
        "exchange_rate": None,
        "fee": DISPUTE_FEE,
        "fee_details": [
            {
                "amount": DISPUTE_FEE,
                "application": None,
                "currency": currency,
                "description": "Dispute fee",
                "type": "stripe_fee",
            }
        ],
        "net": -amount - DISPUTE_FEE,
        "reporting_category": "dispute",
        "source": source,
        "status": "available",
        "type": "adjustment",
    }
