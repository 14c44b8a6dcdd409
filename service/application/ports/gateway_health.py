"""The gateway's health as each replica sees it, reported now and then for whoever looks at all replicas."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class EndpointHealth:
    """Of one endpoint in one replica, over some time.

    `circuit`: 0 closed, 1 half open, 2 open, as the metric says it. `sent`: requests, of which each takes a permit;
    `calls` are what they were sent for, and `failed` those of them that brought no answer.
    """

    endpoint: str
    circuit: int
    sent: int
    calls: int
    failed: int


class GatewayHealth(Protocol):
    """What all replicas have told. Every method may raise StoreUnavailableError."""

    async def tell(self, replica: str, health: Sequence[EndpointHealth], *, per_second: float) -> None:
        """Replace what the replica told before. `per_second`: the requests that may be sent to an endpoint, 0: any."""
