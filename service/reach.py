"""Reaching what the service stands on when it starts: patiently, in any order, but nobody who cannot be trusted."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from contracts import addresses

_log = logging.getLogger(__name__)

START_SECONDS: Final = 30.0
"""How long the database and the broker may take to appear."""
ATTEMPT_SECONDS: Final = 15.0
"""How long one attempt to reach them may take; a broker that has just started elects leaders for new queues."""


class StartError(Exception):
    """The service cannot start; the text is one sentence for an operator."""


async def reach(name: str, attempt: Callable[[], Awaitable[Any]], errors: tuple[type[Exception], ...]) -> None:
    """Try until it works: a deployment starts its parts in any order.

    Raises:
        StartError: it did not work for `START_SECONDS`, or whoever answered cannot be trusted: time does not heal that.
    """
    deadline = asyncio.get_running_loop().time() + START_SECONDS
    waiting = False
    while True:
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                await attempt()
        except errors as error:
            refuse_distrusted(name, error)
            if asyncio.get_running_loop().time() > deadline:
                raise StartError(f"{name} cannot be reached ({type(error).__name__}).") from None
            if not waiting:
                _log.warning("waiting for %s", name)
            waiting = True
            await asyncio.sleep(0.5)
        else:
            return


async def meet(name: str, attempt: Callable[[], Awaitable[Any]]) -> None:
    """Try once: who is away may come later, but nobody else may answer instead.

    Raises:
        StartError: whoever answered cannot be trusted.
    """
    try:
        await attempt()
    except OSError as error:  # TimeoutError too
        refuse_distrusted(name, error)
        _log.warning("%s cannot be reached yet (%s)", name, type(error).__name__)


def refuse_distrusted(name: str, error: Exception) -> None:
    """Raises StartError if it is the certificate that an attempt failed for."""
    if (why := addresses.distrust(error)) is not None:
        raise StartError(f"{name} {why}.") from None
