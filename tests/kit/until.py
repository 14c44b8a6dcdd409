"""Waiting for what somebody else does: the tests poll it, because processes and servers set no event of theirs."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

LEAST_OFTEN_SECONDS: Final = 0.1
PATIENCE_SECONDS: Final = 120.0
"""Ends a hang. Beside other tests a machine may need many seconds for what takes milliseconds on a quiet one."""


async def until(condition: Callable[[], Any], seconds: float = PATIENCE_SECONDS, *, every: float = 0.01) -> Any:
    """Return what the condition answers as soon as that is true; raise TimeoutError when it never is.

    What takes long is asked for less often: most conditions ask a server, whose processor the answer needs.
    """
    now = asyncio.get_running_loop().time
    began = now()
    async with asyncio.timeout(max(seconds, PATIENCE_SECONDS)):
        while True:
            found = condition()
            if isinstance(found, Awaitable):
                found = await found
            if found:
                return found
            await asyncio.sleep(max(every, min((now() - began) / 10, LEAST_OFTEN_SECONDS)))
