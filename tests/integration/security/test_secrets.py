"""S10, S11, S19, S20, S22, S25, S27: what the system says, keeps and passes on, whatever is done to it."""

import json
import logging
import re
from collections.abc import Iterator

import pytest
import pytest_asyncio
from pydantic import SecretStr
from pydantic_settings import BaseSettings

import bridge.settings
import console.settings
import service.settings
from contracts import envelope
from tests.integration.security.life import INJECTIONS, PAGES, PAN, PERSONAL, TEXTS, Life, lived
from tests.integration.service.messages.rig import around
from tests.kit import canary
from tests.kit.databases import Migrated

_log = logging.getLogger(__name__)

OURS = (envelope.REASON, envelope.REASON_TEXT, envelope.FAULT_CODE, envelope.ATTEMPTS)
"""The headers of a dead letter that the service writes; the others and the body are its sender's."""

INTERNALS = re.compile(
    r"Traceback|File \"|\.py\b|\breq_|SELECT |INSERT |UPDATE |sqlalchemy|asyncpg|faststream|aiormq|pydantic|stripe\.|"
    r"Error\b(?!:)|line \d+|errors\.|0x[0-9a-f]{6}|Having the|No such |must be greater|/usr/|/root/|/home/"
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def life(amqp_url: str, migrated: Migrated, tmp_path_factory: pytest.TempPathFactory) -> Life:
    """One life for all tests, which look at different places."""
    async with around(amqp_url, migrated.application) as rig:
        return await lived(rig, migrated, tmp_path_factory.mktemp("life"))


def places(life: Life) -> Iterator[tuple[str, object]]:
    """Everything that was said, by the name of its place."""
    for answer in life.answers:
        yield f"answer to {answer.request.method} {answer.request.url.path}", [dict(answer.headers), answer.content]
    for kind, messages in (("message", life.messages), ("dead letter", life.letters)):
        for message in messages:
            yield f"{kind} {message.type}", canary.message_parts(message.body, message.properties)
    yield from life.logs.items()
    yield from life.crashes.items()
    yield from life.tables.items()


async def test_no_secret_is_anywhere(life: Life) -> None:
    """S10, S27: no key or password is in a log, answer, message, dead letter, table, page or crash."""
    assert [leak for place, content in places(life) for leak in canary.leaks(place, content)] == []


async def test_all_of_it_was_looked_at(life: Life) -> None:
    """The search above is worth something: every place holds a good deal."""
    counts = {name: len(getattr(life, name)) for name in ("answers", "messages", "letters", "crashes", "sessions")}
    lines = sum(text.count("\n") for text in life.logs.values())
    _log.info("%s, %d lines of logs, %d characters of tables", counts, lines, sum(map(len, life.tables.values())))
    assert len(life.answers) > 15 * len(TEXTS)
    assert {answer.status_code for answer in life.answers} >= {200, 400, 401, 404, 409, 422, 502}
    assert sum(answer.request.url.path in PAGES for answer in life.answers) == 2 * len(PAGES)
    assert len(life.letters) > 5 * len(TEXTS)
    assert {message.type for message in life.messages} >= {"fault", "checkout.create.reply"}
    assert all("ready: consuming commands" in text or "Connected to RabbitMQ" in text for text in life.logs.values())
    assert "Traceback" in life.crashes.pop("unforeseen")
    told = {name: text.splitlines()[-1] for name, text in life.crashes.items()}
    assert all(re.search(r"[A-Z_]{6,}|[Dd]atabase|RabbitMQ", line) for line in told.values()), told
    for table in ("payments", "journal", "outbox", "request_keys"):
        assert len(life.tables[f"public.{table}"]) > 300, table


def secrets_of(model: type[BaseSettings]) -> set[str]:
    return {name for name, member in model.model_fields.items() if SecretStr.__name__ in str(member.annotation)}


async def test_every_setting_that_is_a_secret_has_a_mark_in_it() -> None:
    """Hand a new secret to the processes in `life.py`, with a mark."""
    models = (service.settings.Settings, service.settings.MigrateSettings, service.settings.OperatorSettings)
    known = {
        "amqp_url",
        "database_url",
        "database_listen_url",
        "migration_database_url",
        "stripe_api_key",
        "eureka_url",
    }
    known |= {"console_users", "console_proxy_secret"}
    assert set().union(*map(secrets_of, (*models, bridge.settings.Settings, console.settings.Settings))) == known


async def test_what_is_personal_is_in_no_log_and_no_answer_to_its_sender(life: Life) -> None:
    """S11: card numbers and e-mail addresses are sent in every member, header, property and address."""
    said = [
        *life.logs.items(),
        *life.crashes.items(),
        *((f"answer to {each.request.url.path}", each.text + str(each.headers)) for each in life.answers),
        *((f"fault {each.document}", each.body.decode()) for each in life.messages if each.type == envelope.FAULT_TYPE),
        *(("letter", str({name: each.headers.get(name) for name in OURS})) for each in life.letters),
    ]
    assert [(place, text) for place, content in said for text in PERSONAL if text in content] == []


async def test_a_dead_letter_is_what_was_sent_and_what_we_say_of_it(life: Life) -> None:
    """S11: an operator sees the sender's own words, so the search could find them elsewhere."""
    assert any(PAN.encode() in letter.body for letter in life.letters)
    assert any(PAN in str(letter.headers) for letter in life.letters)
    assert all(letter.headers[envelope.REASON] for letter in life.letters)


async def test_no_card_number_is_stored_or_passed_on(life: Life) -> None:
    """S20: not in a table, not at Stripe, not in an event or a reply, however it is written."""
    digits = re.compile(r"5105(%20|[ +-])?1051(%20|[ +-])?0510(%20|[ +-])?5100")
    kept = [*life.tables.items(), *((each["id"], json.dumps(each)) for each in life.sessions)]
    kept += [(str(each.type), each.body.decode()) for each in life.messages]
    assert [place for place, content in kept if digits.search(content)] == []


async def test_the_address_to_pay_at_is_told_to_who_asked_and_while_it_can_be_paid(life: Life) -> None:
    """S19: whoever has it can pay, so only the reply, the row and the event of a pending payment hold it."""
    assert len(life.pages) == 2
    addresses = re.compile(r"/c/pay/cs_test_\w+")
    assert all(addresses.search(page) for page in life.pages)
    for place, content in (*life.logs.items(), *life.crashes.items()):
        assert not addresses.search(content), place
    assert not addresses.search(life.tables["public.journal"] + life.tables["public.request_keys"])
    for message in life.messages:
        if addresses.search(message.body.decode()):
            pending = message.routing_key == "payment.pending" and message.document["data"]["status"] == "PENDING"
            assert pending or message.type == "checkout.create.reply", message
    for answer in life.answers:
        told = answer.text + str(answer.headers)
        if answer.request.url.path in PAGES:  # with an example
            assert not any(page in told for page in life.pages)
        elif addresses.search(told):
            assert answer.is_success
            assert answer.request.url.path.endswith("/checkout/create")


async def test_nothing_that_was_sent_breaks_a_log_line(life: Life) -> None:
    """S22: each line is one JSON object of the service or the bridge."""
    for name, text in life.logs.items():
        for line in text.split("\n")[:-1]:
            entry = json.loads(line)
            assert {"time", "level", "logger", "message"} <= set(entry), (name, line)
            assert entry["message"] != "forged"
            assert not re.search(r"[\x00-\x1f\x7f\x85\u2028\u2029]", line), (name, line)


async def test_nothing_that_was_sent_is_executed_or_passed_on_as_it_is(life: Life) -> None:
    """S22: the tables exist, no header is injected, no template is run, and Stripe gets our metadata alone."""
    for answer in life.answers:
        assert "set-cookie" not in answer.headers
        assert "<script>" not in answer.text
    assert INJECTIONS[0] in life.tables["public.request_keys"], "a key is kept word for word, as a bound parameter"
    for session in life.sessions:
        metadata = session["metadata"]
        terms = {"amountMinor", "currency", "payUntil"}
        assert set(metadata) == {"bookingId", "userId", "paymentReference"} | terms
        assert all(len(value) <= 500 for value in metadata.values())
        assert metadata["bookingId"].isdigit()
        assert metadata["userId"].isdigit()


async def test_no_refusal_shows_what_is_behind_it(life: Life) -> None:
    """S25: no traceback, no request id of Stripe's, no SQL, no sentence of a library or of Stripe."""
    refusals = [answer.text for answer in life.answers if answer.is_error and answer.request.url.path not in PAGES]
    refusals += [each.body.decode() for each in life.messages if each.type == envelope.FAULT_TYPE]
    refusals += [str({name: each.headers.get(name) for name in OURS}) for each in life.letters]
    assert len(refusals) > 15 * len(TEXTS)
    assert [text for text in refusals if INTERNALS.search(text)] == []
