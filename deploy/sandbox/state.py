"""What the one account of the sandbox remembers, and how a session moves: open, then complete or expired for good."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush

from deploy.sandbox import errors, ids, objects
from deploy.sandbox.cards import NOT_AUTHENTICATED, Card, Decline
from deploy.sandbox.idempotency import Keys
from deploy.sandbox.shelf import Json, Shelf

Cause = Mapping[str, str | None]
"""The request behind an event: ``{"id", "idempotency_key"?}``."""


class NotOpenError(Exception):
    """The session takes no money any more; ``status`` says why."""

    def __init__(self, status: str) -> None:
        super().__init__(f"the session is {status}")
        self.status = status


class AuthenticationNeededError(Exception):
    """The bank wants to see the payer first (3-D Secure)."""


@dataclass(kw_only=True)
class Notes:
    """What belongs to a session and is not part of Stripe's object."""

    line_items: list[Json]
    intent_data: Json
    booking: str | None
    challenged: Card | None = None
    """The card whose 3-D Secure step the payer has not answered yet."""
    payer: Json = field(default_factory=dict)
    """``{"email", "name"}`` of the attempt that waits for that step."""


class Account:
    """Sessions, PaymentIntents, events and idempotency keys, and a clock that tests can move forward."""

    def __init__(self, wall_clock: Callable[[], float] = time.time) -> None:
        self._wall_clock = wall_clock
        self.reset()

    def reset(self) -> None:
        """Forget everything, and set the clock right."""
        self._ahead_seconds = 0
        self.sessions = Shelf("checkout.session")
        self.events = Shelf("event")
        self.intents: dict[str, Json] = {}
        self.keys = Keys()
        self._notes: dict[str, Notes] = {}
        self._deadlines: list[tuple[int, str]] = []
        self._payable: Counter[str] = Counter()
        self.max_payable_per_booking = 0

    def now(self) -> int:
        """The sandbox's time in unix seconds."""
        return int(self._wall_clock()) + self._ahead_seconds

    def advance(self, seconds: int) -> int:
        """Move the clock forward; sessions whose time has come expire. The new time."""
        self._ahead_seconds += seconds
        self.expire_due()
        return self.now()

    def expire_due(self) -> None:
        """Expire what is overdue. Every call does this first; it costs a look at the earliest deadline."""
        now = self.now()
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline, identifier = heappop(self._deadlines)
            if self.session(identifier)["status"] == "open":
                self._expire(identifier, moment=deadline, cause=None)

    def session(self, identifier: str) -> Json:
        """The session as it is now; 404 if there is none."""
        found = self.sessions.get(identifier)
        if found is None:
            raise errors.no_such("checkout.session", identifier, "session")
        return found

    def notes(self, identifier: str) -> Notes:
        """What is remembered beside the session."""
        return self._notes[identifier]

    def intent(self, identifier: str) -> Json:
        """The PaymentIntent as it is now; 404 if there is none."""
        found = self.intents.get(identifier)
        if found is None:
            raise errors.no_such("payment_intent", identifier, "intent")
        return found

    def add(self, session: Json, *, line_items: list[Json], intent_data: Json) -> Json:
        """Open a session. Stripe tells no event of it."""
        booking = session["metadata"].get("bookingId") or session["client_reference_id"]
        self.sessions.add(session, group="open")
        self._notes[session["id"]] = Notes(line_items=line_items, intent_data=intent_data, booking=booking)
        heappush(self._deadlines, (session["expires_at"], session["id"]))
        if booking is not None:
            self._payable[booking] += 1
            self.max_payable_per_booking = max(self.max_payable_per_booking, self._payable[booking])
        return session

    def set_metadata(self, identifier: str, metadata: dict[str, str]) -> Json:
        """Replace the session's metadata."""
        return self._change(identifier, metadata=metadata)

    def expire(self, identifier: str, cause: Cause) -> Json:
        """Expire an open session on request; 400 in Stripe's words (observed) for any other."""
        status = self.session(identifier)["status"]
        if status != "open":
            message = (
                'Only Checkout Sessions with a status in ["open"] can be expired. '
                f"This Checkout Session has a status of `{status}`."
            )
            raise errors.invalid(message)
        return self._expire(identifier, moment=self.now(), cause=cause)

    def pay(self, identifier: str, card: Card, payer: Json, *, authenticated: bool | None = None) -> Json:
        """One attempt to pay with a card. The session afterwards: complete, or still open after a decline.

        Args:
            identifier: The session.
            card: What is in the card field.
            payer: ``{"email", "name"}`` as the page collected them.
            authenticated: The payer's answer to 3-D Secure; ``None`` if nobody was asked yet.

        Raises:
            NotOpenError: the session is complete or expired.
            AuthenticationNeededError: the card wants 3-D Secure; its PaymentIntent now ``requires_action``.
            ApiError: 404 for an unknown session.
        """
        session = self.session(identifier)
        if session["status"] != "open":
            raise NotOpenError(session["status"])
        notes = self._notes[identifier]
        if session["amount_total"] == 0:
            return self._complete(identifier, payer, payment_status="no_payment_required")
        intent = self._intent_of(session, notes)
        if card.authenticates and authenticated is None:
            notes.challenged, notes.payer = card, payer
            self._challenge(intent)
            raise AuthenticationNeededError
        notes.challenged = None
        if card.authenticates and not authenticated:
            return self._decline(session, intent, card, NOT_AUTHENTICATED, payer)
        if card.decline is not None:
            return self._decline(session, intent, card, card.decline, payer)
        return self._succeed(identifier, intent, card, payer)

    def _intent_of(self, session: Json, notes: Notes) -> Json:
        """The session's PaymentIntent, made at the first attempt and used for all that follow."""
        if session["payment_intent"] is not None:
            return self.intents[session["payment_intent"]]
        intent = objects.payment_intent(session, notes.intent_data, self.now())
        self.intents[intent["id"]] = intent
        self._change(session["id"], payment_intent=intent["id"])
        self._tell("payment_intent.created", intent)
        return intent

    def _challenge(self, intent: Json) -> None:
        action = {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}}
        changed = self._change_intent(intent, status="requires_action", next_action=action, last_payment_error=None)
        self._tell("payment_intent.requires_action", changed)

    def _decline(self, session: Json, intent: Json, card: Card, decline: Decline, payer: Json) -> Json:
        error = objects.payment_error(card, decline, payer, created=self.now())
        changes = {"last_payment_error": error, "latest_charge": error.get("charge"), "next_action": None}
        changed = self._change_intent(intent, status="requires_payment_method", **changes)
        self._tell("payment_intent.payment_failed", changed)
        return self.session(session["id"])

    def _succeed(self, identifier: str, intent: Json, card: Card, payer: Json) -> Json:
        method = objects.payment_method(card, payer, created=self.now())
        charge = ids.object_id("ch")
        cleared = {"last_payment_error": None, "next_action": None, "latest_charge": charge}
        if intent["capture_method"] == "manual":
            held = {"status": "requires_capture", "amount_capturable": intent["amount"]}
            changed = self._change_intent(intent, payment_method=method["id"], **cleared, **held)
            self._tell("payment_intent.amount_capturable_updated", changed)
            return self._complete(identifier, payer, payment_status="unpaid")
        taken = {"status": "succeeded", "amount_received": intent["amount"]}
        changed = self._change_intent(intent, payment_method=method["id"], **cleared, **taken)
        self._tell("payment_intent.succeeded", changed)
        return self._complete(identifier, payer, payment_status="paid")

    def _complete(self, identifier: str, payer: Json, *, payment_status: str) -> Json:
        details = objects.customer_details(email=payer.get("email"), name=payer.get("name") or "")
        collected = dict.fromkeys(("business_name", "individual_name", "shipping_details"))
        changes = {"customer_details": details, "collected_information": collected, "url": None}
        session = self._change(identifier, status="complete", payment_status=payment_status, **changes)
        self.sessions.move(identifier, old="open", new="complete")
        self._tell("checkout.session.completed", session)
        return session

    def _expire(self, identifier: str, *, moment: int, cause: Cause | None) -> Json:
        """Expire an open session; the PaymentIntent of a failed attempt is canceled with it."""
        session = self._change(identifier, status="expired", url=None)
        self.sessions.move(identifier, old="open", new="expired")
        notes = self._notes[identifier]
        notes.challenged = None
        if notes.booking is not None:
            self._payable[notes.booking] -= 1
        if session["payment_intent"] is not None:
            gone = {"status": "canceled", "canceled_at": moment, "cancellation_reason": "automatic"}
            intent = self._change_intent(self.intents[session["payment_intent"]], next_action=None, **gone)
            self._tell("payment_intent.canceled", intent, moment=moment, cause=cause)
        self._tell("checkout.session.expired", session, moment=moment, cause=cause)
        return session

    def _change(self, identifier: str, **changes: object) -> Json:
        changed = {**self.session(identifier), **changes}
        self.sessions.replace(changed)
        return changed

    def _change_intent(self, intent: Json, **changes: object) -> Json:
        changed = self.intents[intent["id"]] = {**intent, **changes}
        return changed

    def _tell(self, kind: str, subject: Json, *, moment: int | None = None, cause: Cause | None = None) -> None:
        created = self.now() if moment is None else moment
        self.events.add(objects.event(kind, subject, created=created, cause=cause), group=kind)
