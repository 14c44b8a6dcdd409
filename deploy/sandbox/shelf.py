"""Objects in the order of their creation, found by id and listed in Stripe's pages without scanning.

Source: https://docs.stripe.com/api/pagination: newest first; ``starting_after`` continues towards the older,
``ending_before`` gives the page next to the named object on the newer side.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from typing import Any

from deploy.sandbox import errors

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Query:
    """One page: ``groups`` narrows by index, ``accepts`` by looking at each object."""

    limit: int = 10
    starting_after: str | None = None
    ending_before: str | None = None
    created: Json | int | None = None
    groups: tuple[str, ...] | None = None
    accepts: Callable[[Json], bool] | None = None


class Shelf:
    """A list of Stripe objects. ``created`` never falls from one object to the next: the clock only moves forward."""

    def __init__(self, resource: str) -> None:
        self.resource = resource
        self.bodies: list[Json] = []
        self._places: dict[str, int] = {}
        self._created: list[int] = []
        self._groups: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self.bodies)

    def add(self, body: Json, *, group: str) -> None:
        """Put the newest object on the shelf, in one group (a session's status, an event's type)."""
        place = len(self.bodies)
        self._places[body["id"]] = place
        self._created.append(body["created"])
        self.bodies.append(body)
        self._groups.setdefault(group, []).append(place)

    def get(self, identifier: str) -> Json | None:
        """The object as it is now."""
        place = self._places.get(identifier)
        return None if place is None else self.bodies[place]

    def replace(self, body: Json) -> None:
        """Put a new version of an object in its place."""
        self.bodies[self._places[body["id"]]] = body

    def move(self, identifier: str, *, old: str, new: str) -> None:
        """Change the object's group. Groups are sorted arrays: cheap at 100,000 objects, and never scanned."""
        place = self._places[identifier]
        del self._groups[old][bisect_left(self._groups[old], place)]
        insort(self._groups.setdefault(new, []), place)

    def count(self, group: str) -> int:
        """How many objects are in the group."""
        return len(self._groups.get(group, ()))

    def groups(self) -> Iterable[str]:
        """The groups that ever held something."""
        return self._groups

    def page(self, query: Query) -> tuple[list[Json], bool]:
        """Up to ``limit`` objects, newest first, and whether there are more in the direction of travel."""
        low, high = self._bounds(query)
        backwards = query.ending_before is not None
        found: list[Json] = []
        for place in self._walk(query.groups, low, high, ascending=backwards):
            body = self.bodies[place]
            if query.accepts is not None and not query.accepts(body):
                continue
            if len(found) == query.limit:
                return (found[::-1] if backwards else found), True
            found.append(body)
        return (found[::-1] if backwards else found), False

    def _bounds(self, query: Query) -> tuple[int, int]:
        low, high = 0, len(self.bodies)
        created = query.created
        if isinstance(created, int):
            created = {"gte": created, "lte": created}
        for name, moment in (created or {}).items():
            if name == "gt":
                low = max(low, bisect_right(self._created, moment))
            elif name == "gte":
                low = max(low, bisect_left(self._created, moment))
            elif name == "lt":
                high = min(high, bisect_left(self._created, moment))
            else:
                high = min(high, bisect_right(self._created, moment))
        if query.starting_after is not None:
            high = min(high, self._cursor(query.starting_after, "starting_after"))
        if query.ending_before is not None:
            low = max(low, self._cursor(query.ending_before, "ending_before") + 1)
        return low, high

    def _cursor(self, identifier: str, param: str) -> int:
        place = self._places.get(identifier)
        if place is None:
            raise errors.no_such(self.resource, identifier, param, status=400)
        return place

    def _walk(self, groups: tuple[str, ...] | None, low: int, high: int, *, ascending: bool) -> Iterator[int]:
        if groups is None:
            return iter(range(low, high) if ascending else range(high - 1, low - 1, -1))
        walks = [_between(self._groups.get(group, []), low, high, ascending=ascending) for group in groups]
        return iter(merge(*walks, reverse=not ascending))


def _between(places: list[int], low: int, high: int, *, ascending: bool) -> Iterator[int]:
    first, end = bisect_left(places, low), bisect_left(places, high)
    indexes = range(first, end) if ascending else range(end - 1, first - 1, -1)
    return (places[index] for index in indexes)
