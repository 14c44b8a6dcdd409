"""What becomes of a command that is sent again, as far as that can be known."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol

from contracts import body
from contracts.body import InvalidBodyError
from contracts.commands import CommandType, CreateCheckout
from runtime.dead_letters.letter import Letter
from service.application.policy import fingerprint
from service.domain.payment import Payment, PaymentStatus

_EXPIRED: Final = "expired"
_NEVER: Final = {
    "invalid": "it cannot be understood",
    "unknown-type": "there is no such command",
    "too-large": "it is too large",
    "id-conflict": "its message id belongs to another command",
    "refused": "it was refused for good",
    _EXPIRED: "its sender has left",
}
"""Reasons for which another try is of no use -> what is to be told."""


class BookingPayments(Protocol):
    """The part of the record that is asked."""

    async def payments_of_booking(self, booking_id: int) -> Sequence[Payment]:
        """Every payment of a booking."""


@dataclass(frozen=True, kw_only=True)
class ReplayEffect:
    """What a replay does: to the checkout that the booking of a create has by now (`text`, empty if it has none).

    `futile` says why it is of no use as things stand, unless it may be of some.
    """

    text: str = ""
    futile: str | None = None


async def effect_of(letter: Letter, store: BookingPayments, now: datetime) -> ReplayEffect:
    """The effect of sending the letter again."""
    futile = _NEVER.get(letter.reason)
    command = _create(letter)
    if command is None:
        return ReplayEffect(futile=futile)
    payments = await store.payments_of_booking(command.booking_id)
    live = next((payment for payment in payments if payment.status is not PaymentStatus.FAILED), None)
    is_paid = live is not None and live.status is PaymentStatus.COMPLETED
    blocking = None if is_paid else next((payment for payment in payments if payment.needs_person), None)
    # A replay has no deadline, so it is done.
    first = ReplayEffect(text="it opens a checkout that nobody waits for" if letter.reason == _EXPIRED else "")
    effect = first if live is None else _on(live, command, letter.sent_at(now))
    if blocking is not None:
        text = f"payment {blocking.id} of {blocking.money} needs a person ({blocking.attention})"
        effect = ReplayEffect(text=text, futile="a person must look at its booking first")
    return effect if futile is None else replace(effect, futile=futile)


def _on(live: Payment, command: CreateCheckout, sent_at: datetime) -> ReplayEffect:
    """The effect of the create on the payment that keeps its booking."""
    what = f"payment {live.id} of {live.money}"
    if live.status is PaymentStatus.COMPLETED:
        return ReplayEffect(text=f"its booking is paid by {what}", futile="its booking is paid")
    if live.sent == fingerprint(command):
        return ReplayEffect(text=f"it repeats {what}")
    if live.is_newer_than(sent_at):
        return ReplayEffect(text=f"it is older than {what}, which stays", futile="its booking has a newer checkout")
    return ReplayEffect(text=f"it replaces {what}")


def _create(letter: Letter) -> CreateCheckout | None:
    """The letter's command, if it is a create and can be read."""
    if letter.command is not CommandType.CREATE_CHECKOUT:
        return None
    try:
        return body.read(CreateCheckout, letter.body)
    except InvalidBodyError:
        return None
