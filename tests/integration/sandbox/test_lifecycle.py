"""A session's life, as the real SDK sees it."""

import pytest
import stripe

from deploy.sandbox import cards
from tests.integration.sandbox.harness import Running, line


async def test_a_fresh_session_is_open_unpaid_and_has_no_payment_intent(
    sandbox: Running, client: stripe.StripeClient
) -> None:
    session = await client.v1.checkout.sessions.create_async(sandbox.create_params())
    assert (session.status, session.payment_status, session.payment_intent) == ("open", "unpaid", None)
    assert (session.amount_total, session.currency) == (44997, "inr")
    assert len(session.id) == 66
    assert session.url is not None
    assert session.url.startswith(f"{sandbox.url}/c/pay/{session.id}#")
    assert 350 <= len(session.url) <= 450
    assert (await client.v1.events.list_async()).data == []


@pytest.mark.parametrize("card", cards.TEST_CARDS, ids=lambda card: card.label)
async def test_every_test_card_does_what_stripe_says(
    sandbox: Running, client: stripe.StripeClient, card: cards.Card
) -> None:
    session = await client.v1.checkout.sessions.create_async(sandbox.create_params())
    answers = {"authentication": "complete"} if card.authenticates else {}
    await sandbox.pay(session.id, cards.grouped(card.number), **answers)

    after = await client.v1.checkout.sessions.retrieve_async(session.id, {"expand": ["payment_intent"]})
    intent = after.payment_intent
    assert isinstance(intent, stripe.PaymentIntent)
    events = [event.type for event in (await client.v1.events.list_async()).data]
    if card.decline is None:
        assert (after.status, after.payment_status, after.url) == ("complete", "paid", None)
        assert (intent.status, intent.amount_received, intent.last_payment_error) == ("succeeded", 44997, None)
        assert events == ["checkout.session.completed", "payment_intent.succeeded", "payment_intent.created"]
    else:
        assert (after.status, after.payment_status) == ("open", "unpaid")
        assert intent.status == "requires_payment_method"
        assert intent.last_payment_error is not None
        assert intent.last_payment_error.code == card.decline.code
        assert intent.last_payment_error.to_dict().get("decline_code") == card.decline.decline_code
        assert events == ["payment_intent.payment_failed", "payment_intent.created"]


@pytest.mark.parametrize(
    ("number", "code"), [("4111111111111111", "card_declined"), ("4111111111111112", "incorrect_number")]
)
async def test_a_card_that_is_no_test_card_never_pays(
    sandbox: Running, client: stripe.StripeClient, number: str, code: str
) -> None:
    session = await client.v1.checkout.sessions.create_async(sandbox.create_params())
    after = await sandbox.pay(session.id, number)
    assert after["status"] == "open"
    intent = await client.v1.payment_intents.retrieve_async(after["payment_intent"])
    assert intent.last_payment_error is not None
    assert intent.last_payment_error.code == code


async def test_a_failed_authentication_leaves_the_session_open(sandbox: Running, client: stripe.StripeClient) -> None:
    session = await client.v1.checkout.sessions.create_async(sandbox.create_params())
    after = await sandbox.pay(session.id, "4000 0000 0000 3220", authentication="fail")
    assert after["status"] == "open"
    intent = await client.v1.payment_intents.retrieve_async(after["payment_intent"])
    assert intent.last_payment_error is not None
    assert intent.last_payment_error.code == "payment_intent_authentication_failure"


async def test_a_payer_may_try_again_on_the_same_payment_intent(sandbox: Running, client: stripe.StripeClient) -> None:
    session = await client.v1.checkout.sessions.create_async(sandbox.create_params())
    declined = await sandbox.pay(session.id, "4000 0000 0000 0002")
    paid = await sandbox.pay(session.id)
    assert paid["status"] == "complete"
    assert paid["payment_intent"] == declined["payment_intent"]


async def test_metadata_of_the_session_is_not_copied_to_the_payment_intent(
    sandbox: Running, client: stripe.StripeClient
) -> None:
    session = await client.v1.checkout.sessions.create_async(sandbox.create_params())
    paid = await sandbox.pay(session.id)
    intent = await client.v1.payment_intents.retrieve_async(paid["payment_intent"])
    assert intent.metadata.to_dict() == {"paymentId": "70"}


async def test_an_open_session_can_be_expired_once(sandbox: Running, client: stripe.StripeClient) -> None:
    session = await client.v1.checkout.sessions.create_async(sandbox.create_params())
    expired = await client.v1.checkout.sessions.expire_async(session.id)
    assert (expired.status, expired.payment_status, expired.url) == ("expired", "unpaid", None)
    with pytest.raises(stripe.InvalidRequestError, match="has a status of `expired`") as refused:
        await client.v1.checkout.sessions.expire_async(session.id)
    assert refused.value.http_status == 400
    event = (await client.v1.events.list_async({"type": "checkout.session.expired"})).data[0]
    assert event.data.object.id == session.id
    assert event.request is not None
    assert event.request.id == expired.last_response.request_id


