"""What must hold, whatever happened. Pure: facts in, violations out, so that each can be seen to turn red."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.chaos.facts import Facts, event
from tests.chaos.load import Operation

FINAL = {"COMPLETED", "FAILED"}

INVARIANTS = {
    "I1": "No Stripe session without a payment that knows it",
    "I2": "At most one payable session per booking",
    "I3": "No booking is charged twice",
    "I4": "No event is lost",
    "I5": "No event tells what is not committed",
    "I6": "Duplicates are recognisable",
    "I7": "Final is final, and the status is the journal's",
    "I8": "No command is lost",
    "I9": "Answers are true",
    "I10": "Money is equal everywhere",
    "I11": "Nothing leaks",
    "I12": "What is over does not stay unfinished",
}


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One breach; `booking` 0 if it belongs to none."""

    invariant: str
    text: str
    booking: int = 0


Found = Iterator[tuple[int, str]]
"""Booking and what is wrong with it."""


def check(facts: Facts) -> list[Violation]:
    """Every violation, by invariant."""
    return [
        Violation(invariant=name, booking=booking, text=text)
        for name, rule in RULES.items()
        for booking, text in rule(facts)
    ]


def still_open(facts: Facts) -> dict[str, int]:
    """What is not wrong but not finished either."""
    paid = {session["id"] for session in facts.sessions if session["payment_status"] == "paid"}
    pending = [payment for payment in facts.payments if payment["status"] == "PENDING"]
    known = _by_reference(facts)
    return {
        "paid at Stripe, not yet COMPLETED here": sum(payment["session_id"] in paid for payment in pending),
        "PENDING without a session, and Stripe has none": sum(
            payment["session_id"] is None and payment["reference"] not in known for payment in pending
        ),
        "PENDING, waiting for a payer": sum(
            payment["session_id"] is not None and payment["session_id"] not in paid for payment in pending
        ),
        "events not yet published": facts.unsent,
        "commands waiting for another try": len(facts.delayed),
        **{f"creates parked: {reason}": count for reason, count in Counter(facts.dead.values()).items()},
    }


# --- at Stripe --------------------------------------------------------------------------------------------------------


def _unknown_sessions(facts: Facts) -> Found:
    known = {payment["session_id"] for payment in facts.payments}
    by_reference = {payment["reference"]: payment for payment in facts.payments}
    for session in facts.sessions:
        if session["id"] in known:
            continue
        payment = by_reference.get(_reference(session))
        row = "no payment" if payment is None else f"payment {payment['id']} is {payment['status']} without it"
        yield _booking(session), f"session {_short(session['id'])} is {session['status']} at Stripe, but {row}"


def _payable_twice(facts: Facts) -> Found:
    for booking, sessions in _sessions_of_bookings(facts, lambda session: session["status"] == "open").items():
        if len(sessions) > 1:
            yield booking, f"{len(sessions)} open sessions: {', '.join(sessions)}"
    if facts.most_payable > 1:
        yield 0, f"at some moment {facts.most_payable} sessions of one booking were open or paid"


def _charged_twice(facts: Facts) -> Found:
    for booking, sessions in _sessions_of_bookings(facts, lambda session: session["payment_status"] == "paid").items():
        if len(sessions) > 1:
            yield booking, f"{len(sessions)} paid sessions: {', '.join(sessions)}"
    completed = Counter(payment["booking_id"] for payment in facts.payments if payment["status"] == "COMPLETED")
    for booking, count in completed.items():
        if count > 1:
            yield booking, f"{count} COMPLETED payments"


# --- events -----------------------------------------------------------------------------------------------------------


def _lost_events(facts: Facts) -> Found:
    told = {event(body)[:2] for _, body in facts.delivered}
    bookings = _bookings(facts)
    for line in facts.journal:
        if line["kind"] != "created" and (line["payment_id"], line["version"]) not in told:
            what = f"payment {line['payment_id']} version {line['version']} ({line['kind']}) has no event"
            yield bookings.get(line["payment_id"], 0), what


def _ghost_events(facts: Facts) -> Found:
    committed = {(line["payment_id"], line["version"]): line["status"] for line in facts.journal}
    for identifier, body in facts.delivered:
        payment, sequence, data = event(body)
        if committed.get((payment, sequence)) != data["status"]:
            yield data["bookingId"], f"event {identifier} tells {data['status']} {sequence} of payment {payment}"


