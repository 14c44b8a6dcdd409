"""The three endpoints, each of which sends one command."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bridge.auth import Authenticator, Permission, single
from bridge.errors import BAD_REPLY, DEADLINE_EXCEEDED, INVALID_REQUEST, BridgeError
from bridge.middleware import REQUEST_ID, TRACE_PARENT
from bridge.pending_calls import LongPoll
from bridge.prefer_header import LONG_POLL, WATCH, wait_seconds
from bridge.rate_limit import RateLimits
from bridge.request_body import read_body
from bridge.rpc_client import Reply, RpcClient
from contracts import body, envelope
from contracts.body import AnyRecord, InvalidBodyError
from contracts.commands import CommandType, CreateCheckout, GetPaymentStatus, VerifyCheckout
from contracts.fields import holds_card_number
from contracts.replies import CheckoutSession, PaymentState, PaymentStatus, StatusSource
from runtime import logs

_log = logging.getLogger(__name__)

BASE_PATH: Final = "/api/v1/internal/payments"
RETRY_AFTER_PENDING_SECONDS: Final = 2
"""What a PENDING answer suggests; the Booking Service polls at this interval."""
STATUS_SOURCE_HEADER: Final = "X-Payment-Status-Source"
ATTENTION_HEADER: Final = "X-Payment-Attention"
PREFERENCE_APPLIED_HEADER: Final = "Preference-Applied"
_KEPT: Final = (
    *("type", "method", "path", "query_string", "http_version", "client", "headers"),
    *("route", REQUEST_ID, WATCH),
)
"""Keys in the ASGI scope of a long poll: what the server reads when it answers, and what our log line says."""


class _RawRoute(APIRoute):
    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.app = self._serve

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        response: Response = await self.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


def add_route(app: FastAPI, path: str, endpoint: Callable[[Request], Awaitable[Response]], method: str = "GET") -> None:
    """Register an endpoint that takes the request and gives the response itself.

    FastAPI reads bodies without a limit, parses numbers as floats and spends more time on arguments than everything
    else here together: of FastAPI only the routing is used.
    """
    app.router.add_api_route(path, endpoint, methods=[method], route_class_override=_RawRoute)


@dataclass(frozen=True, kw_only=True)
class PaymentRoutes:
    """The endpoints and what they use."""

    rpc_client: RpcClient
    authenticator: Authenticator
    rate_limits: RateLimits

    def add_to(self, app: FastAPI) -> None:
        """Register the endpoints."""
        add_route(app, f"{BASE_PATH}/checkout/create", self._create, method="POST")
        # `:path`, so that an id with (encoded) slashes is a malformed id and not another route.
        add_route(app, f"{BASE_PATH}/checkout/verify/{{sessionId:path}}", self._verify)
        add_route(app, f"{BASE_PATH}/status/{{transactionId:path}}", self._status)

    async def _create(self, request: Request) -> Response:
        """Start a payment for a booking. Safe to repeat."""
        headers = await self._admit(request, Permission.CREATE)
        key = single(request.scope["headers"], "Idempotency-Key")
        if key is not None:
            if not envelope.is_idempotency_key(key):
                raise BridgeError(
                    INVALID_REQUEST, message="Idempotency-Key must be 1 to 255 printable ASCII characters."
                )
            if holds_card_number(key):
                raise BridgeError(INVALID_REQUEST, message="Idempotency-Key must not hold a card number.")
            headers[envelope.IDEMPOTENCY_KEY] = key
        content = await read_body(request)
        try:
            command = body.read(CreateCheckout, content)
        except InvalidBodyError as error:
            raise BridgeError(INVALID_REQUEST, message=str(error)) from None
        logs.bind(booking_id=command.booking_id)
        self.rate_limits.bookings.take(command.booking_id)
        reply = await self.rpc_client.call(CommandType.CREATE_CHECKOUT, content, headers)
        _checked(CheckoutSession, reply)
        return Response(reply.body, media_type="application/json")

    async def _verify(self, request: Request) -> Response:
        """Ask the gateway how a checkout session stands."""
        headers = await self._admit(request, Permission.READ)
        reply = await self._verified(request, _content(VerifyCheckout, request), headers)
        response = _state_response(reply)
        if waited := envelope.wait_seconds(reply.headers.get(envelope.WAIT_SECONDS)):
            response.headers[PREFERENCE_APPLIED_HEADER] = f"wait={waited}"
        source = reply.headers.get(envelope.STATUS_SOURCE)
        if source in set(StatusSource):
            response.headers[STATUS_SOURCE_HEADER] = str(source)
        return response

    async def _verified(self, request: Request, content: bytes, headers: dict[str, str]) -> Reply:
        """The reply; if the caller prefers to wait, the service defers it until there is an outcome."""
        seconds = wait_seconds(request.scope["headers"])
        if seconds and self.rpc_client.can_long_poll:
            long_poll = LongPoll(seconds=seconds, watch=request.scope.get(WATCH, lambda _: None))
            headers[envelope.WAIT_SECONDS] = str(seconds)
            request.scope[WATCH] = LONG_POLL
            _slim(request.scope)
            # The service that deferred the reply may die, or this process may stop: then a plain verify still answers.
            try:
                return await self.rpc_client.call(CommandType.VERIFY_CHECKOUT, content, headers, long_poll=long_poll)
            except BridgeError as error:
                if error.refusal is not DEADLINE_EXCEEDED:
                    raise
            del headers[envelope.WAIT_SECONDS]
        return await self.rpc_client.call(CommandType.VERIFY_CHECKOUT, content, headers)

    async def _status(self, request: Request) -> Response:
        """Read a payment's last known status; Stripe is not asked."""
        headers = await self._admit(request, Permission.READ)
        content = _content(GetPaymentStatus, request)
        reply = await self.rpc_client.call(CommandType.PAYMENT_STATUS, content, headers)
        return _state_response(reply)

    async def _admit(self, request: Request, permission: Permission) -> dict[str, str]:
        """Refuse who may not call; otherwise the command's headers, with the caller and the request's ids."""
        caller = await self.authenticator.authenticate(request.scope["headers"], permission)
        self.rate_limits.callers.take(caller)
        return {
            envelope.CALLER: caller,
            envelope.REQUEST_ID: request.scope[REQUEST_ID],
            envelope.TRACE_PARENT: request.scope[TRACE_PARENT],
        }


