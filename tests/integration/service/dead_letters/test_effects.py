"""A replay says what becomes of the checkout that its booking has by now."""

from datetime import UTC, datetime, timedelta

from contracts.commands import CreateCheckout
from service.adapters.postgres import Database, PostgresStore
from service.application.policy import fingerprint
from service.domain.money import Money
from service.domain.outcomes import Expired, Opened, Paid
from service.domain.payment import Payment
from service.domain.status import decide
from tests.integration.service.dead_letters.conftest import Desk
from tests.kit.service import a_draft, context, message_key

BODY = b'{"bookingId":7007,"userId":5,"amount":%s}'


async def test_a_replay_says_what_it_replaces_repeats_or_leaves(desk: Desk) -> None:
    database, now = Database(desk.database_url), datetime.now(UTC)
    store = PostgresStore(database)
    sent = fingerprint(CreateCheckout.model_validate({"bookingId": 7007, "userId": 5, "amount": "449.97"}))
    draft = a_draft(booking_id=7007, created_at=now, sent=sent)
    payment = (await store.begin(draft, keys=[message_key()], request_id="r")).payment
    opened = Opened(session_id="cs_test_effects", payment_url="https://pay.example/", expires_at=now)
    payment = await changed(store, payment, opened)
    what = f"payment {payment.id} of 449.97 INR"
    await desk.park(BODY % b"100", message_id="old", timestamp=now - timedelta(days=3))
    await desk.park(BODY % b"100", message_id="new", timestamp=now)
    await desk.park(BODY % b"449.970", message_id="same", timestamp=now - timedelta(days=3))
    await desk.park(b"{}", message_id="odd")
    said = await desk.says("replay", "--dry-run", "--all")
    effects = [f"; it is older than {what}, which stays", f"; it replaces {what}", f"; it repeats {what}", ""]
    lines = said.out.splitlines()
    assert lines[-1] == "1 kept, 3 would be replayed."
    assert [line.partition(";")[1] + line.partition(";")[2] for line in lines[:-1]] == effects
    assert lines[0].startswith("kept, its booking has a newer checkout (--force sends it all the same): ")
    payment = await changed(store, payment, Paid(money=Money(1, "inr"), reference=payment.reference, livemode=False))
    said = await desk.says("replay", "new", "--dry-run")
    assert said.out.startswith("kept, a person must look at its booking first (--force sends it all the same): ")
    assert said.out.splitlines()[0].endswith(f"; {what} needs a person (paid_differently)")
    paid = Paid(money=payment.money, reference=payment.reference, livemode=False)
    await changed(store, payment, paid)
    said = await desk.says("replay", "old", "--force", "--actor", "ana")
    assert said.out.splitlines()[0].endswith(f"; its booking is paid by {what}")
    await desk.sent()
    await database.close()


async def test_a_replay_of_what_expired_says_that_it_would_be_done(desk: Desk) -> None:
    """It is sent without a deadline: kept for nobody waits for it, not because it would fail."""
    await desk.park(BODY.replace(b"7007", b"7008") % b"100", headers={"x-reason": "expired"})
    said = await desk.says("replay", "m-1", "--dry-run")
    assert said.out.startswith("kept, its sender has left (--force sends it all the same): ")
    assert said.out.splitlines()[0].endswith("; it opens a checkout that nobody waits for")
    await desk.parked()


async def changed(store: PostgresStore, payment: Payment, outcome: Opened | Paid | Expired) -> Payment:
    change = decide(payment, outcome, at=datetime.now(UTC))
    assert change is not None
    return await store.record(change, context=context())
