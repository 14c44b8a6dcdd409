"""What identifies a create, promise by promise: what its caller sent, and never a setting of today's.

For shops whose clocks and settings a test controls: on fakes and on real ports.
"""

from typing import Any, Final
from uuid import uuid4

from tests.kit.scenarios import Scenario, parameters
from tests.kit.service import SHOP, policy
from tests.kit.shops import BOOKINGS, Shop

_ALL: Final[list[Scenario]] = []


def _scenario(scenario: Scenario) -> Scenario:
    _ALL.append(scenario)
    return scenario


def identity_scenarios() -> dict[str, Any]:
    """As `pytest.mark.parametrize` takes them."""
    return parameters(_ALL)


OTHER_RULES: Final[list[dict[str, Any]]] = [
    {"currency": "usd"},
    {"currency": "jpy"},  # in which 449.97 cannot be charged
    {"success_url": f"{SHOP}/elsewhere", "cancel_url": f"{SHOP}/elsewhere"},
    {"origins": frozenset({"https://new.example:443"})},
    {"window_seconds": 60},
    {"window_seconds": 7200},
]
INITIAL: Final = {name: getattr(policy(), name) for rules in OTHER_RULES for name in rules}


@_scenario
async def a_repeat_is_known_by_what_was_sent_whatever_the_settings_have_become(shop: Shop) -> None:
    own: dict[str, Any] = {"successUrl": f"{SHOP}/mine", "cancelUrl": f"{SHOP}/none"}
    for rules in OTHER_RULES:
        for members in ({}, own):
            shop.booking, message_id, key = next(BOOKINGS), str(uuid4()), str(uuid4())
            first = await shop.create(message_id=message_id, key=key, **members)
            shop.set_rules(replica=1, **rules)
            for amount in ("449.97", "449.970", "449.97000000000003"):
                again = members | {"amount": amount}
                assert await shop.create(replica=1, message_id=message_id, key=key, **again) == first
                assert await shop.create(replica=1, key=key, **again) == first
                assert await shop.create(replica=1, **again) == first
            assert await shop.create(**members) == first
            assert await shop.sessions() == {first.session: "open"}
            other = await shop.create(replica=1, key=key, amount="450", **members)
            assert other.fault in {("IDEMPOTENCY_KEY_REUSED", False), ("VALIDATION_ERROR", False)}
            shop.set_rules(replica=1, **INITIAL)


@_scenario
async def a_create_that_the_settings_do_not_allow_begins_nothing(shop: Shop) -> None:
    shop.set_rules(replica=1, origins=frozenset({"https://new.example:443"}))
    own = {"successUrl": f"{SHOP}/mine"}
    assert (await shop.create(replica=1, **own)).fault == ("VALIDATION_ERROR", False)
    first = await shop.create()
    assert (await shop.create(replica=1, **own)).fault == ("VALIDATION_ERROR", False)
    assert await shop.sessions() == {first.session: "open"}
    assert len(await shop.payments()) == 1


@_scenario
async def what_one_caller_names_and_another_leaves_to_the_default_is_the_same(shop: Shop) -> None:
    key = str(uuid4())
    first = await shop.create(key=key)
    named = {"currency": "INR", "successUrl": f"{SHOP}/done", "cancelUrl": f"{SHOP}/back"}
    assert await shop.create(**named) == await shop.create(key=key, **named) == first
    shop.set_rules(replica=1, currency="usd")
    assert await shop.create(replica=1, **named) == first
    dearer = await shop.create(replica=1, currency="usd")
    assert await shop.sessions() == {first.session: "expired", dearer.session: "open"}


# --- time -----------------------------------------------------------------------------------------------------------


