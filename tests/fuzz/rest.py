"""schemathesis against a bridge: requests are drawn from its own document, and answers are checked by it."""

import itertools
from collections import Counter
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import httpx
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema
from schemathesis.openapi.checks import RejectedPositiveData

from contracts import body
from contracts.body import InvalidBodyError
from contracts.commands import CreateCheckout
from contracts.faults import FaultCode
from service.domain import urls
from service.domain.errors import InvalidRequestError
from service.domain.money import CURRENCIES, Money
from tests.integration.bridge.conftest import BASE, IDENTITY

__all__ = ["BASE", "Findings", "fuzz"]

ORIGINS = frozenset({"https://shop.example:443"})
"""The allowed origins of the service behind the bridge."""
_CODES = "|".join("".join(f"[{letter.upper()}{letter}]" for letter in code) for code in sorted(CURRENCIES))
_URL: dict[str, Any] = {
    "type": ["string", "null"],
    "pattern": r"^https://shop\.example/[!-\[\]-~]*$",
    "maxLength": 2048,
}
_PLAUSIBLE: dict[str, dict[str, Any]] = {
    "currency": {"type": ["string", "null"], "pattern": f"^({_CODES})$"},
    "successUrl": _URL,
    "cancelUrl": _URL,
}
"""Narrower than the document: random letters would never make a payment."""
_SCHEMES: dict[str, str] = {"platformUserId": "X-User-Id", "platformUserRoles": "X-User-Roles"}
"""The document's security schemes of the identity, and their headers."""
_STATES = {FaultCode.NOT_FOUND, FaultCode.ALREADY_PAID, FaultCode.IN_PROGRESS}
"""Faults that a valid request may get: no such session, a booking that is not free."""
_STATES_OF_A_KEY = {FaultCode.IDEMPOTENCY_KEY_REUSED, FaultCode.FAILED}
"""More faults with an idempotency key: it was used for something else, or its payment failed."""


@dataclass(kw_only=True)
class Findings:
    """`answers` and, among them, `linked` count by operation and status; `checks` are those that were made."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    linked: Counter[tuple[str, int]] = field(default_factory=Counter)
    checks: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)

    @property
    def cases(self) -> int:
        return self.answers.total()

    def add(self, scenario: events.ScenarioFinished) -> None:
        recorder = scenario.recorder
        for case_id, interaction in recorder.interactions.items():
            node = recorder.cases[case_id]
            status = interaction.response.status_code if interaction.response else 0
            self.answers[node.value.operation.label, status] += 1
            if node.transition is not None:
                self.linked[node.value.operation.label, status] += 1
            if not status:
                self.failures.append(f"{node.value.operation.label}: no answer")
        for check in itertools.chain.from_iterable(recorder.checks.values()):
            self.checks.add(check.name)
            if check.status is Status.FAILURE and check.failure_info is not None:
                failure = check.failure_info
                self.failures.append(f"{check.name}: {failure.failure.message}\n{failure.code_sample[:2000]}")

    def __str__(self) -> str:
        statuses = Counter(status for _, status in self.answers.elements())
        counted = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
        linked = ", ".join(f"{count} x {label} {status}" for (label, status), count in sorted(self.linked.items()))
        return f"{self.cases} cases: {counted}; by links: {linked}; checks: {', '.join(sorted(self.checks))}"


def fuzz(url: str, *, seed: int, cases: int) -> Findings:
    """Run every check on examples, edge cases, random cases and sequences."""
    config = SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "base-url": url,
            "request-timeout": 60,
            "continue-on-failure": True,
            "auth": {"openapi": {scheme: {"api_key": IDENTITY[header]} for scheme, header in _SCHEMES.items()}},
            # `valid_data_is_accepted` takes its place: no schema can say what each currency allows.
            "checks": {"positive_data_acceptance": {"enabled": False}},
            "generation": {"max-examples": cases // 3 or 1, "database": "none"},
            "phases": {"stateful": {"generation": {"max-examples": cases // 20 or 1}}},
        }
    )
    schema = schemathesis.openapi.from_dict(_document(url), config=config)
    findings = Findings()
    for event in from_schema(schema).execute():
        match event:
            case events.ScenarioFinished():
                findings.add(event)
            case events.NonFatalError():
                findings.failures.append(f"{event.label}: {event.value}")
            case events.FatalError():
                raise event.exception
            case _:
                pass
    return findings


def _document(url: str) -> dict[str, Any]:
    """The bridge's own, without the security scheme that this bridge does not use."""
    document: dict[str, Any] = httpx.get(f"{url}/v3/api-docs").raise_for_status().json()
    del document["components"]["securitySchemes"]["serviceToken"]
    for path in document["paths"].values():
        for operation in path.values():
            operation["security"] = [{scheme: [] for scheme in _SCHEMES}]
            for parameter in operation["parameters"]:
                if parameter["name"] == "Prefer":  # a caller who prefers to wait does wait
                    parameter["example"] = "wait=0"
    _narrow(document)
    return document


def _narrow(node: Any) -> None:
    if isinstance(node, dict):
        properties = node.get("properties", {})
        properties.update({name: _PLAUSIBLE[name] for name in properties.keys() & _PLAUSIBLE.keys()})
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _narrow(child)


@schemathesis.check
def valid_data_is_accepted(_context: Any, response: Any, case: Any) -> None:
    """Only the rules of currencies and origins refuse a valid request, and they always do."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    code = response.json()["paymentStatus"] if response.status_code >= HTTPStatus.BAD_REQUEST else None
    allowed = {FaultCode.VALIDATION_ERROR} if _breaks_a_rule(response.request.body) else {None} | _STATES
    if "Idempotency-Key" in response.request.headers:  # what its first request was is looked at first
        allowed |= _STATES_OF_A_KEY
    if code not in allowed:
        raise RejectedPositiveData(
            operation=case.operation.label,
            message=f"A valid request was answered with {response.status_code} {response.text}",
            status_code=response.status_code,
            allowed_statuses=[],
        )


def _breaks_a_rule(content: bytes | str | None) -> bool:
    if not content:
        return False
    try:
        command = body.read(CreateCheckout, content if isinstance(content, bytes) else content.encode())
        Money.from_major(command.amount, command.currency or "inr")
        for url in filter(None, (command.success_url, command.cancel_url)):
            urls.allowed(url, field="", origins=ORIGINS)
    except InvalidRequestError:
        return True
    except InvalidBodyError as error:
        return str(error).startswith("amount must be greater than 0")  # "0.00", or 1e-300
    return False
