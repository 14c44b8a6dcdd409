"""An observer for every part that has one."""

from collections import Counter
from collections.abc import Callable


class CountingObserver(Counter[str]):
    """`on_feed_read("failed")` counts one "feed_read failed"; a number among the arguments is how many it counts."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        if not name.startswith("on_"):
            raise AttributeError(name)

        def count(*arguments: object) -> None:
            words = [name.removeprefix("on_"), *(word for word in arguments if isinstance(word, str))]
            self[" ".join(words)] += next((number for number in arguments if type(number) is int), 1)

        return count
