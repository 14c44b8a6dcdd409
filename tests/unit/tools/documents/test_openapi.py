"""`contracts/openapi.json` matches the code and has examples of every answer of the bridge."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute

from bridge.errors import BridgeCode
from bridge.problems import STATUS
from bridge.routes import BASE_PATH
from contracts.faults import FaultCode
from contracts.replies import PaymentStatus
from service.application import sentences, translation
from service.domain import errors
from service.domain.payment import FailureReason
from service.domain.payment import PaymentStatus as Status
from tests.kit.bridge import an_app, an_rpc_client
from tests.kit.service import a_payment
from tests.unit.tools.documents.validation import problems
from tools.documents.files import FOLDER, GENERATED, parsed

DOCUMENT = parsed((FOLDER / "openapi.json").read_text())
OPERATIONS = {operation["operationId"]: operation for path in DOCUMENT["paths"].values() for operation in path.values()}


def contents() -> Iterator[tuple[str, Any]]:
    """Every request and answer of the document, with a name."""
    for name, operation in OPERATIONS.items():
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            yield f"{name} {media_type}", content
        for status, response in operation["responses"].items():
            for content in response["content"].values():
                yield f"{name} {status}", content


def values(content: Any) -> list[Any]:
    return [example["value"] for example in content.get("examples", {}).values()]


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_the_committed_document_is_what_the_code_says(path: Any) -> None:
    assert path.read_text() == GENERATED[path](), "run `make documents`"


@pytest.mark.parametrize(("name", "content"), [pytest.param(*each, id=each[0]) for each in contents()])
def test_every_example_is_what_its_schema_says(name: str, content: Any) -> None:
    assert values(content), name
    for value in values(content):
        assert problems(DOCUMENT, content["schema"], value) == []


def test_a_request_may_leave_out_or_null_what_is_optional_and_nothing_else() -> None:
    schema = DOCUMENT["components"]["schemas"]["CreateCheckout"]
    request = {"bookingId": 1, "userId": 1, "amount": 1}
    assert problems(DOCUMENT, schema, request) == []
    assert problems(DOCUMENT, schema, request | {"successUrl": None, "cancelUrl": None, "currency": None}) == []
    assert problems(DOCUMENT, schema, request | {"bookingId": None})
    assert problems(DOCUMENT, schema, request | {"succesUrl": None})


def test_the_document_names_the_addresses_and_methods_of_the_bridge() -> None:
    app = an_app(an_rpc_client("amqp://localhost", timeout_seconds=1, max_in_flight=1))
    served = {
        (route.path_format, method)
        for route in app.routes
        if isinstance(route, APIRoute) and route.path_format.startswith(BASE_PATH)
        for method in route.methods
    }
    assert served == {(path, method.upper()) for path, methods in DOCUMENT["paths"].items() for method in methods}


def test_the_document_says_who_may_call_and_with_which_headers_it_answers() -> None:
    platform: dict[str, list[str]] = {"platformUserId": [], "platformUserRoles": []}
    scopes = {"createCheckoutSession": "payments:create"}
    for name, operation in OPERATIONS.items():
        assert operation["security"] == [platform, {"serviceToken": [scopes.get(name, "payments:read")]}]
        assert set(operation["responses"]["503"]["headers"]) == {"X-Request-ID", "Retry-After"}
        assert "WWW-Authenticate" in operation["responses"]["401"]["headers"]
    schemes = DOCUMENT["components"]["securitySchemes"]
    assert [schemes[name]["name"] for name in platform] == ["X-User-Id", "X-User-Roles"]
    assert (schemes["serviceToken"]["scheme"], schemes["serviceToken"]["bearerFormat"]) == ("bearer", "JWT")
    assert set(OPERATIONS["verifyCheckoutSession"]["responses"]["200"]["headers"]) == {
        *("X-Request-ID", "Retry-After", "X-Payment-Status-Source", "X-Payment-Attention", "Preference-Applied")
    }
    request = DOCUMENT["components"]["schemas"]["CreateCheckout"]
    assert (request["additionalProperties"], request["properties"]["bookingId"]["maximum"]) == (False, 2**63 - 1)


def test_parameters_and_headers_have_examples_that_fit() -> None:
    for operation in OPERATIONS.values():
        headers = [header for response in operation["responses"].values() for header in response["headers"].values()]
        for described in [*operation["parameters"], *headers]:
            assert problems(DOCUMENT, described["schema"], described["example"]) == []
            assert described["description"]


def test_every_code_has_an_example_at_its_status() -> None:
    shown = {
        (status, code)
        for operation in OPERATIONS.values()
        for status, response in operation["responses"].items()
        for content in response["content"].values()
        for code in content.get("examples", {})
        if int(status) >= 400
    }
    expected = {(str(int(status)), code.value) for code, status in STATUS.items()}
    # An operation cannot be called by a method that is not its own.
    assert shown == expected - {("405", BridgeCode.METHOD_NOT_ALLOWED.value)}


def test_an_example_of_a_fault_says_what_the_service_says() -> None:
    raised: dict[str, set[tuple[str, bool]]] = {}
    for _, error in inspect.getmembers(errors, inspect.isclass):
        if issubclass(error, errors.PaymentServiceError):
            raised.setdefault(error.code, set()).add((error.default_message, error.retryable))
    own = {FaultCode.VALIDATION_ERROR, FaultCode.INTERNAL_ERROR, FaultCode.SERVICE_UNAVAILABLE}
    own |= {FaultCode.DEADLINE_EXCEEDED}  # these the bridge says, too, in words of its own
    for code in set(FaultCode) - own:
        for _, content in contents():
            if example := content.get("examples", {}).get(code.value):
                value = example["value"]
                if "retryable" in value:
                    assert (value["message"], value["retryable"]) in raised[code]


def test_an_example_of_an_answer_says_what_the_service_says() -> None:
    shown = {
        value["message"] for content in dict(contents()).values() for value in values(content) if "message" in value
    }
    for status in PaymentStatus:
        reason = FailureReason.EXPIRED.value if status is PaymentStatus.FAILED else None
        payment = a_payment(status=Status(status.value), reason=reason)
        assert sentences.of_state(payment) in shown
    assert sentences.of_state(a_payment(), gateway_answered=False) in shown
    assert sentences.of_state(a_payment(attention="paid_differently", last_outcome="paid")) in shown
    assert translation.checkout_session(a_payment()).message in shown
