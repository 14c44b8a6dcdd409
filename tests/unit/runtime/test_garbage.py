"""Garbage that refers to itself is freed, however seldom it is looked for."""

import subprocess
import sys

_PROGRAM = """
import gc
from runtime import garbage

class Circle:
    alive = most = 0
    def __init__(self):
        self.itself = self
        Circle.alive += 1
        Circle.most = max(Circle.most, Circle.alive)
    def __del__(self):
        Circle.alive -= 1

garbage.collect_seldom()
garbage.keep()
for _ in range(10 * garbage.SELDOM):
    Circle()
print(Circle.most > garbage.SELDOM // 2, Circle.most < 2 * garbage.SELDOM, gc.get_freeze_count() > 0)
"""


def test_circles_are_freed_though_seldom_and_what_is_kept_is_not_walked_again() -> None:
    ran = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["True"] * 3
