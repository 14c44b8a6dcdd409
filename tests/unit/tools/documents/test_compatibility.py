"""Every breaking change is found, others pass, and a raised version allows all."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tools.documents.compatibility import incompatible
from tools.documents.files import FOLDER, parsed

Document = dict[str, Any]
Change = Callable[[Document], Any]

OPENAPI = parsed((FOLDER / "openapi.json").read_text())
ASYNCAPI = parsed((FOLDER / "asyncapi.yaml").read_text())

BASE = "/api/v1/internal/payments"
CREATE, VERIFY = f"{BASE}/checkout/create", f"{BASE}/checkout/verify/{{sessionId}}"


def changed(document: Document, change: Change) -> Document:
    copied = copy.deepcopy(document)
    change(copied)
    return copied


def create(document: Document) -> Any:
    return document["paths"][CREATE]["post"]


def verify(document: Document) -> Any:
    return document["paths"][VERIFY]["get"]


def schema(document: Document, name: str) -> Any:
    return document["components"]["schemas"][name]


def member(document: Document, name: str, of: str) -> Any:
    return schema(document, of)["properties"][name]


def headers(document: Document, message: str) -> Any:
    return document["components"]["messages"][message]["headers"]


def operation(document: Document, name: str = "getPaymentStatus") -> Any:
    return document["operations"][name]


def amqp(document: Document, channel: str) -> Any:
    return document["channels"][channel]["bindings"]["amqp"]


def a_new_member(document: Document, *, of: str, required: bool = False) -> None:
    schema(document, of)["properties"]["channel"] = {"type": "string"}
    if required:
        schema(document, of)["required"].append("channel")


REST_BREAKS: dict[str, Change] = {
    "a path removed": lambda d: d["paths"].pop(VERIFY),
    "a method removed": lambda d: d["paths"][CREATE].pop("post"),
    "another operation id": lambda d: create(d).update(operationId="create"),
    "a status removed": lambda d: create(d)["responses"].pop("409"),
    "a media type of an answer removed": lambda d: create(d)["responses"]["400"].update(content={}),
    "a media type of a request removed": lambda d: create(d)["requestBody"].update(content={}),
    "a header of an answer removed": lambda d: verify(d)["responses"]["200"]["headers"].pop("Retry-After"),
    "a header of an answer with another type": lambda d: verify(d)["responses"]["200"]["headers"]["Retry-After"].update(
        schema={"type": "string"}
    ),
    "a header of a request removed": lambda d: create(d)["parameters"].pop(0),
    "a new required header": lambda d: create(d)["parameters"].append(
        {"name": "X-Tenant", "in": "header", "required": True, "schema": {"type": "string"}}
    ),
    "a narrower header": lambda d: create(d)["parameters"][0]["schema"].update(pattern="^[a-z]{1,8}$"),
    "a new required member of a request": lambda d: a_new_member(d, of="CreateCheckout", required=True),
    "a member of a request removed": lambda d: schema(d, "CreateCheckout")["properties"].pop("cancelUrl"),
    "a member that may no longer be null": lambda d: member(d, "successUrl", "CreateCheckout")["anyOf"].pop(),
    "a member of a request with another type": lambda d: member(d, "bookingId", "CreateCheckout").update(type="string"),
    "a member of a request with a lower maximum": lambda d: member(d, "userId", "CreateCheckout").update(maximum=9),
    "a member of a request with values to choose from": lambda d: member(d, "bookingId", "CreateCheckout").update(
        enum=[1, 2]
    ),
    "a member of an answer removed": lambda d: schema(d, "PaymentState")["properties"].pop("message"),
    "a member of an answer that may be missing": lambda d: schema(d, "PaymentState")["required"].remove("amount"),
    "a member of an answer with another type": lambda d: member(d, "amount", "PaymentState").update(type="string"),
    "a member of an answer that may be null": lambda d: member(d, "amount", "PaymentState").update(
        type=["number", "null"]
    ),
    "a narrowed enumeration": lambda d: schema(d, "PaymentStatus")["enum"].remove("FAILED"),
    "a status more for those who read": lambda d: schema(d, "PaymentStatus")["enum"].append("REFUNDED"),
    "a way to say who one is removed": lambda d: create(d)["security"].pop(0),
    "another scope": lambda d: create(d)["security"][1].update(serviceToken=["payments:write"]),
    "another header for who one is": lambda d: d["components"]["securitySchemes"]["platformUserId"].update(
        name="X-User"
    ),
}

REST_KEEPS: dict[str, Change] = {
    "nothing": lambda _: None,
    "other words": lambda d: create(d).update(summary="Pay", description="..."),
    "a new path": lambda d: d["paths"].update({"/refunds": copy.deepcopy(d["paths"][CREATE])}),
    "a new status": lambda d: create(d)["responses"].update({"402": create(d)["responses"]["400"]}),
    "a new optional member of a request": lambda d: a_new_member(d, of="CreateCheckout"),
    "a new member of an answer": lambda d: a_new_member(d, of="PaymentState", required=True),
    "a new optional header": lambda d: create(d)["parameters"].append(
        {"name": "X-Tenant", "in": "header", "schema": {"type": "string"}}
    ),
    "a request that takes more": lambda d: member(d, "bookingId", "CreateCheckout").update(
        type=["integer", "string"], minimum=0
    ),
    "an answer that says less": lambda d: member(d, "amount", "PaymentState").update(exclusiveMinimum=1),
    "a required member now optional": lambda d: schema(d, "CreateCheckout")["required"].remove("userId"),
    "one more way to say who one is": lambda d: create(d)["security"].append({"mutualTLS": []}),
    "another example": lambda d: create(d)["requestBody"]["content"]["application/json"].pop("examples"),
}

MESSAGE_BREAKS: dict[str, Change] = {
    "a channel removed": lambda d: d["channels"].pop("payment.failed"),
    "another address": lambda d: d["channels"]["checkout.create"].update(address="create"),
    "another exchange": lambda d: amqp(d, "payment.failed")["exchange"].update(name="events"),
    "a delay removed": lambda d: d["channels"]["checkout.create.retry"]["parameters"]["delay"]["enum"].pop(),
    "an operation removed": lambda d: d["operations"].pop("getPaymentStatus"),
    "another action": lambda d: operation(d).update(action="send"),
    "no reply any more": lambda d: operation(d).pop("reply"),
    "a reply elsewhere": lambda d: operation(d)["reply"]["address"].update(location="$message.header#/x-reply-to"),
    "a reply of another kind": lambda d: operation(d)["reply"]["messages"].append(
        {"$ref": "#/channels/payment.failed/messages/payment.failed"}
    ),
    "a reply that never comes": lambda d: operation(d)["reply"]["messages"].pop(0),
    "a right taken away": lambda d: operation(d)["security"].clear(),
    "a server removed": lambda d: d["servers"].pop("amqps"),
    "a new required member of a command": lambda d: a_new_member(d, of="CreateCheckout", required=True),
    "a header of a command removed": lambda d: headers(d, "checkout.create")["properties"].pop("idempotency-key"),
    "a member of an event removed": lambda d: schema(d, "PaymentSnapshot")["properties"].pop("sequence"),
    "a member of an event that may be missing": lambda d: schema(d, "PaymentSnapshot")["required"].remove("userId"),
    "another type of event": lambda d: member(d, "type", "PaymentFailed").update(
        const="com.bookticket.payment.failed.v2"
    ),
    "a header of a reply removed": lambda d: headers(d, "checkout.verify.reply")["properties"].pop(
        "x-payment-status-source"
    ),
    "a code of a fault lost": lambda d: schema(d, "FaultCode")["enum"].remove("ALREADY_PAID"),
    "another content type": lambda d: d["components"]["messages"]["payment.failed"].update(
        contentType="application/json"
    ),
    "another way to find the answer": lambda d: d["components"]["messages"]["fault"].pop("correlationId"),
}

MESSAGE_KEEPS: dict[str, Change] = {
    "nothing": lambda _: None,
    "other words": lambda d: d["info"].update(description="..."),
    "a new event": lambda d: (
        d["channels"].update({"payment.closed": copy.deepcopy(d["channels"]["payment.failed"])}),
        d["operations"].update(publishClosed=copy.deepcopy(d["operations"]["publishPaymentFailed"])),
    ),
    "one more code of faults, which readers must expect": lambda d: schema(d, "FaultCode")["enum"].append("BUSY"),
    "a new optional header": lambda d: headers(d, "checkout.create")["properties"].update({"x-tenant": {}}),
    "a new header of a reply": lambda d: headers(d, "checkout.create.reply")["properties"].update({"x-tenant": {}}),
    "a new optional member of a command": lambda d: a_new_member(d, of="CreateCheckout"),
    "a new member of an event": lambda d: a_new_member(d, of="PaymentSnapshot", required=True),
    "a member of an event that is never null": lambda d: member(d, "transactionId", "PaymentSnapshot")["anyOf"].pop(),
}


def cases(rest: dict[str, Change], messages: dict[str, Change]) -> pytest.MarkDecorator:
    documents = ((OPENAPI, rest), (ASYNCAPI, messages))
    found = [pytest.param(each, changes[name], id=name) for each, changes in documents for name in changes]
    return pytest.mark.parametrize(("document", "change"), found)


@cases(REST_BREAKS, MESSAGE_BREAKS)
def test_a_change_that_breaks_somebody_is_found_unless_the_first_number_is_raised(
    document: Document, change: Change
) -> None:
    new = changed(document, change)
    for version, breaks in ((new["info"]["version"], True), ("1.1.0", True), ("2.0.0", False)):
        new["info"]["version"] = version
        assert bool(incompatible(document, new)) is breaks


@cases(REST_KEEPS, MESSAGE_KEEPS)
def test_a_change_that_breaks_nobody_passes(document: Document, change: Change) -> None:
    assert incompatible(document, changed(document, change)) == []


def test_a_finding_says_where_and_what() -> None:
    def change(document: Document) -> None:
        member(document, "bookingId", "CreateCheckout").update(type="string")

    [said] = [each for each in incompatible(OPENAPI, changed(OPENAPI, change)) if "was integer" in each]
    assert said == f"POST {CREATE}: body: bookingId: was integer, is string"
