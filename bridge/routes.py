"""The three endpoints, each one command."""

import contextlib
import logging
from collections.abc import Callable
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bridge.calls import Hold
from bridge.edge import REQUEST_ID, TRACE_PARENT
from bridge.errors import BadReplyError, DeadlineExceededError, InvalidRequestError
from bridge.identity import Identity, Permission, single
from bridge.openapi import create_operation, status_operation, verify_operation
from bridge.rates import RateLimits
from bridge.reading import BodyLimits, read_body
from bridge.requester import Reply, Requester
from bridge.schemas import BASE_PATH, RETRY_AFTER_PENDING_SECONDS
from bridge.waiting import HELD, WATCH, wait_seconds
from contracts import body, envelope, logs
from contracts.body import AnyRecord, InvalidBodyError
from contracts.cards import holds_card_number
from contracts.commands import CommandType, CreateCheckout, GetPaymentStatus, VerifyCheckout
from contracts.replies import CheckoutSession, PaymentState, PaymentStatus, StatusSource

_log = logging.getLogger(__name__)

STATUS_SOURCE_HEADER: Final = "X-Payment-Status-Source"
PREFERENCE_APPLIED_HEADER: Final = "Preference-Applied"


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

    def __init__(self, requester: Requester, *, identity: Identity, rates: RateLimits, limits: BodyLimits) -> None:
        self._requester = requester
        self._identity = identity
        self._rates = rates
        self._limits = limits

    def add_to(self, app: FastAPI) -> None:
        """Register the endpoints."""
        add = app.router.add_api_route
        add(
            f"{BASE_PATH}/checkout/create",
            self.create,
            methods=["POST"],
            openapi_extra=create_operation(),
            route_class_override=RawRoute,
        )
        # `:path`, so that an id with (encoded) slashes in it is a malformed id here and not somebody else's route.
        add(
            f"{BASE_PATH}/checkout/verify/{{sessionId:path}}",
            self.verify,
            methods=["GET"],
            openapi_extra=verify_operation(),
            route_class_override=RawRoute,
        )
        add(
            f"{BASE_PATH}/status/{{transactionId:path}}",
            self.status,
            methods=["GET"],
            openapi_extra=status_operation(),
            route_class_override=RawRoute,
        )

    async def create(self, request: Request) -> Response:
        """Start a payment for a booking. Safe to repeat."""
        headers = await self._admit(request, Permission.CREATE)
        key = single(request.scope["headers"], "Idempotency-Key")
        if key is not None:
            if not envelope.is_idempotency_key(key):
                raise InvalidRequestError("Idempotency-Key must be 1 to 255 printable ASCII characters.")
            if holds_card_number(key):
                raise InvalidRequestError("Idempotency-Key must not hold a card number.")
            headers[envelope.IDEMPOTENCY_KEY] = key
        content = await read_body(request, self._limits)
        try:
            command = body.read(CreateCheckout, content)
        except InvalidBodyError as error:
            raise InvalidRequestError(str(error)) from None
        logs.bind(booking_id=command.booking_id)
        self._rates.bookings.take(command.booking_id)
        reply = await self._requester.call(CommandType.CREATE_CHECKOUT, content, headers)
        _understand(CheckoutSession, reply)
        return Response(reply.body, media_type="application/json")

    async def verify(self, request: Request) -> Response:
        """Ask the gateway how a checkout session stands."""
        headers = await self._admit(request, Permission.READ)
        try:
            content = body.write(VerifyCheckout.model_validate(request.path_params))
        except ValidationError as error:
            raise InvalidRequestError(body.describe(error)) from None
        reply = await self._verified(request, content, headers)
        response = _state_response(reply)
        if waited := envelope.wait_seconds(reply.headers.get(envelope.WAIT_SECONDS)):
            response.headers[PREFERENCE_APPLIED_HEADER] = f"wait={waited}"
        source = reply.headers.get(envelope.STATUS_SOURCE)
        if source in set(StatusSource):
            response.headers[STATUS_SOURCE_HEADER] = str(source)
        return response

    async def _verified(self, request: Request, content: bytes, headers: dict[str, str]) -> Reply:
        """The reply, held by the service until there is an outcome if the caller prefers to wait."""
        seconds = wait_seconds(request.scope["headers"])
        if seconds and self._requester.can_hold:
            hold = Hold(seconds=seconds, watch=request.scope.get(WATCH, lambda _: None))
            headers[envelope.WAIT_SECONDS] = str(seconds)
            request.scope[WATCH] = HELD
            request.scope["headers"].clear()  # read; the callers who wait have thousands of them
            # Whoever holds it may die, or we are told to stop: then there is still time to ask how it stands.
            with contextlib.suppress(DeadlineExceededError):
                return await self._requester.call(CommandType.VERIFY_CHECKOUT, content, headers, hold=hold)
            del headers[envelope.WAIT_SECONDS]
        return await self._requester.call(CommandType.VERIFY_CHECKOUT, content, headers)

    async def status(self, request: Request) -> Response:
        """Read a payment as it was last known; Stripe is not asked."""
        headers = await self._admit(request, Permission.READ)
        try:
            command = GetPaymentStatus.model_validate(request.path_params)
        except ValidationError as error:
            raise InvalidRequestError(body.describe(error)) from None
        reply = await self._requester.call(CommandType.PAYMENT_STATUS, body.write(command), headers)
        return _state_response(reply)

    async def _admit(self, request: Request, permission: Permission) -> dict[str, str]:
        """The message's headers: who calls, and what connects it with the request. Refuses whoever may not call."""
        caller = await self._identity.caller(request.scope["headers"], permission)
        self._rates.callers.take(caller)
        return {
            envelope.CALLER: caller,
            envelope.REQUEST_ID: request.scope[REQUEST_ID],
            envelope.TRACE_PARENT: request.scope[TRACE_PARENT],
        }


def _state_response(reply: Reply) -> Response:
    state = _understand(PaymentState, reply)
    logs.bind(payment_id=state.payment_id, booking_id=state.booking_id)
    response = Response(reply.body, media_type="application/json")
    if state.payment_status is PaymentStatus.PENDING:
        response.headers["Retry-After"] = str(RETRY_AFTER_PENDING_SECONDS)
    return response


def _understand(model: type[AnyRecord], reply: Reply) -> AnyRecord:
    """Check a reply; its bytes are then passed on as they came."""
    try:
        return body.read(model, reply.body)
    except InvalidBodyError as error:
        _log.error("A reply is not a %s: %s", model.__name__, error)
        raise BadReplyError from None
