"""The command line of `payment-service`. Nothing is imported here that `--help` would wait for."""

import argparse
from typing import Any, Final

from runtime import command_start
from service.cli import argument_types as types

_IDS: Final = "a payment id, a transaction id (cs_...), booking:<id> or request:<id>"
_MOMENT: Final = "a time (2026-11-30T10:00:00Z; without a zone it is UTC) or an age (90s, 15m, 2h, 7d)"
_STATUS: Final = "Exit status 0: done, 1: failed, or found what was looked for, 2: wrong usage or settings."
QUEUES: Final = ("checkout.create", "checkout.verify", "payment.status")
STATUSES: Final = ("PENDING", "COMPLETED", "FAILED")
REASONS: Final = ("expired", "replaced", "refused", "closed")
ATTENTION: Final = ("any", "paid_after_failed", "paid_differently", "unsettled", "unknown_session")


def parser() -> argparse.ArgumentParser:
    """All commands."""
    found = argparse.ArgumentParser(prog="payment-service", description="BookTicket's payment service.", epilog=_STATUS)
    command_start.add_version(found)
    commands = found.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("run", help="consume commands and publish events until SIGTERM")
    _json(commands.add_parser("migrate", help="bring the database to the tables that this version needs"))
    could = "whether the service could start here: settings, database, RabbitMQ, Stripe account"
    _json(commands.add_parser("check", help=could))
    _json(commands.add_parser("move-account", help="let the database belong to the Stripe account of another key"))
    shown = commands.add_parser("show", help="print payments with their journal")
    shown.add_argument("id", help=_IDS)
    _json(shown, "a JSON object a line, one for each payment")
    _add_list(commands)
    _add_events(commands)
    _add_close(commands)
    _add_reconcile(commands)
    _add_dead_letters(commands)
    return found


def _json(parser: argparse.ArgumentParser, what: str = "print one JSON object") -> None:
    parser.add_argument("--json", action="store_true", help=what)


def _add_list(commands: Any) -> None:
    listed = commands.add_parser("list", help="payments, the newest first", epilog="All of it must match.")
    listed.add_argument("--booking", type=types.identity, metavar="ID", dest="booking_id")
    listed.add_argument("--user", type=types.identity, metavar="ID", dest="user_id")
    listed.add_argument("--status", type=str.upper, choices=STATUSES)
    listed.add_argument("--reason", type=str.lower, choices=REASONS, help="of FAILED")
    attention = "that a person must look at; of this reason only, if one is given"
    listed.add_argument("--attention", type=str.lower, nargs="?", const="any", choices=ATTENTION, help=attention)
    listed.add_argument("--amount", type=types.amount, help="in major units, such as 449.97")
    listed.add_argument("--currency", type=types.currency, metavar="CODE")
    listed.add_argument("--since", type=types.moment_or_age, metavar="TIME", help=f"begun since: {_MOMENT}")
    listed.add_argument("--until", type=types.moment_or_age, metavar="TIME", help="begun before: as --since")
    listed.add_argument("--limit", type=types.count, default=50, metavar="N", help="at most N; default 50")
    after = "go on after this payment, the last of the page before"
    listed.add_argument("--after", type=types.identity, metavar="ID", help=after)
    _json(listed, "a JSON object a line, one for each payment")


def _add_events(commands: Any) -> None:
    events = commands.add_parser("events", help="events of the outbox, and when each was published; the newest last")
    events.add_argument("id", nargs="?", help=f"of these payments only: {_IDS}")
    events.add_argument("--unpublished", action="store_true", help="only those that wait to be published")
    events.add_argument("--limit", type=types.count, default=50, metavar="N", help="the newest N; default 50")
    events.add_argument("--follow", action="store_true", help="go on with each that is written or published")
    _json(events, "a JSON object a line, one for each event")


def _add_close(commands: Any) -> None:
    closed = commands.add_parser("close", help="end a payment that cannot end by itself; its booking is free then")
    closed.add_argument("id", help=_IDS)
    closed.add_argument("--reason", required=True, type=types.reason, metavar="TEXT", help="why, for the journal")
    closed.add_argument("--by", type=types.actor, metavar="NAME", help="who does it (default: the user of the system)")
    _json(closed)


def _add_reconcile(commands: Any) -> None:
    compared = commands.add_parser(
        "reconcile",
        help="compare Stripe's checkout sessions with the payments here",
        description="Compares, in both directions, what was created in a time. Exit status 0: no difference is left, "
        "1: some are, or the comparison was not finished, 2: wrong usage. It is safe to repeat at any time.",
    )
    age = types.moment_or_age
    compared.add_argument("--since", type=age, default="24h", metavar="TIME", help=f"{_MOMENT}; default 24h")
    compared.add_argument("--until", type=age, metavar="TIME", help="as --since; default now")
    compared.add_argument("--fix", action="store_true", help="mend what may be mended, and call a person for the rest")
    _json(compared, "a JSON object a line: the differences, then the totals")


def _add_dead_letters(commands: Any) -> None:
    parser = commands.add_parser("dead-letters", help="look at commands that could not be done, and decide about them")
    actions = parser.add_subparsers(dest="action", required=True, metavar="action")
    looked = actions.add_parser("list", help="a line each, and how many per queue and reason; changes nothing")
    looked.add_argument("--limit", type=types.count, metavar="N", help="at most N lines (the totals count all)")
    _add_filters(looked)
    _json(looked, "a JSON object a line, one for each, without totals")
    shown = actions.add_parser("show", help="all about one; changes nothing")
    shown.add_argument("ids", nargs=1, metavar="message-id")
    _json(shown)
    for action, does in (("replay", "send them again as new commands"), ("drop", "throw them away for good")):
        changed = actions.add_parser(action, help=f"{does}; with a line in the operator journal for each")
        changed.add_argument("ids", nargs="*", metavar="message-id")
        changed.add_argument("--all", action="store_true", help="every dead letter of every queue")
        changed.add_argument("--yes", action="store_true", help="do not ask whether --all is meant")
        changed.add_argument("--dry-run", action="store_true", help="only say what would be done")
        who = "who does it (default: the user of the system)"
        changed.add_argument("--actor", type=types.actor, metavar="NAME", help=who)
        _add_filters(changed)
        _json(changed, "a JSON object a line, one for each")
        if action == "replay":
            changed.add_argument("--force", action="store_true", help="also what is of no use, as far as is known")


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--queue", choices=QUEUES, help="of this command only")
    parser.add_argument("--reason", help="dead-lettered for this reason only, as list prints it")
    older = "dead-lettered longer ago than this"
    parser.add_argument("--older-than", type=types.duration, metavar="30m|1h|2d", help=older)
