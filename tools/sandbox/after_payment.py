"""What happens to a payment after the page: delayed payment methods, refunds and disputes.

Each act has the events that Stripe sends for it (https://docs.stripe.com/api/events/types,
https://docs.stripe.com/payments/checkout/fulfill-orders).
"""

from tools.sandbox import amounts, charges, objects
from tools.sandbox.account import Account
from tools.sandbox.cards import Decline
from tools.sandbox.object_store import Json

RETURNED = Decline(
    code="payment_method_customer_decline",
    message="The customer's bank could not debit the account.",
)
PENDING, SUCCEEDED = "processing", "succeeded"


class ImpossibleError(Exception):
    """The session or its charge is not in a state for this act; the text says in which it is."""


class TooMuchError(Exception):
    """More is asked back than the charge has left."""


def settle(account: Account, identifier: str, outcome: str, payer: Json, *, amount_total: int | None = None) -> Json:
    """Pays by a delayed method: the session is complete at once, and paid, or not, only later.

    Args:
        account: The session's.
        identifier: The session, open or complete with its payment still under way.
        outcome: ``unpaid`` leaves the payment under way; ``paid`` and ``failed`` end it, and begin it if need be.
        payer: ``{"email", "name"}``.
        amount_total: What is collected, if it is not what was asked.

    Raises:
        ImpossibleError: the session is expired, or its payment has ended or cannot be begun twice.
        ApiError: 404 for an unknown session.
    """
    session = account.session(identifier)
    under_way = session["payment_intent"] is not None and _intent(account, session)["status"] == PENDING
    free = session["amount_total"] == 0 and amount_total is None
    if free or (session["status"] != "open" and not under_way):
        raise ImpossibleError(f"This session is {session['status']} and {session['payment_status']}; nothing is due.")
    if under_way and outcome == "unpaid":
        raise ImpossibleError("The payment of this session is under way already.")
    if amount_total is not None:
        session = account.change(identifier, amount_total=amount_total, amount_subtotal=amount_total)
    if not under_way:
        session = _begin(account, session, payer)
    if outcome == "unpaid":
        return session
    return _succeed(account, session) if outcome == "paid" else _fail(account, session)


def _intent(account: Account, session: Json) -> Json:
    return account.intent(session["payment_intent"])


def _begin(account: Account, session: Json, payer: Json) -> Json:
    account.notes(session["id"]).challenged = None
    intent = account.intent_of(session, account.notes(session["id"]))
    method = charges.bank_account(objects.billing_details(payer), created=account.now())
    changes = {"last_payment_error": None, "next_action": None, "payment_method": method["id"], "status": PENDING}
    intent = account.change_intent(intent, amount=session["amount_total"], **changes)
    account.notes(session["id"]).debited = method
    account.add_event("payment_intent.processing", intent)
    return account.complete(session["id"], payer, payment_status="unpaid")


def _succeed(account: Account, session: Json) -> Json:
    intent = account.change_intent(_intent(account, session), amount=session["amount_total"])
    charge = account.charge(intent, account.notes(session["id"]).debited)
    taken = {"amount_received": intent["amount"], "latest_charge": charge["id"], "status": SUCCEEDED}
    account.add_event("payment_intent.succeeded", account.change_intent(intent, **taken))
    paid = account.change(session["id"], payment_status="paid")
    account.add_event("checkout.session.async_payment_succeeded", paid)
    return paid


def _fail(account: Account, session: Json) -> Json:
    intent = account.change_intent(_intent(account, session), amount=session["amount_total"])
    method = account.notes(session["id"]).debited
    charge = account.charge(intent, method, failure=RETURNED)["id"]
    error = objects.payment_error(RETURNED, method, charge)
    lost = {"last_payment_error": error, "latest_charge": charge, "payment_method": None}
    failed = account.change_intent(intent, status="requires_payment_method", **lost)
    account.no_longer_payable(session["id"])
    account.add_event("payment_intent.payment_failed", failed)
    account.add_event("checkout.session.async_payment_failed", session)
    return session


