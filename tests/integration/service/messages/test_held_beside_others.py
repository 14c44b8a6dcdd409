"""Who waits occupies nothing, and a service that is told to stop answers whom it holds."""

from typing import Any

from contracts import envelope
from tests.conftest import RoleUrl
from tests.integration.service.messages.rig import VERIFY, around, serving, until
from tests.integration.service.messages.test_held_answers import LONG, NO_HURRY, held, status


async def test_who_waits_occupies_nothing_and_a_stop_answers_everybody(
    amqp_url: str, role_url: RoleUrl, migrated_url: str
) -> None:
    """With room for one command at a time fifty are held, and others are served as ever."""
    options: dict[str, Any] = {"service_url": role_url("payment-service"), "stripe_concurrency": 1}
    async with around(amqp_url, migrated_url, **options) as rig:
        async with serving(rig.settings) as service:
            rig.service = service
            session = (await rig.created())["sessionId"]
            marks = [
                await rig.ask_later(VERIFY, {"sessionId": session}, headers=LONG, expiration=NO_HURRY)
                for _ in range(50)
            ]
            await held(rig, 50)
            other = (await rig.created())["sessionId"]
            assert (await rig.verified(other))["paymentStatus"] == "PENDING"
            assert rig.replies == [each for each in rig.replies if each.properties.correlation_id not in marks]
            busy = "SELECT count(*) AS busy FROM pg_stat_activity WHERE state <> 'idle' AND pid <> pg_backend_pid()"

            async def nobody_is_busy() -> bool:
                return [row["busy"] for row in await rig.sql(f"{busy} AND datname = current_database()")] == [0]

            await until(nobody_is_busy)
        for mark in marks:
            reply = await rig.reply_to(mark)
            assert (status(reply), envelope.WAIT_SECONDS in reply.headers) == ("PENDING", False)
