"""The invariants about money in rare cases: what Stripe says of it is known here, and callers are told the truth."""

from collections import Counter
from collections.abc import Iterator

from tools.chaos.facts import Facts, booking_of, short, took_nothing

Found = Iterator[tuple[int, str]]
"""Pairs of a booking and a description of its breach."""
FOR_A_PERSON = {"paid_there", "second_session", "failed_here_paid_there", "failed_here_open_there", "money_differs"}
"""Differences that only a person can decide about; any other is mended, or is a defect."""
UNPAID, PAID = "Nothing was charged", ("The payment is complete", "Money ")
"""Claims in sentences for end users: the first may stand anywhere in one, the second begins it."""


def called_for(facts: Facts) -> set[str]:
    """Ids of the sessions that the journal names to a person."""
    return {str(line["detail"].get("session")) for line in facts.journal if line["kind"] == "attention"}


def without_payment(facts: Facts) -> dict[str, str]:
    """Sessions that need no payment once the database was put back, and how one would have ended.

    Such a session took nothing, or a person was called for it because its booking has another payment.
    """
    called = called_for(facts)
    return {
        session["id"]: "FAILED" if took_nothing(session) else "COMPLETED"
        for session in facts.sessions
        if facts.losses and (took_nothing(session) or session["id"] in called)
    }


def unknown_money(facts: Facts) -> Found:
    """Paid, and neither COMPLETED nor with attention; given back, and not in the journal."""
    rows = {payment["session_id"]: payment for payment in facts.payments if payment["session_id"]}
    called = called_for(facts)
    for session in facts.sessions:
        row = rows.get(session["id"])
        known = session["id"] in called if row is None else row["status"] == "COMPLETED" or row["attention"]
        if session["payment_status"] == "paid" and not known:
            yield booking_of(session), f"session {short(session['id'])} is paid, and no person was called"
    lines = Counter((line["payment_id"], line["kind"]) for line in facts.journal)
    acts = Counter((each.asked, each.kind) for each in facts.operations if each.acknowledged)
    for (session_id, kind), count in acts.items():
        row, line = rows.get(session_id), {"refund": "refunded", "dispute": "disputed"}.get(kind)
        if row is not None and line is not None and not 0 < lines[row["id"], line] <= count:
            yield row["booking_id"], f"payment {row['id']}: {count} x {kind} at Stripe, {lines[row['id'], line]} here"


def untrue_sentences(facts: Facts) -> Found:
    """Answers to verify and status whose message says something else than Stripe's ledger."""
    paid = {session["id"] for session in facts.sessions if session["payment_status"] == "paid"}
    for operation in facts.operations:
        message = str(operation.answer.get("message", ""))
        if operation.kind not in {"verify", "status"} or not message:
            continue
        said = f"{short(operation.asked)} was said to be: {message!r}"
        if UNPAID in message and operation.asked in paid:
            yield operation.booking, f"{said}, and is paid"
        if message.startswith(PAID) and operation.asked not in paid:
            yield operation.booking, f"{said}, and is not paid"


def unsettled_differences(facts: Facts) -> Found:
    """What reconcile tells of payments for which no person was called, and what no person is called for."""
    for each in facts.differences:
        if not each.get("attention") or each.get("kind") not in FOR_A_PERSON:
            yield each.get("bookingId") or 0, f"reconcile tells: {each}"
