"""What a form sends. No form is taken without the token of our own page in the same browser."""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from console.sessions import COOKIE, FormTokens

MAX_FORM_BYTES: Final = 16 * 1024
MAX_FIELDS: Final = 50
TOKEN: Final = "token"  # noqa: S105 - the name of a field

Form = Mapping[str, str]
Act = Callable[[Request, Form], Awaitable[Response]]


def post_route(path: str, act: Act, *, tokens: FormTokens, only_operators: bool = True) -> Route:
    """The only way to a route that changes something."""

    async def endpoint(request: Request) -> Response:
        person = request.state.person
        if only_operators and (person is None or not person.may_act):
            return _sentence(HTTPStatus.FORBIDDEN, "Only an operator may do this: nothing was done.")
        form = await _read(request)
        if form is None:
            return _sentence(HTTPStatus.BAD_REQUEST, "The form cannot be read: nothing was done.")
        if not tokens.fits(form.get(TOKEN, ""), request.cookies.get(COOKIE), person):
            return _sentence(HTTPStatus.FORBIDDEN, "The form is too old, or not ours: nothing was done. Load it again.")
        return await act(request, form)

    return Route(path, endpoint, methods=["POST"])


async def _read(request: Request) -> Form | None:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        return None
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM_BYTES:
            return None
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"))
    except ValueError:
        return None


def _sentence(status: HTTPStatus, text: str) -> Response:
    return PlainTextResponse(f"{text}\n", status)
