"""The reference subscriber needs no more rights than RabbitMQ gives a subscriber here."""

from tests.conftest import RoleUrl
from tests.integration.examples.conftest import Subscriber
from tests.integration.examples.test_subscriber import lives


async def test_a_subscriber_with_its_own_rights_alone_receives_and_parks(
    subscriber: Subscriber, role_url: RoleUrl
) -> None:
    subscriber.queue = "payment-subscriber.payments"
    await subscriber.start(amqp_url=role_url("payment-subscriber"))
    await subscriber.publish(*lives(3), b"not an event")
    await subscriber.knows(len(lives(3)))
    assert await subscriber.parked(1) == [b"not an event"]
    await subscriber.stop()