async def test_a_complete_session_cannot_be_expired_or_paid_again(
    sandbox: Running, client: stripe.StripeClient
) -> None:
    session = await client.v1.checkout.sessions.create_async(sandbox.create_params())
    await sandbox.pay(session.id)
    with pytest.raises(stripe.InvalidRequestError, match="has a status of `complete`"):
        await client.v1.checkout.sessions.expire_async(session.id)
    await sandbox.pay(session.id, expected=409)


async def test_the_payment_intent_of_a_declined_attempt_is_canceled_with_the_session(
    sandbox: Running, client: stripe.StripeClient
) -> None:
    session = await client.v1.checkout.sessions.create_async(sandbox.create_params())
    declined = await sandbox.pay(session.id, "4000 0000 0000 0002")
    await client.v1.checkout.sessions.expire_async(session.id)
    intent = await client.v1.payment_intents.retrieve_async(declined["payment_intent"])
    assert intent.status == "canceled"


async def test_time_expires_a_session_and_tells_an_event(sandbox: Running, client: stripe.StripeClient) -> None:
    session = await client.v1.checkout.sessions.create_async(sandbox.create_params())
    await sandbox.control("clock", {"advance_seconds": 3599})
    assert (await client.v1.checkout.sessions.retrieve_async(session.id)).status == "open"
    await sandbox.control("clock", {"advance_seconds": 2})
    assert (await client.v1.checkout.sessions.retrieve_async(session.id)).status == "expired"
    events = (await client.v1.events.list_async({"types": ["checkout.session.expired"]})).data
    assert [(event.data.object.id, event.created) for event in events] == [(session.id, session.expires_at)]


async def test_an_event_keeps_the_object_as_it_was(sandbox: Running, client: stripe.StripeClient) -> None:
    session = await client.v1.checkout.sessions.create_async(sandbox.create_params())
    await sandbox.pay(session.id)
    await client.v1.checkout.sessions.update_async(session.id, {"metadata": {"later": "yes"}})
    listed = (await client.v1.events.list_async({"type": "checkout.session.completed"})).data[0]
    event = await client.v1.events.retrieve_async(listed.id)
    assert event.data.object.metadata.to_dict() == {"bookingId": "7"}


async def test_manual_capture_completes_the_session_without_payment(
    sandbox: Running, client: stripe.StripeClient
) -> None:
    params = sandbox.create_params(payment_intent_data={"capture_method": "manual"})
    session = await client.v1.checkout.sessions.create_async(params)
    after = await sandbox.pay(session.id)
    assert (after["status"], after["payment_status"]) == ("complete", "unpaid")
    intent = await client.v1.payment_intents.retrieve_async(after["payment_intent"])
    assert (intent.status, intent.amount_capturable) == ("requires_capture", 44997)


async def test_a_free_session_completes_without_a_card(sandbox: Running, client: stripe.StripeClient) -> None:
    session = await client.v1.checkout.sessions.create_async(sandbox.create_params(line_items=[line(0)]))
    after = await sandbox.pay(session.id)
    assert (after["status"], after["payment_status"]) == ("complete", "no_payment_required")
    assert after["payment_intent"] is None


async def test_metadata_is_merged_unset_and_cleared(sandbox: Running, client: stripe.StripeClient) -> None:
    update = client.v1.checkout.sessions.update_async
    session = await client.v1.checkout.sessions.create_async(sandbox.create_params(metadata={"a": "1", "b": "2"}))
    merged = await update(session.id, {"metadata": {"a": "", "c": "3"}})
    assert merged.metadata is not None
    assert merged.metadata.to_dict() == {"b": "2", "c": "3"}
    cleared = await update(session.id, {"metadata": ""})
    assert cleared.metadata is not None
    assert cleared.metadata.to_dict() == {}


async def test_line_items_are_there_when_they_are_asked_for(sandbox: Running, client: stripe.StripeClient) -> None:
    params = sandbox.create_params(line_items=[line(1000, quantity=3), line(250, name="Snack")])
    session = await client.v1.checkout.sessions.create_async({**params, "expand": ["line_items"]})
    assert session.amount_total == 3250
    assert session.line_items is not None
    assert [(item.description, item.quantity, item.amount_total) for item in session.line_items.data] == [
        ("3 seats", 3, 3000),
        ("Snack", 1, 250),
    ]
    plain = await client.v1.checkout.sessions.retrieve_async(session.id)
    assert "line_items" not in plain.to_dict()


@pytest.mark.parametrize("identifier", ["cs_test_nobody", "cs_live_nobody", "x"])
async def test_an_unknown_session_is_404(client: stripe.StripeClient, identifier: str) -> None:
    with pytest.raises(stripe.InvalidRequestError, match=rf"No such checkout\.session: '{identifier}'") as refused:
        await client.v1.checkout.sessions.retrieve_async(identifier)
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")


async def test_unknown_payment_intents_and_events_are_404(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="No such payment_intent: 'pi_x'"):
        await client.v1.payment_intents.retrieve_async("pi_x")
    with pytest.raises(stripe.InvalidRequestError, match="No such event: 'evt_x'"):
        await client.v1.events.retrieve_async("evt_x")
