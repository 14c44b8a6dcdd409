from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tools.sandbox.object_store import ObjectStore, Query

GROUPS = ("open", "complete", "expired")


def _store(groups: list[str]) -> ObjectStore:
    store = ObjectStore("thing")
    for place, _ in enumerate(groups):
        store.add({"id": str(place), "created": place // 2}, group="open")
    for place, group in enumerate(groups):
        if group != "open":
            store.move(str(place), old="open", new=group)
    return store


@given(
    st.lists(st.sampled_from(GROUPS), min_size=1, max_size=30),
    st.integers(1, 8),
    st.none() | st.sets(st.sampled_from(GROUPS)).map(tuple),
    st.none() | st.integers(0, 30),
    st.sampled_from(["starting_after", "ending_before"]),
    st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), st.integers(-1, 16)),
)
def test_a_page_is_what_a_look_at_every_object_gives(  # noqa: PLR0917
    groups: list[str], limit: int, wanted: tuple[str, ...] | None, cursor: int | None, direction: str, created: Any
) -> None:
    store = _store(groups)
    places = list(range(len(groups)))[::-1]
    compare = {"gt": int.__gt__, "gte": int.__ge__, "lt": int.__lt__, "lte": int.__le__}
    places = [p for p in places if all(compare[name](p // 2, bound) for name, bound in created.items())]
    if wanted is not None:
        places = [p for p in places if groups[p] in wanted]
    cursors: dict[str, str] = {}
    if cursor is not None and cursor < len(groups):
        cursors = {direction: str(cursor)}
        places = [p for p in places if (p < cursor if direction == "starting_after" else p > cursor)]
    expected = places[-limit:] if "ending_before" in cursors else places[:limit]

    found, has_more = store.page(Query(limit=limit, groups=wanted, created=created, **cursors))
    assert [int(body["id"]) for body in found] == expected
    assert has_more == (len(places) > limit)


def test_a_page_of_a_hundred_thousand_costs_what_a_page_of_a_hundred_costs() -> None:
    looked_at = 0

    def accepts(_: Any) -> bool:
        nonlocal looked_at
        looked_at += 1
        return True

    store = _store(["open"] * 99_999 + ["complete"])
    query = Query(limit=100, groups=("open",), starting_after="50000", created={"gte": 10}, accepts=accepts)
    found, has_more = store.page(query)
    assert (len(found), has_more, looked_at) == (100, True, 101)
    assert [body["id"] for body in store.page(Query(groups=("complete",)))[0]] == ["99999"]