def _ambiguous_duplicates(facts: Facts) -> Found:
    ids: dict[tuple[int, int], set[str]] = defaultdict(set)
    bodies: dict[str, set[bytes]] = defaultdict(set)
    for identifier, body in facts.delivered:
        ids[event(body)[:2]].add(identifier)
        bodies[identifier].add(body)
    bookings = _bookings(facts)
    for (payment, sequence), several in ids.items():
        if len(several) > 1:
            yield bookings.get(payment, 0), f"payment {payment} version {sequence} has {len(several)} event ids"
    for identifier, contents in bodies.items():
        if len(contents) > 1:
            yield event(min(contents))[2]["bookingId"], f"event {identifier} came with {len(contents)} contents"


# --- the record -------------------------------------------------------------------------------------------------------


def _rewritten(facts: Facts) -> Found:
    lines: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for line in facts.journal:
        lines[line["payment_id"]].append(line)
    for payment in facts.payments:
        history = sorted(lines[payment["id"]], key=lambda line: line["version"])
        where = f"payment {payment['id']}"
        if [line["version"] for line in history] != list(range(payment["version"] + 1)):
            yield payment["booking_id"], f"{where}: the journal's versions are not 0 to {payment['version']}"
            continue
        if history[-1]["status"] != payment["status"]:
            yield (
                payment["booking_id"],
                f"{where} is {payment['status']}, but its journal ends {history[-1]['status']}",
            )
        after_final = False
        for line in history:
            if after_final and line["kind"] != "attention":
                yield payment["booking_id"], f"{where} was final, and then {line['kind']}"
            after_final = after_final or line["status"] in FINAL


def _lost_commands(facts: Facts) -> Found:
    ended = {payment["booking_id"] for payment in facts.payments if payment["session_id"] or payment["status"] in FINAL}
    for command in facts.commands:
        parked = facts.dead.get(command.message_id)
        if parked == "":
            yield command.booking, f"{command.message_id} is parked without a reason"
        lost = parked is None and command.message_id not in facts.delayed and command.booking not in ended
        if command.confirmed and lost:
            yield command.booking, f"{command.message_id} was confirmed and is nowhere"


# --- what clients were told -------------------------------------------------------------------------------------------


def _untrue_answers(facts: Facts) -> Found:
    rows = {payment["session_id"]: payment for payment in facts.payments if payment["session_id"]}
    paid = {session["id"]: session for session in facts.sessions if session["payment_status"] == "paid"}
    yield from _untrue_creates(facts, rows, {_booking(session) for session in paid.values()})
    yield from _untrue_states(facts, rows, set(paid))
    for session in paid:
        row = rows.get(session)
        if row is not None and row["status"] == "FAILED" and not row["attention"]:
            yield row["booking_id"], f"payment {row['id']} is FAILED, its session is paid, and nobody was called"


def _untrue_creates(facts: Facts, rows: dict[str, dict[str, Any]], paid_bookings: set[int]) -> Found:
    for operation in facts.operations:
        if operation.kind != "create":
            continue
        if operation.acknowledged:
            row = rows.get(operation.answer["sessionId"])
            if row is None or row["booking_id"] != operation.booking:
                told = _short(operation.answer["sessionId"])
                yield operation.booking, f"a create was answered {told}: no such payment"
        elif operation.answer.get("paymentStatus") == "ALREADY_PAID" and operation.booking not in paid_bookings:
            yield operation.booking, "a create was answered ALREADY_PAID, but nobody paid"


def _untrue_states(facts: Facts, rows: dict[str, dict[str, Any]], paid: set[str]) -> Found:
    """Final answers of verify and status: the same for ever, and the ledger's."""
    told: dict[str, set[str]] = defaultdict(set)
    for operation in facts.operations:
        if operation.kind in {"verify", "status"} and operation.acknowledged:
            told[operation.asked].add(operation.answer["paymentStatus"])
    for session, statuses in told.items():
        said = statuses & FINAL
        row = rows.get(session, {"booking_id": 0, "status": "unknown"})
        answer = f"{_short(session)} was said to be {' and '.join(sorted(said))}"
        if said and said != {row["status"]}:
            yield row["booking_id"], f"{answer}, but is {row['status']}"
        if said and ("COMPLETED" in said) != (session in paid):
            yield row["booking_id"], f"{answer}, but is {'paid' if session in paid else 'not paid'}"


