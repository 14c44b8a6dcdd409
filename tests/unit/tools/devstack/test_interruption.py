"""A signal cancels the work once; the cleanup is not disturbed by another one."""

import asyncio
import os
import signal

import pytest

from tools.devstack import interruption


def test_a_second_signal_does_not_disturb_the_cleanup() -> None:
    done: list[str] = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0.01)
            done.append("cleaned up")

    with pytest.raises(asyncio.CancelledError):
        interruption.run(work())
    assert done == ["cleaned up"]


def test_work_that_is_not_interrupted_returns_its_result() -> None:
    assert interruption.run(asyncio.sleep(0, result=7)) == 7
