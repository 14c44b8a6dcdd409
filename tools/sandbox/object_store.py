"""Objects by the time of their creation, found by id and listed in Stripe's pages without a scan.

Source: https://docs.stripe.com/api/pagination: newest first; ``starting_after`` continues towards the older,
``ending_before`` gives the page next to the named object on the newer side.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from typing import Any

from tools.sandbox import stripe_errors

Json = dict[str, Any]
Place = tuple[int, int]
"""``(created, serial)``: where an object stands in every list. The serial alone is the order in which they came."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """One page: ``groups`` and ``only`` (an id) filter by index, ``accepts`` by a look at each object."""

    limit: int = 10
    starting_after: str | None = None
    ending_before: str | None = None
    created: Json | int | None = None
    groups: tuple[str, ...] | None = None
    only: str | None = None
    accepts: Callable[[Json], bool] | None = None


class ObjectStore:
    """Stripe objects of one type. ``created`` may decrease, because tests move the clock back."""

    def __init__(self, resource: str) -> None:
        self.resource = resource
        self._bodies: dict[int, Json] = {}
        self._places: dict[str, Place] = {}
        self._order: list[Place] = []
        self._groups: dict[str, list[Place]] = {}

    def __len__(self) -> int:
        return len(self._bodies)

    @property
    def bodies(self) -> Collection[Json]:
        """All objects, in the order in which they came."""
        return self._bodies.values()

    def add(self, body: Json, *, group: str) -> None:
        """Adds an object to a group (a session's status, an event's type)."""
        place = (body["created"], len(self._bodies))
        self._places[body["id"]] = place
        self._bodies[place[1]] = body
        insort(self._order, place)
        insort(self._groups.setdefault(group, []), place)

    def get(self, identifier: str) -> Json | None:
        """The current version of the object."""
        place = self._places.get(identifier)
        return None if place is None else self._bodies[place[1]]

    def replace(self, body: Json) -> None:
        """Stores a new version of an object."""
        self._bodies[self._places[body["id"]][1]] = body

    def move(self, identifier: str, *, old: str, new: str) -> None:
        """Changes the object's group. Groups are sorted arrays: cheap at 100,000 objects and never scanned."""
        place = self._places[identifier]
        del self._groups[old][bisect_left(self._groups[old], place)]
        insort(self._groups.setdefault(new, []), place)

    def count(self, group: str) -> int:
        """The number of objects in the group."""
        return len(self._groups.get(group, ()))

    def groups(self) -> Iterable[str]:
        """The groups that ever held an object."""
        return self._groups

    def page(self, query: Query) -> tuple[list[Json], bool]:
        """Up to ``limit`` objects, newest first, and whether more follow in the direction of paging."""
        low, high = self._bounds(query)
        backwards = query.ending_before is not None
        found: list[Json] = []
        for _, serial in self._walk(query.groups, low, high, ascending=backwards):
            body = self._bodies[serial]
            if query.accepts is not None and not query.accepts(body):
                continue
            if len(found) == query.limit:
                return (found[::-1] if backwards else found), True
            found.append(body)
        return (found[::-1] if backwards else found), False

    def _bounds(self, query: Query) -> tuple[Place, Place]:
        """The places of the page: from ``low``, up to and without ``high``."""
        low, high = _FIRST, _END
        created = query.created
        if isinstance(created, int):
            created = {"gte": created, "lte": created}
        for name, moment in (created or {}).items():
            if name in {"gt", "gte"}:
                low = max(low, (moment + (name == "gt"), 0))
            else:
                high = min(high, (moment + (name == "lte"), 0))
        if query.starting_after is not None:
            high = min(high, self._cursor(query.starting_after, "starting_after"))
        if query.ending_before is not None:
            low = max(low, _after(self._cursor(query.ending_before, "ending_before")))
        if query.only is not None:
            place = self._places[query.only]
            low, high = max(low, place), min(high, _after(place))
        return low, high

    def _cursor(self, identifier: str, param: str) -> Place:
        place = self._places.get(identifier)
        if place is None:
            raise stripe_errors.no_such(self.resource, identifier, param, status=400)
        return place

    def _walk(self, groups: tuple[str, ...] | None, low: Place, high: Place, *, ascending: bool) -> Iterator[Place]:
        if groups is None:
            return _between(self._order, low, high, ascending=ascending)
        walks = [_between(self._groups.get(group, []), low, high, ascending=ascending) for group in groups]
        return iter(merge(*walks, reverse=not ascending))


_FIRST: Place = (-1, 0)
_END: Place = (1 << 62, 0)


def _after(place: Place) -> Place:
    return place[0], place[1] + 1


def _between(places: list[Place], low: Place, high: Place, *, ascending: bool) -> Iterator[Place]:
    first, end = bisect_left(places, low), bisect_left(places, high)
    indexes = range(first, end) if ascending else range(end - 1, first - 1, -1)
    return (places[index] for index in indexes)
