"""The state of an account, and the life of a session: open, then finally complete or expired."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush

from tools.sandbox import charges, objects, stripe_errors
from tools.sandbox.cards import NOT_AUTHENTICATED, Card, Decline
from tools.sandbox.fault_injector import FaultInjector
from tools.sandbox.idempotency import IdempotencyKeys
from tools.sandbox.object_store import Json, ObjectStore
from tools.sandbox.stepped_clock import SteppedClock

Cause = Mapping[str, str | None]
"""The request behind an event: ``{"id", "idempotency_key"?}``."""


class NotOpenError(Exception):
    """The session is complete or expired, as ``status`` says."""

    def __init__(self, status: str) -> None:
        super().__init__(f"the session is {status}")
        self.status = status


class AuthenticationNeededError(Exception):
    """The card requires 3-D Secure."""


@dataclass(kw_only=True)
class Notes:
    """Data of a session that is not part of Stripe's object."""

    line_items: list[Json]
    intent_data: Json
    booking: str | None
    challenged: Card | None = None
    """The card of an unanswered 3-D Secure step."""
    payer: Json = field(default_factory=dict)
    """``{"email", "name"}`` of the last attempt."""
    page_is_open: bool = False
    """Whether a payer may have the form open."""
    debited: Json = field(default_factory=dict)
    """The payment method of a delayed payment."""


class PayableSessions:
    """How many sessions of each booking are paid or can be, and the most that there were at any moment."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets all."""
        self._now: Counter[str] = Counter()
        self.most_per_booking = 0

    def add(self, booking: str | None) -> None:
        """A session was opened."""
        if booking is not None:
            self._now[booking] += 1
            self.most_per_booking = max(self.most_per_booking, self._now[booking])

    def remove(self, booking: str | None) -> None:
        """A session expired, or its delayed payment failed."""
        if booking is not None:
            self._now[booking] -= 1