def refund(account: Account, identifier: str, amount: int | None = None) -> Json:
    """Gives back what the charge has left, or a part of it; the refund.

    Raises:
        ImpossibleError: nothing was paid, nothing is left, or the charge is disputed.
        TooMuchError: more is asked back than is left.
        ApiError: 404 for an unknown session.
    """
    charge = _paid_charge(account, identifier)
    if charge["disputed"]:
        raise ImpossibleError("The charge is disputed; it cannot be refunded.")
    left = charge["amount"] - charge["amount_refunded"]
    if not left:
        raise ImpossibleError("The charge has been refunded already.")
    wanted = left if amount is None else amount
    if wanted > left:
        asked, most = amounts.text(wanted, charge["currency"]), amounts.text(left, charge["currency"])
        raise TooMuchError(f"Refund amount ({asked}) is greater than unrefunded amount on charge ({most})")
    made = charges.refund(charge, wanted, created=account.now())
    account.add_event("refund.created", made)
    _change_charge(account, charge, amount_refunded=charge["amount_refunded"] + wanted, refunded=wanted == left)
    return _change_refund(account, made, charges.referenced(made), "refund.updated", "charge.refund.updated")


def fail_refund(account: Account, identifier: str, refund_id: str) -> Json:
    """The payer's bank sends a refund of this session's back; the refund. The charge is as before it.

    Raises:
        ImpossibleError: nothing was paid, the refund is another session's or unknown, or it has failed already.
        ApiError: 404 for an unknown session.
    """
    charge = _paid_charge(account, identifier)
    made = account.refunds.get(refund_id)
    if made is None or made["charge"] != charge["id"]:
        raise ImpossibleError("This session has no such refund.")
    if made["status"] == "failed":
        raise ImpossibleError("The refund has failed already.")
    account.charges[charge["id"]] = {
        **charge,
        "amount_refunded": charge["amount_refunded"] - made["amount"],
        "refunded": False,
    }
    kinds = ("refund.updated", "charge.refund.updated", "refund.failed")
    return _change_refund(account, made, charges.failed(made), *kinds)


def _change_refund(account: Account, made: Json, changed: Json, *kinds: str) -> Json:
    """Stores a refund and tells of it, with the members that changed."""
    account.refunds[made["id"]] = changed
    previous = {name: made.get(name) for name in changed if changed[name] != made.get(name)}
    for kind in kinds:
        account.add_event(kind, changed, previous=previous)
    return changed


def _change_charge(account: Account, charge: Json, **changes: object) -> None:
    """Stores a refunded charge and tells of it, with the members that changed."""
    changed = account.charges[charge["id"]] = {**charge, **changes}
    previous = {name: charge[name] for name in changes if changed[name] != charge[name]}
    account.add_event("charge.refunded", changed, previous=previous)


def dispute(account: Account, identifier: str) -> Json:
    """The payer's bank takes back what the charge has left; the dispute.

    Raises:
        ImpossibleError: nothing was paid, nothing is left, or the charge is disputed already.
        ApiError: 404 for an unknown session.
    """
    charge = _paid_charge(account, identifier)
    if charge["disputed"]:
        raise ImpossibleError("The charge is disputed already.")
    if charge["refunded"]:
        raise ImpossibleError("The charge has been refunded; there is nothing to dispute.")
    account.charges[charge["id"]] = {**charge, "disputed": True}
    made = account.disputes[charge["id"]] = charges.dispute(charge, created=account.now())
    account.add_event("charge.dispute.created", made)
    account.add_event("charge.dispute.funds_withdrawn", made)
    return made


def go_on(account: Account, identifier: str, status: str) -> Json:
    """The session's dispute comes to a later state; the dispute. Only one that is won brings the money back.

    Raises:
        ImpossibleError: nothing was paid, there is no dispute, or it is in that state or at its end.
        ApiError: 404 for an unknown session.
    """
    charge = _paid_charge(account, identifier)
    made = account.disputes.get(charge["id"])
    if made is None:
        raise ImpossibleError("The charge is not disputed.")
    if made["status"] in {status, "won", "lost"}:
        raise ImpossibleError(f"The dispute is {made['status']}.")
    changed = account.disputes[charge["id"]] = charges.disputed_on(made, status, created=account.now())
    previous = {name: made[name] for name in changed if changed[name] != made[name]}
    kinds = {"won": ("updated", "funds_reinstated", "closed"), "lost": ("updated", "closed")}
    for kind in kinds.get(status, ("updated",)):
        account.add_event(f"charge.dispute.{kind}", changed, previous=previous if kind == "updated" else None)
    return changed


def _paid_charge(account: Account, identifier: str) -> Json:
    session = account.session(identifier)
    if session["payment_status"] != "paid":
        raise ImpossibleError(f"This session is {session['status']} and {session['payment_status']}.")
    charge: str = _intent(account, session)["latest_charge"]
    return account.charges[charge]
