"""How Stripe said it stands in the journal: by which request or event, and when; how it does, in the database."""

import json
import re
from datetime import UTC, datetime, timedelta

from tests.integration.service.messages.rig import CREATE, Rig, a_create


async def test_the_journal_names_stripes_request_and_event_and_the_console_can_count_calls(rig: Rig) -> None:
    reply = await rig.created()
    payment = await rig.payment(reply["sessionId"])
    await rig.sandbox.pay(reply["sessionId"])
    [line] = await _lines(rig, payment["id"], "completed")
    [opened] = await _lines(rig, payment["id"], "opened")
    detail = json.loads(opened["detail"])
    assert detail["gateway_call"] == "create"
    assert re.fullmatch("req_[A-Za-z0-9]+", detail["gateway_request_id"])
    assert 0 < float(detail["gateway_seconds"]) < 60
    told = json.loads(line["detail"])
    assert told["gateway_event"].startswith("evt_")
    paid_at = datetime.fromisoformat(told["gateway_event_at"])
    assert timedelta(seconds=-2) < datetime.now(UTC) - paid_at < timedelta(minutes=10)

    async with rig.stripe_with(down=True):
        await rig.ask(CREATE, a_create())
    counted = (
        "SELECT 1 FROM gateway_health WHERE endpoint = 'create' AND calls > failed AND failed > 0 AND sent > calls"
    )
    await rig.until_rows(1, counted)


async def _lines(rig: Rig, payment_id: int, kind: str) -> list[dict[str, str]]:
    found = f"SELECT detail FROM journal WHERE payment_id = $1 AND kind = '{kind}'"  # noqa: S608 - ours
    await rig.until_rows(1, found, payment_id)
    return [dict(row) for row in await rig.sql(found, payment_id)]
