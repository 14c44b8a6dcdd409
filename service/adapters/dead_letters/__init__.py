"""The dead-letter queues, for an operator: reading without consuming, replaying, removing."""

from service.adapters.dead_letters.letter import Letter, escaped, one_line
from service.adapters.dead_letters.queues import BrokerError, DeadLetterQueues, UnreplayableError, opened

__all__ = ["BrokerError", "DeadLetterQueues", "Letter", "UnreplayableError", "escaped", "one_line", "opened"]
