"""The application factory. It builds no clients and reads no settings."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bridge.edge import Edge
from bridge.errors import BridgeError, InvalidRequestError, MethodNotAllowedError, UnavailableError, UnknownRouteError
from bridge.problems import MEDIA_TYPE
from bridge.reading import BodyLimits
from bridge.requester import Requester
from bridge.routes import PaymentRoutes, RawRoute


@dataclass(kw_only=True)
class Lifecycle:
    """Whether the process is on its way out; set by the signal handler, read by every request."""

    stopping: bool = False


def create_app(
    requester: Requester, *, lifecycle: Lifecycle | None = None, limits: BodyLimits | None = None
) -> FastAPI:
    """The bridge as an ASGI application."""
    lifecycle = lifecycle or Lifecycle()
    app = FastAPI(
        title="BookTicket Payment Service",
        version="1.0.0",
        description="Three REST endpoints in front of the payment service's commands.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: _refuse},
    )
    app.add_middleware(Edge, is_stopping=lambda: lifecycle.stopping)
    PaymentRoutes(requester, limits or BodyLimits()).add_to(app)
    _add_health(app, requester, lifecycle)
    _document_problems(app)
    return app


async def _refuse(_request: Request, error: Exception) -> Response:
    """What the router refuses, in our words; `Edge` turns it into the answer."""
    raise _translated(error)


def _translated(error: Exception) -> BridgeError:
    match error:
        case HTTPException(status_code=404):
            return UnknownRouteError()
        case HTTPException(status_code=405):
            methods = set((error.headers or {}).get("Allow", "").replace(" ", "").split(","))
            return MethodNotAllowedError(allow=", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set()))))
        case _:
            return InvalidRequestError("The request is not valid.")


def _add_health(app: FastAPI, requester: Requester, lifecycle: Lifecycle) -> None:
    async def live(_request: Request) -> Response:
        """The process serves."""
        return JSONResponse({"status": "UP"})

    async def ready(_request: Request) -> Response:
        """Commands can be sent and replies received."""
        if lifecycle.stopping or not requester.ready:
            raise UnavailableError
        return JSONResponse({"status": "UP"})

    for path, endpoint in (("/health/live", live), ("/health/ready", ready)):
        app.router.add_api_route(path, endpoint, include_in_schema=False, route_class_override=RawRoute)


def _document_problems(app: FastAPI) -> None:
    """FastAPI documents every response model under the route's own media type; problems have theirs."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        is_new = app.openapi_schema is None
        document = generate()
        if is_new:
            for path in document["paths"].values():
                for operation in path.values():
                    _rename_media_type(operation["responses"])
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _rename_media_type(responses: dict[str, Any]) -> None:
    for status, response in responses.items():
        if int(status) >= HTTPStatus.BAD_REQUEST:
            response["content"] = {MEDIA_TYPE: response["content"]["application/json"]}