def _slim(scope: Scope) -> None:
    """Keep of the request only what is needed later: thousands of callers may wait."""
    scope["headers"].clear()
    kept = {name: scope.get(name) for name in _KEPT}
    scope.clear()
    scope.update(kept)


def _content(model: type[VerifyCheckout | GetPaymentStatus], request: Request) -> bytes:
    """The command's body, from the id in the address."""
    try:
        return body.write(model.model_validate(request.path_params))
    except ValidationError as error:
        raise BridgeError(INVALID_REQUEST, message=body.describe(error)) from None


def _state_response(reply: Reply) -> Response:
    state = _checked(PaymentState, reply)
    logs.bind(payment_id=state.payment_id, booking_id=state.booking_id)
    response = Response(reply.body, media_type="application/json")
    if envelope.is_token(attention := reply.headers.get(envelope.ATTENTION)):
        response.headers[ATTENTION_HEADER] = str(attention)
    if state.payment_status is PaymentStatus.PENDING:
        response.headers["Retry-After"] = str(RETRY_AFTER_PENDING_SECONDS)
    return response


def _checked(model: type[AnyRecord], reply: Reply) -> AnyRecord:
    """The reply as a model, for what the answer depends on; its bytes are passed on as they came."""
    try:
        return body.read_known(model, body.read_object(reply.body))
    except InvalidBodyError as error:
        _log.error("A reply is not a %s: %s", model.__name__, error)
        raise BridgeError(BAD_REPLY) from None
