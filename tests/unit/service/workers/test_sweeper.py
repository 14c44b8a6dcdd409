"""The sweeper finishes what nobody polls, and fails nothing without the gateway's answer."""

from dataclasses import replace
from datetime import timedelta

import pytest

from contracts.events import EventKey
from service.application.checkout import UNFINISHED_AFTER, UNKNOWN_AFTER
from service.domain.outcomes import Paid, Processing, UnknownCause
from service.domain.payment import Payment, PaymentStatus
from service.workers.sweeper import UNOPENED_AFTER
from tests.kit.service import policy
from tests.kit.shops import Answer, Fakes
from tests.kit.workers import a_sweeper

UNOPENED = UNOPENED_AFTER.total_seconds()
OVERDUE = policy().window_seconds + 1


class Swept(Fakes):
    """A shop with a sweeper and one payment."""

    def __init__(self) -> None:
        super().__init__()
        self.sweeper = a_sweeper(self.worlds[0])

    async def cut_off_create(self, *, made: bool = False) -> None:
        """A create whose answer was lost, or that never reached the gateway."""
        await (self.lose_answer() if made else self.fail(UnknownCause.FAILED))
        assert (await self.create()).fault[1]
        await self.fail(None)

    async def sweep_after(self, seconds: float) -> int:
        await self.advance(seconds)
        return await self.sweeper.sweep_next()

    @property
    def payment(self) -> Payment:
        return self.store.payments[1]

    @property
    def end(self) -> tuple[PaymentStatus, str | None]:
        return self.payment.status, self.payment.reason


@pytest.fixture
def shop() -> Swept:
    return Swept()


@pytest.mark.parametrize("made", [False, True])
async def test_a_create_that_was_cut_off_gets_its_one_session_as_soon_as_nobody_works_on_it(
    shop: Swept,
    made: bool,  # noqa: FBT001
) -> None:
    await shop.cut_off_create(made=made)
    assert await shop.sweep_after(UNOPENED - 1) == 0
    assert await shop.sweep_after(2) == 1
    assert await shop.sessions() == {shop.payment.session_id: "open"}
    assert shop.payment.status is PaymentStatus.PENDING
    late_caller = await shop.create()
    assert late_caller.session == shop.payment.session_id


async def test_an_overdue_payment_ends_at_the_gateway_first(shop: Swept) -> None:
    """F51 Ended here only after the gateway says that it is expired. Then it is final."""
    session = (await shop.create(key="k")).session
    assert await shop.sweep_after(OVERDUE - 2) == 0
    assert await shop.sweep_after(2) == 1
    assert shop.gateway.calls[-1] == "expire"
    assert await shop.sessions() == {session: "expired"}
    assert shop.end == (PaymentStatus.FAILED, "expired")
    assert await shop.sweep_after(10 * OVERDUE) == 0
    repeat: Answer = await shop.create(key="k")
    assert repeat.fault == ("FAILED", False)
    assert "start a new one" in repeat.document["message"]


@pytest.mark.parametrize("window", [60, 7200])
async def test_a_payer_has_the_time_that_the_caller_was_told_whatever_window_other_replicas_give(
    shop: Swept, window: int
) -> None:
    told = (await shop.create()).document["expiresAt"]
    other = shop.worlds[0].replica(policy=policy(window_seconds=window))
    repeat = await other.create(bookingId=shop.booking)
    assert repeat.expires_at == told == shop.clock.now().timestamp() + OVERDUE - 1
    shop.sweeper = a_sweeper(other)
    assert await shop.sweep_after(OVERDUE - 2) == 0
    assert await shop.sweep_after(2) == 1
    assert shop.end == (PaymentStatus.FAILED, "expired")


async def test_a_payment_from_before_its_time_was_stored_has_time_until_its_session_ends(shop: Swept) -> None:
    await shop.create()
    shop.store.payments[1] = replace(shop.payment, pay_until=None)
    assert (await shop.create()).document["expiresAt"] == shop.payment.expires_at.timestamp()
    assert await shop.sweep_after(35 * 60 - 1) == 0
    assert await shop.sweep_after(1) == 1


@pytest.mark.parametrize("slowly", [False, True])
async def test_a_payment_paid_in_the_last_moment_is_completed_when_the_money_is_there(
    shop: Swept,
    slowly: bool,  # noqa: FBT001
) -> None:
    """F50 The customer pays while we expire: COMPLETED, not stuck."""
    session = (await shop.create()).session
    fitting = Paid(money=shop.payment.money, reference=shop.payment.reference, livemode=False)
    if slowly:
        shop.gateway.stand(session, Processing())
        await shop.sweep_after(OVERDUE)
        assert shop.payment.status is PaymentStatus.PENDING
    shop.gateway.stand(session, fitting)
    await shop.sweep_after(OVERDUE)
    assert shop.payment.status is PaymentStatus.COMPLETED


@pytest.mark.parametrize("cause", [cause for cause in UnknownCause if cause is not UnknownCause.NO_SESSION])
async def test_no_silence_however_long_fails_a_payment(shop: Swept, cause: UnknownCause) -> None:
    """F60 The gateway is silent for hours: still PENDING after a hundred tries, one alert, never FAILED."""
    await shop.cut_off_create()
    await shop.fail(cause)
    for _ in range(UNFINISHED_AFTER - 1):
        await shop.sweep_after(400)
    assert shop.payment.attention is None
    for _ in range(100 - UNFINISHED_AFTER):
        await shop.sweep_after(400)
    assert (shop.payment.status, shop.payment.attention) == (PaymentStatus.PENDING, "unsettled")
    assert shop.payment.settle_attempts > UNFINISHED_AFTER
    assert await shop.events() == [EventKey.ATTENTION]


