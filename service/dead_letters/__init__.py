"""`payment-service dead-letters list | show | replay | drop`: what could not be done, for an operator at night."""

from service.dead_letters.actions import needs, run
from service.dead_letters.arguments import add_parser

__all__ = ["add_parser", "needs", "run"]
