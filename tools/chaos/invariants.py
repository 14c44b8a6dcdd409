"""The invariants that must hold after any faults: pure functions from facts to violations."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tools.chaos.facts import Facts, booking_of, event, reference_of, short, took_nothing
from tools.chaos.money_invariants import Found, unknown_money, unsettled_differences, untrue_sentences, without_payment
from tools.chaos.wishes import Command, Operation

FINAL = {"COMPLETED", "FAILED"}
AFTER_FINAL = {"attention", "closed", "refunded", "disputed"}
"""Kinds of changes that leave a final status as it is."""

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
    "I13": "Money that Stripe took or gave back is known here",
    "I14": "No sentence contradicts Stripe's ledger",
    "I15": "Reconcile tells nothing that no person was called for",
}


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One breach of an invariant; `booking` is 0 if it belongs to no booking."""

    invariant: str
    text: str
    booking: int = 0


OTHER_MONEY = {"paid_differently", "paid_after_failed"}
"""Why a person is called for money that may be another amount than ours."""
AROUND_A_COPY_SECONDS = 40.0
"""How long a command may have waited before a copy of the database was made."""


def check(facts: Facts) -> list[Violation]:
    """Every violation, in the order of the invariants."""
    return [
        Violation(invariant=name, booking=booking, text=text)
        for name, rule in RULES.items()
        for booking, text in rule(facts)
    ]


def still_open(facts: Facts) -> dict[str, int]:
    """Counts of unfinished work, which is no violation."""
    paid = {session["id"] for session in facts.sessions if session["payment_status"] == "paid"}
    pending = [payment for payment in facts.payments if payment["status"] == "PENDING"]
    known = {reference_of(session) for session in facts.sessions}
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
        **{f"creates dead-lettered: {reason}": count for reason, count in Counter(facts.dead.values()).items()},
    }


# --- at Stripe --------------------------------------------------------------------------------------------------------


def _unknown_sessions(facts: Facts) -> Found:
    known = {payment["session_id"] for payment in facts.payments} | set(without_payment(facts))
    by_reference = {payment["reference"]: payment for payment in facts.payments}
    replaced = {line["detail"].get("replaced") for line in facts.journal}  # ended before anybody was given it
    for session in facts.sessions:
        if session["id"] in known or (reference_of(session) in replaced and took_nothing(session)):
            continue
        payment = by_reference.get(reference_of(session))
        row = "no payment" if payment is None else f"payment {payment['id']} is {payment['status']} without it"
        yield booking_of(session), f"session {short(session['id'])} is {session['status']} at Stripe, but {row}"


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
    published = {event(body)[:2] for _, body in facts.all_delivered}
    bookings = _bookings(facts)
    for line in facts.journal:
        is_told = line["kind"] not in {"created", "adopted", "renewed"}
        if is_told and (line["payment_id"], line["version"]) not in published:
            what = f"payment {line['payment_id']} version {line['version']} ({line['kind']}) has no event"
            yield bookings.get(line["payment_id"], 0), what


def _ghost_events(facts: Facts) -> Found:
    committed = {(line["payment_id"], line["version"]): line["status"] for line in facts.journal}
    for identifier, body in facts.delivered:
        payment, sequence, data = event(body)
        if committed.get((payment, sequence)) != data["status"]:
            yield data["bookingId"], f"event {identifier} reports {data['status']} {sequence} of payment {payment}"


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
        booking, where = payment["booking_id"], f"payment {payment['id']}"
        if [line["version"] for line in history if line["kind"] != "renewed"] != list(range(payment["version"] + 1)):
            yield booking, f"{where}: the journal's versions are not 0 to {payment['version']}"
            continue
        if history[-1]["status"] != payment["status"]:
            yield booking, f"{where} is {payment['status']}, but its journal ends {history[-1]['status']}"
        for before, line in pairwise(history):
            if before["status"] in FINAL and line["kind"] not in AFTER_FINAL:
                yield booking, f"{where} was final, and then {line['kind']}"


def _lost_commands(facts: Facts) -> Found:
    ended = {payment["booking_id"] for payment in facts.payments if payment["session_id"] or payment["status"] in FINAL}
    for command in facts.commands:
        reason = facts.dead.get(command.message_id)
        if reason == "":
            yield command.booking, f"{command.message_id} is dead-lettered without a reason"
        lost = reason is None and command.message_id not in facts.delayed and command.booking not in ended
        if command.confirmed and lost and not _undone(facts, command):
            yield command.booking, f"{command.message_id} was confirmed and is nowhere"


def _undone(facts: Facts, command: Command) -> bool:
    """Whether it may have been executed after a copy of the database was made that was put back later."""
    return any(copied - AROUND_A_COPY_SECONDS < command.at < restored for copied, restored in facts.losses)


# --- answers to clients -----------------------------------------------------------------------------------------------


