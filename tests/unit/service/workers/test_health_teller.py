"""What calls to the gateway came to is told of the last minute, however long the process runs."""

from collections.abc import Sequence

from service.application.ports.gateway_health import EndpointHealth
from service.workers.health_teller import KEPT, HealthTeller


class Told:
    """Keeps what was told last."""

    def __init__(self) -> None:
        self.health: Sequence[EndpointHealth] = []

    async def tell(self, replica: str, health: Sequence[EndpointHealth], *, per_second: float) -> None:
        assert (len(replica), per_second) == (36, 20)
        self.health = health


async def test_a_minute_is_told_and_what_was_before_is_forgotten() -> None:
    counted, told = 0, Told()

    def totals() -> list[EndpointHealth]:
        return [EndpointHealth(endpoint="create", circuit=2, sent=3 * counted, calls=2 * counted, failed=counted)]

    teller = HealthTeller(store=told, totals=totals, per_second=20)
    counted = 10
    await teller.tell()
    assert told.health == [EndpointHealth(endpoint="create", circuit=2, sent=30, calls=20, failed=10)]
    for _ in range(KEPT - 2):
        await teller.tell()
    assert told.health[0].failed == 10
    await teller.tell()
    assert told.health == [EndpointHealth(endpoint="create", circuit=2, sent=0, calls=0, failed=0)]