@_scenario
async def a_checkout_is_handed_out_again_only_with_enough_of_its_time_left(shop: Shop) -> None:
    first = await shop.create()
    await shop.advance(900 - 61)
    assert await shop.create() == await shop.create(replica=1) == first
    await shop.advance(1)
    new = await shop.create(replica=1)
    assert await shop.sessions() == {first.session: "expired", new.session: "open"}
    assert new.document["expiresAt"] == first.document["expiresAt"] - 60 + 900
    assert (await shop.verify(first.session)).status == "FAILED"


@_scenario
async def a_checkout_paid_in_its_last_minute_is_not_replaced(shop: Shop) -> None:
    first = await shop.create()
    await shop.advance(900 - 1)
    await shop.pay(first.session)
    assert (await shop.create()).fault == ("ALREADY_PAID", False)
    assert await shop.sessions() == {first.session: "complete"}


@_scenario
async def a_key_keeps_its_checkout_to_the_end_and_never_gets_one_whose_time_is_over(shop: Shop) -> None:
    message_id, key = str(uuid4()), str(uuid4())
    first = await shop.create(message_id=message_id, key=key)
    await shop.advance(900 - 1)
    assert await shop.create(message_id=message_id) == await shop.create(replica=1, key=key) == first
    await shop.advance(1)  # the session itself would live for twenty minutes more, and no sweeper runs
    for sent in ({"message_id": message_id}, {"key": key}):
        ended = await shop.create(**sent)
        assert ended.fault == ("FAILED", False)
        assert "has ended" in ended.document["message"]
    assert await shop.sessions() == {first.session: "expired"}
    assert (await shop.create()).session != first.session


@_scenario
async def where_a_payer_has_little_time_half_of_it_is_enough(shop: Shop) -> None:
    shop.set_rules(replica=0, window_seconds=60)
    first = await shop.create()
    await shop.advance(29)
    assert await shop.create() == first
    await shop.advance(1)
    new = await shop.create()
    assert await shop.sessions() == {first.session: "expired", new.session: "open"}


# --- order ----------------------------------------------------------------------------------------------------------


@_scenario
async def a_create_replaces_only_what_was_made_before_it_was_first_sent(shop: Shop) -> None:
    newer = await shop.create(amount="500", sent_seconds_ago=0)
    for seconds in (6, 3600, 3 * 86_400):
        for sent in ({}, {"key": str(uuid4())}, {"currency": "usd", "amount": "500"}):
            older = await shop.create(sent_seconds_ago=seconds, **sent)
            assert older.fault == ("SUPERSEDED", False)
            assert older.document["transactionId"] == newer.session
    assert await shop.create(amount="500", sent_seconds_ago=3600) == newer  # it wants what there is
    assert await shop.sessions() == {newer.session: "open"}
    latest = await shop.create(sent_seconds_ago=4)  # clocks may differ by as much
    assert await shop.sessions() == {newer.session: "expired", latest.session: "open"}


@_scenario
async def one_senders_creates_are_in_order_however_wrong_its_clock_is(shop: Shop) -> None:
    first = await shop.create(sent_seconds_ago=3602)
    second = await shop.create(amount="500", sent_seconds_ago=3600)
    assert await shop.sessions() == {first.session: "expired", second.session: "open"}
    assert (await shop.create(sent_seconds_ago=3620)).fault == ("SUPERSEDED", False)


@_scenario
async def an_old_create_is_done_where_nothing_is_in_its_way_and_gives_way_to_any_later_one(shop: Shop) -> None:
    old = await shop.create(sent_seconds_ago=3 * 86_400)
    assert old.document["status"] == "pending"
    assert (await shop.create(amount="500", sent_seconds_ago=4 * 86_400)).fault == ("SUPERSEDED", False)
    later = await shop.create(amount="500", sent_seconds_ago=2 * 86_400)
    assert await shop.sessions() == {old.session: "expired", later.session: "open"}
    await shop.pay(later.session)
    assert (await shop.verify(later.session)).status == "COMPLETED"
    assert (await shop.create(sent_seconds_ago=4 * 86_400)).fault == ("ALREADY_PAID", False)
