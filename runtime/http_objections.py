"""What HTTP itself has against a request, by the status that its standards name."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

OBJECTION: Final = "http.objection"
"""Key in the ASGI scope: why the request is refused, an `Objection`, if it is."""


@dataclass(frozen=True, kw_only=True)
class Objection:
    """Why a request is refused: the status, and a sentence."""

    status: HTTPStatus
    message: str


NOT_HTTP: Final = Objection(status=HTTPStatus.BAD_REQUEST, message="The request is not valid HTTP.")
INCOMPLETE_HEAD: Final = Objection(status=HTTPStatus.BAD_REQUEST, message="The request is not complete.")
SLOW_HEAD: Final = Objection(
    status=HTTPStatus.REQUEST_TIMEOUT, message="The head of the request did not arrive in time."
)
BAD_HOST: Final = Objection(status=HTTPStatus.BAD_REQUEST, message="The request must name its host, once.")
BAD_FRAMING: Final = Objection(status=HTTPStatus.BAD_REQUEST, message="The length of the request body is not clear.")
UNKNOWN_CODING: Final = Objection(
    status=HTTPStatus.NOT_IMPLEMENTED, message="The only transfer coding that is supported is chunked."
)
NO_TUNNEL: Final = Objection(status=HTTPStatus.NOT_IMPLEMENTED, message="The method CONNECT is not supported.")
HEAD_TOO_LARGE: Final = Objection(
    status=HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, message="The request headers are too large."
)
CROWDED: Final = Objection(status=HTTPStatus.SERVICE_UNAVAILABLE, message="There are too many connections.")
