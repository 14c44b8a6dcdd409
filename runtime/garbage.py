"""How often Python looks for garbage that refers to itself: seldom, as next to nothing of ours does.

Each pass walks the objects made since the last one, among them always those of the work in progress: at 700 objects,
Python's default, passes take a twelfth of the service's time and free nothing. What is dropped without a circle is
freed at once, whatever is set here.
"""

import gc
from typing import Final

SELDOM: Final = 10_000
"""Objects that a pass waits for: some MB, if all of them were garbage."""


def collect_seldom() -> None:
    """Called before the imports, which leave next to no garbage either."""
    gc.set_threshold(SELDOM)


def keep() -> None:
    """Exempt what is there by now, which stays to the end, from all passes: the longest took 70 ms."""
    gc.freeze()
