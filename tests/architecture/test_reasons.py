"""Every reason of FAILED and of attention has its sentence, and is named wherever one reads of it."""

from enum import StrEnum
from pathlib import Path

import pytest

from contracts.events import EventKey
from service.application import sentences
from service.domain.payment import AttentionReason, FailureReason
from tools.documents.asyncapi_descriptions import EVENTS

ROOT = Path(__file__).parents[2]
OF_EVENTS = (ROOT / "contracts/events.py").read_text().partition("    reason: str | None\n")[2].partition('."""')[0]
MESSAGES = (ROOT / "docs/messages.md").read_text()
OPERATING = (ROOT / "docs/operating.md").read_text()
GLOSSARY = (ROOT / "docs/glossary.md").read_text()
FAILED = {
    "contracts/events.py": OF_EVENTS,
    "the description of payment.failed": EVENTS[EventKey.FAILED],
    "docs/glossary.md": GLOSSARY,
    "docs/messages.md": MESSAGES,
    "docs/operating.md": OPERATING,
}
ATTENTION = {
    "contracts/events.py": OF_EVENTS,
    "the description of payment.attention": EVENTS[EventKey.ATTENTION],
    "docs/messages.md": MESSAGES,
    "docs/operating.md": OPERATING,
}


def missing(reasons: type[StrEnum], places: dict[str, str]) -> set[tuple[str, str]]:
    return {(reason.value, place) for place, text in places.items() for reason in reasons if f"`{reason}`" not in text}


@pytest.mark.parametrize(("reasons", "places"), [(FailureReason, FAILED), (AttentionReason, ATTENTION)])
def test_every_reason_is_named_everywhere(reasons: type[StrEnum], places: dict[str, str]) -> None:
    assert missing(reasons, places) == set()


def test_a_reason_that_is_new_would_be_missed_everywhere() -> None:
    class Later(StrEnum):
        NEW = "new_reason"

    assert missing(Later, FAILED) == {("new_reason", place) for place in FAILED}


def test_every_reason_has_its_sentence() -> None:
    assert set(sentences.FAILED) == set(FailureReason)
    assert all(set(sentences.ATTENTION[status]) == set(AttentionReason) for status in sentences.ATTENTION)


def test_the_published_document_says_what_the_code_says() -> None:
    published = (ROOT / "contracts/asyncapi.yaml").read_text()
    assert missing(FailureReason, {"contracts/asyncapi.yaml": published}) == set()
    assert missing(AttentionReason, {"contracts/asyncapi.yaml": published}) == set()