def _unequal_money(facts: Facts) -> Found:
    asked: dict[int, set[int]] = defaultdict(set)
    for wish in (*facts.operations, *facts.commands):
        if wish.minor:
            asked[wish.booking].add(wish.minor)
    rows = {payment["session_id"]: payment for payment in facts.payments if payment["session_id"]}
    by_id = {payment["id"]: payment for payment in facts.payments}
    for payment in facts.payments:
        if payment["amount_minor"] not in asked[payment["booking_id"]]:
            yield payment["booking_id"], f"payment {payment['id']} is over {payment['amount_minor']}: nobody asked that"
    for session in facts.sessions:
        row = rows.get(session["id"])
        at_stripe = (session["amount_total"], session["currency"])
        if row is not None and at_stripe != (row["amount_minor"], row["currency"]):
            yield row["booking_id"], f"payment {row['id']}: {row['amount_minor']} here, {at_stripe[0]} at Stripe"
    for identifier, body in facts.delivered:
        payment_id, _, data = event(body)
        row = by_id.get(payment_id)
        if row is not None and (data["amountMinor"], data["currency"]) != (row["amount_minor"], row["currency"]):
            yield (
                row["booking_id"],
                f"event {identifier}: {data['amountMinor']}, but the payment is {row['amount_minor']}",
            )
    yield from _other_money(facts.operations, rows)


def _other_money(operations: Iterable[Operation], rows: dict[str, dict[str, Any]]) -> Found:
    for operation in operations:
        row = rows.get(operation.answer.get("sessionId", ""))
        if row is None or not operation.acknowledged or operation.kind != "create":
            continue
        told = round(operation.answer["amount"] * 100)
        if not operation.minor == row["amount_minor"] == told:
            yield (
                operation.booking,
                f"asked for {operation.minor}, told {told}, and payment {row['id']} is over {row['amount_minor']}",
            )


def _neglected(facts: Facts) -> Found:
    """With a session: its time to pay is over. Without: its creator is gone. And the settler has not come when due."""
    for payment in facts.payments:
        if payment["neglected"]:
            yield payment["booking_id"], f"payment {payment['id']} is over and still PENDING, and nobody tries any more"


def _leaks(facts: Facts) -> Found:
    leaks = facts.leaks
    single = {
        "database sessions of the services": leaks.database_sessions,
        "seconds idle in a transaction": leaks.idle_in_transaction_seconds,
        **leaks.growth,
    }
    for name, (measured, allowed) in single.items():
        if measured > allowed:
            yield 0, f"{name}: {measured:g}, allowed {allowed:g}"
    for queue, (measured, expected) in leaks.consumers.items():
        if measured != expected:
            yield 0, f"{queue} has {measured} consumers instead of {expected}"


RULES: dict[str, Callable[[Facts], Found]] = {
    "I1": _unknown_sessions,
    "I2": _payable_twice,
    "I3": _charged_twice,
    "I4": _lost_events,
    "I5": _ghost_events,
    "I6": _ambiguous_duplicates,
    "I7": _rewritten,
    "I8": _lost_commands,
    "I9": _untrue_answers,
    "I10": _unequal_money,
    "I11": _leaks,
    "I12": _neglected,
}


def _sessions_of_bookings(facts: Facts, wanted: Callable[[dict[str, Any]], bool]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    for session in facts.sessions:
        if wanted(session):
            found[_booking(session)].append(_short(session["id"]))
    return found


def _by_reference(facts: Facts) -> set[str]:
    return {_reference(session) for session in facts.sessions}


def _bookings(facts: Facts) -> dict[int, int]:
    return {payment["id"]: payment["booking_id"] for payment in facts.payments}


def _reference(session: dict[str, Any]) -> str:
    """The payment's own name, which the service sends along: a UUID among the session's metadata."""
    return str(session["metadata"].get("paymentReference", ""))


def _booking(session: dict[str, Any]) -> int:
    return int(session["metadata"].get("bookingId") or session["client_reference_id"] or 0)


def _short(session_id: str) -> str:
    return f"{session_id[:16]}…"