def _untrue_answers(facts: Facts) -> Found:
    rows = {payment["session_id"]: payment for payment in facts.payments if payment["session_id"]}
    paid = {session["id"]: session for session in facts.sessions if session["payment_status"] == "paid"}
    yield from _untrue_creates(facts, rows, {booking_of(session) for session in paid.values()})
    yield from _untrue_states(facts, rows, set(paid))


def _untrue_creates(facts: Facts, rows: dict[str, dict[str, Any]], paid_bookings: set[int]) -> Found:
    lost = without_payment(facts)
    for operation in facts.operations:
        if operation.kind != "create":
            continue
        if operation.acknowledged:
            row = rows.get(operation.answer["sessionId"])
            if row is None and operation.answer["sessionId"] in lost:
                continue
            if row is None or row["booking_id"] != operation.booking:
                answered = short(operation.answer["sessionId"])
                yield operation.booking, f"a create was answered {answered}: no such payment"
        elif operation.answer.get("paymentStatus") == "ALREADY_PAID" and operation.booking not in paid_bookings:
            yield operation.booking, "a create was answered ALREADY_PAID, but nobody paid"


def _untrue_states(facts: Facts, rows: dict[str, dict[str, Any]], paid: set[str]) -> Found:
    """Final answers of verify and status must never change and must match the ledger."""
    lost = without_payment(facts)
    answered: dict[str, set[str]] = defaultdict(set)
    for operation in facts.operations:
        if operation.kind in {"verify", "status"} and operation.acknowledged:
            answered[operation.asked].add(operation.answer["paymentStatus"])
    for session, statuses in answered.items():
        final = statuses & FINAL
        row = rows.get(session, {"booking_id": 0, "status": lost.get(session, "unknown")})
        answer = f"{short(session)} was reported {' and '.join(sorted(final))}"
        # Only FAILED may be untrue by now: a person had closed the payment, which a restore undid, or the money came
        # late; in both cases a person is called. COMPLETED is never taken back.
        called = final == {"FAILED"} and row.get("attention")
        if final and final != {row["status"]} and not (called and facts.losses):
            yield row["booking_id"], f"{answer}, but is {row['status']}"
        if final and ("COMPLETED" in final) != (session in paid) and not called:
            yield row["booking_id"], f"{answer}, but is {'paid' if session in paid else 'not paid'}"


def _unequal_money(facts: Facts) -> Found:
    asked: dict[int, set[int]] = defaultdict(set)
    wishes: tuple[Operation | Command, ...] = (*facts.operations, *facts.commands)
    for wish in wishes:
        if wish.minor:
            asked[wish.booking].add(wish.minor)
    rows = {payment["session_id"]: payment for payment in facts.payments if payment["session_id"]}
    by_id = {payment["id"]: payment for payment in facts.payments}
    told = {line["payment_id"] for line in facts.journal if line["detail"].get("reason") in OTHER_MONEY}
    for payment in facts.payments:
        if payment["amount_minor"] not in asked[payment["booking_id"]]:
            yield payment["booking_id"], f"payment {payment['id']} is over {payment['amount_minor']}: nobody asked that"
    for session in facts.sessions:
        row = rows.get(session["id"])
        at_stripe = (session["amount_total"], session["currency"])
        if row is not None and row["id"] not in told and at_stripe != (row["amount_minor"], row["currency"]):
            yield row["booking_id"], f"payment {row['id']}: {row['amount_minor']} here, {at_stripe[0]} at Stripe"
    for identifier, body in facts.delivered:
        payment_id, _, data = event(body)
        row = by_id.get(payment_id)
        if row is not None and (data["amountMinor"], data["currency"]) != (row["amount_minor"], row["currency"]):
            text = f"event {identifier}: {data['amountMinor']}, but the payment is {row['amount_minor']}"
            yield row["booking_id"], text
    yield from _other_money(facts, rows)


def _other_money(facts: Facts, rows: dict[str, dict[str, Any]]) -> Found:
    for operation in facts.operations:
        row = rows.get(operation.answer.get("sessionId", ""))
        if row is not None and operation.kind == "create" and operation.acknowledged:
            answered, stored = round(operation.answer["amount"] * 100), row["amount_minor"]
            if not operation.minor == stored == answered:
                text = f"asked {operation.minor}, answered {answered}, and payment {row['id']} is over {stored}"
                yield operation.booking, text


def _neglected(facts: Facts) -> Found:
    """Overdue payments that no sweeper handles: the time to pay is over, or the creator is gone before a session."""
    for payment in facts.payments:
        if payment["neglected"]:
            yield payment["booking_id"], f"payment {payment['id']} is overdue and PENDING, and no sweeper handles it"


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
    "I13": unknown_money,
    "I14": untrue_sentences,
    "I15": unsettled_differences,
}


def _sessions_of_bookings(facts: Facts, wanted: Callable[[dict[str, Any]], bool]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = defaultdict(list)
    for session in facts.sessions:
        if wanted(session):
            found[booking_of(session)].append(short(session["id"]))
    return found


def _bookings(facts: Facts) -> dict[int, int]:
    return {payment["id"]: payment["booking_id"] for payment in facts.payments}
