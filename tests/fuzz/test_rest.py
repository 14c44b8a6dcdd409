"""B15 The bridge, with the whole system behind it, gets whatever its OpenAPI document allows and forbids."""

import asyncio

import pytest

from tests.fuzz import rest
from tests.fuzz.conftest import Say
from tests.integration.service.crash.programs import Programs

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:Generating overly large repr:hypothesis.errors.HypothesisWarning"),
]

CHECKS = set(
    "allow_header_conformance content_type_conformance ensure_resource_availability ignored_auth"
    " missing_required_header negative_data_rejection not_a_server_error response_headers_conformance"
    " response_schema_conformance status_code_conformance unsupported_method valid_data_is_accepted".split()
)
VERIFY, STATUS = (f"GET {rest.BASE}/{path}" for path in ("checkout/verify/{sessionId}", "status/{transactionId}"))


async def test_answers_are_what_the_document_says(programs: Programs, seed: int, cases: int, say: Say) -> None:
    """B15 schemathesis, all checks, stateful: no failure, no 5xx, no answer that is not documented."""
    service = await programs.service(PAYMENT_URL_ORIGINS="https://shop.example")
    bridge = await programs.bridge()
    findings = await asyncio.to_thread(rest.fuzz, bridge.url, seed=seed, cases=cases)
    say(f"REST, seed {seed}: {findings}")
    assert findings.failures == [], "\n\n".join(findings.failures[:20])
    assert findings.cases >= cases
    assert findings.checks >= CHECKS
    # What was created was found again by the links, and something was paid for: not all were refusals.
    assert findings.linked[VERIFY, 200] > 0
    assert findings.linked[STATUS, 200] > 0
    for program in (bridge, service):
        await program.stopped()
        assert [line for line in program.lines if line["level"] in {"ERROR", "CRITICAL"}] == []