class Account:
    """Sessions, PaymentIntents, charges, events and idempotency keys of one account."""

    def __init__(self, identifier: str, clock: SteppedClock, faults: FaultInjector, payable: PayableSessions) -> None:
        self.id = identifier
        self.faults = faults
        self._clock = clock
        self._payable = payable
        self.reset()

    def reset(self) -> None:
        """Deletes everything."""
        self.sessions = ObjectStore("checkout.session")
        self.events = ObjectStore("event")
        self.intents: dict[str, Json] = {}
        self.charges: dict[str, Json] = {}
        self.refunds: dict[str, Json] = {}
        self.disputes: dict[str, Json] = {}
        self.keys = IdempotencyKeys()
        self._notes: dict[str, Notes] = {}
        self._deadlines: list[tuple[int, str]] = []
        self._session_of: dict[str, str] = {}
        self._event_delays: dict[str, tuple[float, float]] = {}

    def now(self) -> int:
        """The sandbox's time in unix seconds."""
        return self._clock.now()

    def expire_due(self) -> None:
        """Expires overdue sessions, for good. Every call does this first; it costs a look at the earliest deadline."""
        now = self.now()
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline, identifier = heappop(self._deadlines)
            if self.session(identifier)["status"] == "open":
                self._expire(identifier, moment=deadline, cause=None)

    def session(self, identifier: str) -> Json:
        """The current session; 404 if there is none."""
        found = self.sessions.get(identifier)
        if found is None:
            raise stripe_errors.no_such("checkout.session", identifier, "session")
        return found

    def notes(self, identifier: str) -> Notes:
        """The session's notes."""
        return self._notes[identifier]

    def intent(self, identifier: str) -> Json:
        """The current PaymentIntent; 404 if there is none."""
        found = self.intents.get(identifier)
        if found is None:
            raise stripe_errors.no_such("payment_intent", identifier, "intent")
        return found

    def session_of(self, intent: str) -> str | None:
        """The id of the session whose PaymentIntent this is."""
        return self._session_of.get(intent)

    def add(self, session: Json, *, line_items: list[Json], intent_data: Json) -> Json:
        """Opens a session. Stripe has no event for that."""
        booking = session["metadata"].get("bookingId") or session["client_reference_id"]
        self.sessions.add(session, group="open")
        self._notes[session["id"]] = Notes(line_items=line_items, intent_data=intent_data, booking=booking)
        heappush(self._deadlines, (session["expires_at"], session["id"]))
        self._payable.add(booking)
        return session

    def set_metadata(self, identifier: str, metadata: dict[str, str]) -> Json:
        """Replaces the session's metadata."""
        return self.change(identifier, metadata=metadata)

    def expire(self, identifier: str, cause: Cause) -> Json:
        """Expires an open session on request; 400 in Stripe's words (observed) for any other."""
        status = self.session(identifier)["status"]
        if status != "open":
            message = (
                'Only Checkout Sessions with a status in ["open"] can be expired. '
                f"This Checkout Session has a status of `{status}`."
            )
            raise stripe_errors.invalid(message)
        return self._expire(identifier, moment=self.now(), cause=cause)

    def pay(self, identifier: str, card: Card, payer: Json, *, authenticated: bool | None = None) -> Json:
        """One attempt to pay with a card. The session afterwards: complete, or still open after a decline.

        Args:
            identifier: The session.
            card: The card of the attempt.
            payer: ``{"email", "name"}`` from the page.
            authenticated: The payer's answer to 3-D Secure; ``None`` before the step.

        Raises:
            NotOpenError: the session is complete or expired.
            AuthenticationNeededError: the card requires 3-D Secure; its PaymentIntent now ``requires_action``.
            ApiError: 404 for an unknown session.
        """
        session = self.session(identifier)
        if session["status"] != "open":
            raise NotOpenError(session["status"])
        notes = self._notes[identifier]
        if session["amount_total"] == 0:
            return self.complete(identifier, payer, payment_status="no_payment_required")
        intent, notes.payer = self.intent_of(session, notes), payer
        if card.authenticates and authenticated is None:
            notes.challenged = card
            self._challenge(intent)
            raise AuthenticationNeededError
        notes.challenged = None
        if card.authenticates and not authenticated:
            return self._decline(session, intent, card, NOT_AUTHENTICATED, payer)
        if card.decline is not None:
            return self._decline(session, intent, card, card.decline, payer)
        return self._succeed(identifier, intent, card, payer)

    def intent_of(self, session: Json, notes: Notes) -> Json:
        """The session's PaymentIntent, created at the first attempt and reused for later ones."""
        if session["payment_intent"] is not None:
            return self.intents[session["payment_intent"]]
        intent = objects.payment_intent(session, notes.intent_data, self.now())
        self.intents[intent["id"]] = intent
        self._session_of[intent["id"]] = session["id"]
        self.change(session["id"], payment_intent=intent["id"])
        self.add_event("payment_intent.created", intent)
        return intent

    def _challenge(self, intent: Json) -> None:
        action = {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}}
        changed = self.change_intent(intent, status="requires_action", next_action=action, last_payment_error=None)
        self.add_event("payment_intent.requires_action", changed)

    def _decline(self, session: Json, intent: Json, card: Card, decline: Decline, payer: Json) -> Json:
        method = objects.payment_method(card, payer, created=self.now())
        charge = None if decline is NOT_AUTHENTICATED else self.charge(intent, method, failure=decline)["id"]
        error = objects.payment_error(decline, method, charge)
        changes = {"last_payment_error": error, "latest_charge": charge, "next_action": None}
        changed = self.change_intent(intent, status="requires_payment_method", **changes)
        self.add_event("payment_intent.payment_failed", changed)
        return self.session(session["id"])

    def charge(self, intent: Json, method: Json, *, failure: Decline | None = None) -> Json:
        """The charge of an attempt that reached the payer's bank."""
        charge = charges.charge(intent, method, created=self.now(), failure=failure)
        self.charges[charge["id"]] = charge
        return charge

    def _succeed(self, identifier: str, intent: Json, card: Card, payer: Json) -> Json:
        method = objects.payment_method(card, payer, created=self.now())
        charge = self.charge(intent, method)["id"]
        cleared = {"last_payment_error": None, "next_action": None, "latest_charge": charge}
        if intent["capture_method"] == "manual":
            held = {"status": "requires_capture", "amount_capturable": intent["amount"]}
            changed = self.change_intent(intent, payment_method=method["id"], **cleared, **held)
            self.add_event("payment_intent.amount_capturable_updated", changed)
            return self.complete(identifier, payer, payment_status="unpaid")
        taken = {"status": "succeeded", "amount_received": intent["amount"]}
        changed = self.change_intent(intent, payment_method=method["id"], **cleared, **taken)
        self.add_event("payment_intent.succeeded", changed)
        return self.complete(identifier, payer, payment_status="paid")

    def complete(self, identifier: str, payer: Json, *, payment_status: str) -> Json:
        """Completes an open session."""
        known = {"email": payer.get("email"), "name": payer.get("name") or ""}
        details = objects.customer_details(**known, given=payer.get("address"))
        collected = dict.fromkeys(("business_name", "individual_name", "shipping_details"))
        changes = {"customer_details": details, "collected_information": collected, "url": None}
        session = self.change(identifier, status="complete", payment_status=payment_status, **changes)
        self.sessions.move(identifier, old="open", new="complete")
        self.add_event("checkout.session.completed", session)
        return session

    def _expire(self, identifier: str, *, moment: int, cause: Cause | None) -> Json:
        """Expires an open session and cancels the PaymentIntent of a failed attempt."""
        session = self.change(identifier, status="expired", url=None)
        self.sessions.move(identifier, old="open", new="expired")
        notes = self._notes[identifier]
        notes.challenged = None
        self.no_longer_payable(identifier)
        if session["payment_intent"] is not None:
            gone = {"status": "canceled", "canceled_at": moment, "cancellation_reason": "automatic"}
            intent = self.change_intent(self.intents[session["payment_intent"]], next_action=None, **gone)
            self.add_event("payment_intent.canceled", intent, moment=moment, cause=cause)
        self.add_event("checkout.session.expired", session, moment=moment, cause=cause)
        return session

    def no_longer_payable(self, identifier: str) -> None:
        """The session is neither paid nor can it be paid any more."""
        self._payable.remove(self._notes[identifier].booking)

    def change(self, identifier: str, **changes: object) -> Json:
        """Stores a changed session."""
        changed = {**self.session(identifier), **changes}
        self.sessions.replace(changed)
        return changed

    def change_intent(self, intent: Json, **changes: object) -> Json:
        """Stores a changed PaymentIntent."""
        changed = self.intents[intent["id"]] = {**intent, **changes}
        return changed

    def add_event(
        self,
        kind: str,
        subject: Json,
        *,
        moment: int | None = None,
        cause: Cause | None = None,
        previous: Json | None = None,
    ) -> None:
        """Adds the event of a change; ``moment`` is when it happened, if not now."""
        created = self.now() if moment is None else moment
        event = objects.event(kind, subject, created=created, cause=cause, previous=previous)
        self.events.add(event, group=kind)
        if late_seconds := self.faults.settings.events_late_seconds:
            self._event_delays[event["id"]] = (self._clock.elapsed(), late_seconds)

    def is_listed(self, event: Json) -> bool:
        """Whether the list has this event by now: its delay is the one it was added with, or a shorter present one."""
        added_at, late_seconds = self._event_delays.get(event["id"], (0.0, 0.0))
        return self._clock.elapsed() >= added_at + min(late_seconds, self.faults.settings.events_late_seconds)
