"""`payment-service dead-letters list | show | replay | drop`. No other module of the service reads these queues."""

from service.cli.dead_letters.actions import needs, run

__all__ = ["needs", "run"]
