"""`docs/integrating.md` names every error that there is, and none that there is not, with what the code says of it."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bridge import errors
from bridge.errors import BridgeCode, Refusal
from bridge.problems import STATUS
from contracts.faults import DeadLetterReason, FaultCode
from contracts.topology import RETRY_DELAYS_SECONDS
from service.domain.errors import PaymentServiceError

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/integrating.md").read_text().partition("\n## Errors\n")[2]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| `")]
CODES = {row[0].strip("`"): row[1:] for row in ROWS if row[0].strip("`").isupper()}
REASONS = [row[0].strip("`") for row in ROWS if row[0] == row[0].lower() and row[0] != "`x-reason`"]


def kinds(base: type[Any]) -> Iterator[type[Any]]:
    yield base
    for kind in base.__subclasses__():
        yield from kinds(kind)


def test_every_code_has_its_row() -> None:
    assert sorted(CODES) == sorted(code.value for code in STATUS) == sorted([*FaultCode, *BridgeCode])
    assert len(ROWS) == len(CODES) + len(REASONS) + 1  # the head of the second table; so no code has two rows


def test_every_reason_has_its_row() -> None:
    assert sorted(REASONS) == sorted(DeadLetterReason)


def test_statuses_and_faults_are_those_of_the_code() -> None:
    said = {code: (status, fault) for code, (status, fault, *_) in CODES.items()}
    assert said == {
        code.value: (str(int(status)), "yes" if isinstance(code, FaultCode) else "no")
        for code, status in STATUS.items()
    }


def test_an_error_may_be_repeated_exactly_where_the_page_says_so() -> None:
    retryable: dict[str, set[str]] = defaultdict(set)
    refusals: list[Any] = [member for member in vars(errors).values() if isinstance(member, Refusal)]
    for refusal in [*refusals, *kinds(PaymentServiceError)]:
        retryable[str(refusal.code)].add("yes" if refusal.retryable else "no")
    assert dict(retryable) == {code: {row[2]} for code, row in CODES.items()}


def test_the_tries_of_a_command_are_those_of_the_topology() -> None:
    [(tries, minutes)] = re.findall(r"failed for passing reasons (\w+) times in (\d+) minutes", PAGE)
    assert (tries, len(RETRY_DELAYS_SECONDS) + 1) == ("six", 6)
    assert round(sum(RETRY_DELAYS_SECONDS) / 60) == int(minutes)
