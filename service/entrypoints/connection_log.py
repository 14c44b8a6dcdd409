"""One line for each loss of RabbitMQ and one for its return; the libraries write one for each try, without a reason."""

import logging
import time
from typing import Any, Final

from runtime.amqp_nodes import address
from runtime.broker_check import words_of

_log = logging.getLogger(__name__)

REPEAT_SECONDS: Final = 60.0
"""While RabbitMQ stays away it is told so often."""


class ConnectionLog:
    """Tells what becomes of one connection. `use`: what it is for."""

    def __init__(self, use: str) -> None:
        self._use = use
        self._lost_at: float | None = None
        self._told_at = 0.0

    def on_close(self, connection: Any, error: BaseException | None = None) -> None:
        """It was lost, or one more try has failed."""
        if connection is None or connection.close_called:
            return
        now, node = time.monotonic(), address(str(connection.url))
        if self._lost_at is None:
            self._lost_at = self._told_at = now
            _log.warning("lost RabbitMQ at %s (%s): %s", node, self._use, _reason(error))
        elif now - self._told_at >= REPEAT_SECONDS:
            self._told_at = now
            seconds = round(now - self._lost_at)
            _log.warning("no RabbitMQ for %d s; at %s (%s): %s", seconds, node, self._use, _reason(error))

    def on_reconnected(self, connection: Any, *_: object) -> None:
        """It is back."""
        if self._lost_at is not None:
            seconds, node = time.monotonic() - self._lost_at, address(str(connection.url))
            _log.info("RabbitMQ is back at %s (%s) after %.1f s", node, self._use, seconds)
        self._lost_at = None


def _reason(error: BaseException | None) -> str:
    """What the broker said, with its code."""
    return "no answer" if error is None else words_of(error)