@pytest.mark.parametrize(("attention", "tries"), [("unknown_session", UNKNOWN_AFTER), ("unsettled", UNFINISHED_AFTER)])
async def test_what_only_a_person_can_decide_is_told_once_and_looked_at_seldom(
    shop: Swept, attention: str, tries: int
) -> None:
    """M6 Neither the sweeper nor the feed circles over a session that is not known, or whose money never comes."""
    session = (await shop.create()).session
    if attention == "unsettled":
        shop.gateway.stand(session, Processing())
    else:
        shop.gateway.forgotten = {session}
    for _ in range(tries):
        assert shop.payment.attention is None
        await shop.sweep_after(OVERDUE)
    assert (shop.payment.status, shop.payment.attention) == (PaymentStatus.PENDING, attention)
    assert await shop.store.oldest_pending_at() is None
    await shop.sweep_after(OVERDUE)
    before = shop.payment.settle_attempts
    for _ in range(100):
        await shop.sweep_after(600)
    assert 15 <= shop.payment.settle_attempts - before <= 18  # once an hour
    assert await shop.events() == [EventKey.PENDING, EventKey.ATTENTION]


async def test_a_session_that_is_known_again_ends_as_any_other(shop: Swept) -> None:
    session = (await shop.create()).session
    shop.gateway.forgotten = {session}
    for _ in range(UNKNOWN_AFTER):
        await shop.sweep_after(OVERDUE)
    shop.gateway.forgotten = set()
    await shop.sweep_after(3600)
    assert (*shop.end, shop.payment.attention) == (PaymentStatus.FAILED, "expired", None)


async def test_tries_grow_apart(shop: Swept) -> None:
    await shop.cut_off_create()
    await shop.fail(UnknownCause.FAILED)
    claims = [await shop.sweep_after(5) for _ in range(60)]
    assert sum(claims) < 8


@pytest.mark.parametrize(("made", "then"), [(True, "look_up"), (False, "open")])
async def test_a_forgotten_key_is_not_used_again_and_a_new_one_only_without_a_session(
    shop: Swept, *, made: bool, then: str
) -> None:
    """F52 A retry older than 22 h: the session is looked for first, and there is no second one."""
    await shop.cut_off_create(made=made)
    before = shop.payment
    await shop.sweep_after(24 * 3600)
    assert shop.gateway.calls == ["open", "find", then]
    assert [shop.payment.session_id] == (list(shop.gateway.made) or [None])
    assert (shop.payment.reference == before.reference) is made
    assert shop.payment.status is (PaymentStatus.FAILED if made else PaymentStatus.PENDING)


async def test_an_error_kept_under_the_key_does_not_hold_a_booking_for_a_day(shop: Swept) -> None:
    """F43 A 500 saved under the key: a new key once it is proven that there is no session."""
    await shop.cut_off_create()
    shop.gateway.kept.add(shop.payment.reference)
    await shop.sweep_after(60)
    assert shop.payment.session_id is None
    await shop.sweep_after(300)
    assert shop.gateway.calls == ["open", "open", "open", "find", "open"]
    assert await shop.sessions() == {shop.payment.session_id: "open"}


async def test_a_refusal_does_not_fail_a_payment_whose_session_was_made_before(shop: Swept) -> None:
    """M14 The first call made the session and its answer was lost; what refuses the next one is not the last word."""
    await shop.cut_off_create(made=True)
    await shop.refuse(payments=True)
    await shop.sweep_after(UNOPENED + 1)
    assert shop.gateway.calls[:3] == ["open", "open", "find"]
    assert await shop.sessions() == {shop.payment.session_id: "open"}


async def test_terms_that_are_too_old_are_renewed_and_the_payer_has_all_of_the_time(shop: Swept) -> None:
    """M4 An outage longer than a session's terms last: the sweeper renews them when it is over, once."""
    await shop.cut_off_create()
    before = shop.payment
    await shop.sweep_after(6 * 60)
    assert shop.payment.created_at > before.created_at
    assert await shop.sessions() == {shop.payment.session_id: "open"}
    assert [line.kind for line in await shop.store.journal(1)] == ["created", "renewed", "opened"]
    assert await shop.sweep_after(OVERDUE - 2) == 0
    assert await shop.sweep_after(2) == 1
    assert shop.end == (PaymentStatus.FAILED, "expired")


async def test_one_payment_that_surprises_us_does_not_stop_the_others(shop: Swept) -> None:
    await shop.cut_off_create()
    broken = replace(shop.payment, id=2, booking_id=999, reference="broken", session_id="cs_test_unknown")
    shop.store.payments[2] = replace(broken, created_at=broken.created_at - timedelta(hours=1))
    await shop.sweep_after(UNOPENED + 1)
    assert shop.payment.session_id is not None


async def test_a_sweeper_that_stops_begins_nothing_more(shop: Swept) -> None:
    await shop.create()
    shop.sweeper.stop()
    assert await shop.sweep_after(OVERDUE) == 1
    assert shop.gateway.calls == ["open"]
    assert shop.payment.status is PaymentStatus.PENDING
