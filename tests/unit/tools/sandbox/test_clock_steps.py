"""A clock that goes back."""

from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from tests.unit.tools.sandbox.caller import NOW, SESSIONS, Caller


@pytest.fixture
def caller() -> Caller:
    return Caller()


async def stepped(caller: Caller, seconds: int) -> None:
    await caller.control("clock", {"advance_seconds": seconds})


async def test_the_clock_goes_back_and_what_has_ended_stays_ended(caller: Caller) -> None:
    session = await caller.create()
    await stepped(caller, 3600)
    assert await caller.control("clock", {"advance_seconds": -7200}) == {"now": NOW - 3600}
    assert (await caller.session(session["id"]))["status"] == "expired"
    later = await caller.create(expires_at=NOW - 3600 + 1800)
    assert (later["created"], later["status"]) == (NOW - 3600, "open")


@pytest.mark.parametrize("back", [True, False])
async def test_the_clock_stays_within_a_century(caller: Caller, back: bool) -> None:  # noqa: FBT001
    step = (-1 if back else 1) * 10 * 366 * 24 * 3600
    while (
        answer := await caller.call("POST", "/_sandbox/clock", body=f'{{"advance_seconds": {step}}}'.encode())
    ).status == 200:
        pass
    assert (answer.status, answer.body) == (400, {"error": "advance_seconds leads out of the years 2000 to 2100."})
    assert (await caller.call("GET", "/_sandbox/stats")).headers["Date"]


async def test_lists_are_ordered_by_creation_also_when_the_clock_went_back(caller: Caller) -> None:
    ids: dict[int, list[str]] = {}
    for step in (0, 0, 100, -60, 0, -80, 200):
        await stepped(caller, step)
        session = await caller.create()
        ids.setdefault(session["created"] - NOW, []).append(session["id"])
    newest_first = [identifier for moment in sorted(ids, reverse=True) for identifier in reversed(ids[moment])]
    for limit in (1, 2, 100):
        seen: list[str] = []
        params: dict[str, Any] = {"limit": limit, "created": {"gte": NOW - 40, "lte": NOW + 160}}
        more = True
        while more:
            page = await caller.get(SESSIONS, **params)
            seen += [each["id"] for each in page["data"]]
            more, params["starting_after"] = page["has_more"], seen[-1]
        assert seen == newest_first
    between = await caller.get(SESSIONS, created={"gt": NOW, "lt": NOW + 100})
    assert [each["id"] for each in between["data"]] == ids[40][::-1]


async def test_every_answer_has_the_sandboxs_date(caller: Caller) -> None:
    identifier = (await caller.create())["id"]
    for step in (0, -3600, 7200):
        await stepped(caller, step)
        now = (await caller.control("clock", {"advance_seconds": 0}))["now"]
        for path in ("/v1/events", "/v1/nothing", f"/c/pay/{identifier}", "/_sandbox/stats", "/nowhere"):
            date = (await caller.call("GET", path)).headers["Date"]
            assert date.endswith(" GMT")
            assert parsedate_to_datetime(date).timestamp() == now
