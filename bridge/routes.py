"""The three endpoints, each one command."""

import logging
from collections.abc import Callable
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bridge.edge import REQUEST_ID
from bridge.errors import BadReplyError, InvalidRequestError
from bridge.identity import caller, single
from bridge.reading import BodyLimits, read_body
from bridge.requester import Reply, Requester
from bridge.schemas import (
    BASE_PATH,
    CREATE_ANSWER,
    RETRY_AFTER_PENDING_SECONDS,
    STATE_ANSWER,
    create_operation,
    read_operation,
    responses,
)
from contracts import body, envelope
from contracts.body import AnyRecord, InvalidBodyError
from contracts.cards import holds_card_number
from contracts.commands import CommandType, CreateCheckout, GetPaymentStatus, VerifyCheckout
from contracts.replies import CheckoutSession, PaymentState, PaymentStatus, StatusSource

_log = logging.getLogger(__name__)

STATUS_SOURCE_HEADER: Final = "X-Payment-Status-Source"


class RawRoute(APIRoute):
    """A route whose endpoint takes the request and gives the response itself.

    FastAPI reads bodies without a limit, parses numbers as floats and spends more time on arguments than everything
    else here together; of FastAPI we want the routing and the document.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **documented: Any) -> None:
        super().__init__(path, endpoint, **documented)
        self.app = self._serve

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        response: Response = await self.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


class PaymentRoutes:
    """The endpoints and what they need."""

    def __init__(self, requester: Requester, limits: BodyLimits) -> None:
        self._requester = requester
        self._limits = limits

    def add_to(self, app: FastAPI) -> None:
        """Register the endpoints."""
        add = app.router.add_api_route
        add(
            f"{BASE_PATH}/checkout/create",
            self.create,
            methods=["POST"],
            operation_id="createCheckoutSession",
            response_model=CheckoutSession,
            responses=responses(CREATE_ANSWER, has_body=True),
            openapi_extra=create_operation(),
            route_class_override=RawRoute,
        )
        # `:path`, so that an id with (encoded) slashes in it is a malformed id here and not somebody else's route.
        add(
            f"{BASE_PATH}/checkout/verify/{{sessionId:path}}",
            self.verify,
            methods=["GET"],
            operation_id="verifyCheckoutSession",
            response_model=PaymentState,
            responses=responses(STATE_ANSWER, has_body=False, verifies=True),
            openapi_extra=read_operation("sessionId"),
            route_class_override=RawRoute,
        )
        add(
            f"{BASE_PATH}/status/{{transactionId:path}}",
            self.status,
            methods=["GET"],
            operation_id="getPaymentStatus",
            response_model=PaymentState,
            responses=responses(STATE_ANSWER, has_body=False),
            openapi_extra=read_operation("transactionId"),
            route_class_override=RawRoute,
        )

    async def create(self, request: Request) -> Response:
        """Start a payment for a booking. Safe to repeat."""
        headers = _message_headers(request)
        key = single(request.scope["headers"], "Idempotency-Key")
        if key is not None:
            if not envelope.is_idempotency_key(key):
                raise InvalidRequestError("Idempotency-Key must be 1 to 255 printable ASCII characters.")
            if holds_card_number(key):
                raise InvalidRequestError("Idempotency-Key must not hold a card number.")
            headers[envelope.IDEMPOTENCY_KEY] = key
        content = await read_body(request, self._limits)
        try:
            body.read(CreateCheckout, content)
        except InvalidBodyError as error:
            raise InvalidRequestError(str(error)) from None
        reply = await self._requester.call(CommandType.CREATE_CHECKOUT, content, headers)
        _understand(CheckoutSession, reply, request)
        return Response(reply.body, media_type="application/json")

    async def verify(self, request: Request) -> Response:
        """Ask the gateway how a checkout session stands."""
        headers = _message_headers(request)
        try:
            command = VerifyCheckout.model_validate(request.path_params)
        except ValidationError as error:
            raise InvalidRequestError(body.describe(error)) from None
        reply = await self._requester.call(CommandType.VERIFY_CHECKOUT, body.write(command), headers)
        response = _state_response(reply, request)
        source = reply.headers.get(envelope.STATUS_SOURCE)
        if source in set(StatusSource):
            response.headers[STATUS_SOURCE_HEADER] = str(source)
        return response

    async def status(self, request: Request) -> Response:
        """Read a payment as it was last known; Stripe is not asked."""
        headers = _message_headers(request)
        try:
            command = GetPaymentStatus.model_validate(request.path_params)
        except ValidationError as error:
            raise InvalidRequestError(body.describe(error)) from None
        reply = await self._requester.call(CommandType.PAYMENT_STATUS, body.write(command), headers)
        return _state_response(reply, request)


def _message_headers(request: Request) -> dict[str, str]:
    """Who calls, and what connects the message with the request. Refuses whoever may not call."""
    raw = request.scope["headers"]
    headers = {envelope.CALLER: caller(raw), envelope.REQUEST_ID: request.scope[REQUEST_ID]}
    trace_parents = [value for name, value in raw if name == b"traceparent"]
    if len(trace_parents) == 1 and envelope.is_trace_parent(trace := trace_parents[0].decode("latin-1")):
        headers[envelope.TRACE_PARENT] = trace
    return headers


def _state_response(reply: Reply, request: Request) -> Response:
    state = _understand(PaymentState, reply, request)
    response = Response(reply.body, media_type="application/json")
    if state.payment_status is PaymentStatus.PENDING:
        response.headers["Retry-After"] = str(RETRY_AFTER_PENDING_SECONDS)
    return response


def _understand(model: type[AnyRecord], reply: Reply, request: Request) -> AnyRecord:
    """Check a reply; its bytes are then passed on as they came."""
    try:
        return body.read(model, reply.body)
    except InvalidBodyError as error:
        _log.error("A reply is not a %s: %s", model.__name__, error, extra={"request_id": request.scope[REQUEST_ID]})
        raise BadReplyError from None
