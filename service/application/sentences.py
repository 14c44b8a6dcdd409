"""Every sentence about a payment that end users read, by what is known: status, reason, attention and last outcome.

"Nothing was charged" stands only where the gateway has said so. Each table is total, so that a new reason needs its own
sentence; a word that a later release has stored gets a sentence that is true of all.
"""

from typing import Final

from service.domain.payment import AttentionReason, FailureReason, LastOutcome, Payment, PaymentStatus

_NOT_ASKED: Final = "The payment provider could not be asked just now."
_COMPLETE: Final = "The payment is complete."
_UNPAID: Final = "Nothing was charged."

PENDING: Final[dict[str | None, str]] = {
    None: "waiting for the payment.",
    LastOutcome.PROCESSING: "the payment is being processed. Please do not pay again.",
    LastOutcome.NO_SESSION: "the payment provider does not know this checkout. Please do not pay there.",
}
"""By the last outcome, for a payment of which nothing else is known. They may end a longer sentence."""

REFUSED: Final[dict[str, str]] = {
    LastOutcome.REFUSED: "The payment was refused.",
    LastOutcome.AMOUNT_TOO_SMALL: "The amount is smaller than the payment provider accepts.",
    LastOutcome.AMOUNT_TOO_LARGE: "The amount is larger than the payment provider accepts.",
    LastOutcome.CURRENCY_REFUSED: "The payment provider does not accept this currency.",
    LastOutcome.URL_REFUSED: "The payment provider does not accept the addresses to return to.",
}
"""By the last outcome: each is a refusal to begin, so that nothing was charged."""

CLOSED: Final[dict[str | None, str]] = {
    None: "We have closed this payment.",
    LastOutcome.EXPIRED: f"We have closed this payment. {_UNPAID}",
    LastOutcome.PAID: "We have closed this payment, and have dealt with the money that arrived for it.",
    LastOutcome.PROCESSING: "We have closed this payment. If money was taken for it, please contact us.",
    LastOutcome.NO_SESSION: "We have closed this payment. If money was taken for it, please contact us.",
}
"""By the last outcome, for a payment that an operator ended."""

FAILED: Final[dict[str, str]] = {
    FailureReason.EXPIRED: f"The checkout ended before a payment was made. {_UNPAID}",
    FailureReason.REPLACED: f"This checkout was replaced by a newer one before a payment was made. {_UNPAID}",
    FailureReason.REFUSED: f"The payment was refused. {_UNPAID}",
    FailureReason.CLOSED: CLOSED[None],
}
"""By the reason."""

ATTENTION: Final[dict[PaymentStatus, dict[str, str]]] = {
    PaymentStatus.PENDING: {
        AttentionReason.UNSETTLED: "We do not know yet whether this payment was made. Please do not pay again.",
        AttentionReason.UNKNOWN_SESSION: "We do not know whether this payment was made, and are looking into it. "
        "Please do not pay again.",
        AttentionReason.PAID_DIFFERENTLY: "Money has arrived that does not fit this payment, and we are looking into "
        "it. Please do not pay again.",
        AttentionReason.PAID_AFTER_FAILED: "Money has arrived for this payment, and we are looking into it. "
        "Please do not pay again.",
    },
    PaymentStatus.COMPLETED: dict.fromkeys(AttentionReason, f"{_COMPLETE} We are looking into its money once more."),
    PaymentStatus.FAILED: {
        AttentionReason.UNSETTLED: "This payment has ended, and we are looking into it. Please do not pay again.",
        AttentionReason.UNKNOWN_SESSION: "This payment has ended, and we are looking into it. Please do not pay again.",
        AttentionReason.PAID_DIFFERENTLY: "This payment has ended, but money has arrived that does not fit it. We are "
        "looking into it; please do not pay again.",
        AttentionReason.PAID_AFTER_FAILED: "Money arrived after this payment had ended. We are looking into it; please "
        "do not pay again.",
    },
}
"""By the reason why a person must look, until one has."""

_NOT_ARRIVED: Final = (
    "This payment was begun, but no money has arrived. We are looking into it; please do not pay again."
)
_DEALT_WITH: Final = "This payment has ended. Money arrived for it, and we have dealt with that."
_ANY_FAILED: Final = "The payment has failed."
_ANY_ATTENTION: Final = "We are looking into this payment. Please do not pay again."
_ENDED: Final = "The checkout of this request has ended. Please start a new one."


def of_state(payment: Payment, *, gateway_answered: bool = True) -> str:
    """What a verify and a status query say."""
    not_asked = "" if gateway_answered else f"{_NOT_ASKED} "
    if payment.open_attention == AttentionReason.UNSETTLED and payment.last_outcome == LastOutcome.PROCESSING:
        return not_asked + _NOT_ARRIVED
    if payment.open_attention is not None:
        return not_asked + ATTENTION[payment.status].get(payment.open_attention, _ANY_ATTENTION)
    if payment.status is PaymentStatus.COMPLETED:
        return _COMPLETE
    if payment.status is PaymentStatus.FAILED:
        return _of_failed(payment)
    sentence = PENDING.get(payment.last_outcome, PENDING[None])
    if gateway_answered:
        return sentence[0].upper() + sentence[1:]
    return f"{not_asked}This is the last known status: {sentence}"


def of_repeat(payment: Payment) -> str:
    """What a create says whose payment has failed."""
    if payment.reason == FailureReason.REFUSED:
        return f"{_of_refusal(payment)} Please check the booking and try again."
    return _ENDED


def of_block(payment: Payment) -> str:
    """What a create says that finds a payment in its way that needs a person."""
    if payment.attention in {AttentionReason.PAID_DIFFERENTLY, AttentionReason.PAID_AFTER_FAILED}:
        return "Money has already arrived for this booking, and we have to look at it first. Please do not pay again."
    return "We have to look at an earlier payment of this booking first. Please do not pay again."


def _of_failed(payment: Payment) -> str:
    if payment.attention in {AttentionReason.PAID_DIFFERENTLY, AttentionReason.PAID_AFTER_FAILED}:
        return _DEALT_WITH
    if payment.reason == FailureReason.REFUSED:
        return f"{_of_refusal(payment)} {_UNPAID}"
    if payment.reason == FailureReason.CLOSED:
        return CLOSED.get(payment.last_outcome, CLOSED[None])
    return FAILED.get(payment.reason or "", _ANY_FAILED)


def _of_refusal(payment: Payment) -> str:
    return REFUSED.get(payment.last_outcome or "", REFUSED[LastOutcome.REFUSED])
