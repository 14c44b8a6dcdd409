"""To log in with a password, and out."""

import logging
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from console.forms import Form, post_route
from console.metrics import Metrics
from console.rendering import Renderer
from console.sessions import FormTokens, Sessions, new_id
from console.users import Throttle, Users

_log = logging.getLogger("console")
WRONG: Final = "The name or the password is wrong."


class LoginPages:
    """Only with `CONSOLE_AUTH=password`."""

    def __init__(
        self, *, users: Users, sessions: Sessions, tokens: FormTokens, renderer: Renderer, metrics: Metrics
    ) -> None:
        self._users = users
        self._sessions = sessions
        self._tokens = tokens
        self._renderer = renderer
        self._metrics = metrics
        self._throttle = Throttle()

    @property
    def routes(self) -> list[Route]:
        """By path."""
        return [
            Route("/login", self.form),
            post_route("/login", self.log_in, tokens=self._tokens, only_operators=False),
            post_route("/logout", self.log_out, tokens=self._tokens, only_operators=False),
        ]

    async def form(self, request: Request) -> Response:
        """The form; to the pages if somebody is logged in."""
        if request.state.person is not None:
            return RedirectResponse("/", HTTPStatus.SEE_OTHER)
        return self._renderer.page(request, "login.html", problem="", name="")

    async def log_in(self, request: Request, form: Form) -> Response:
        """A session under a new id, or the form again."""
        name, address = form.get("name", "").strip(), request.client.host if request.client else ""
        keys = (f"name {name}", f"address {address}")
        if wait := self._throttle.seconds_left(*keys):
            self._metrics.on_login("throttled")
            problem = f"There were too many attempts: wait {max(1, round(wait))} s."
            answer = self._again(request, name, problem, HTTPStatus.TOO_MANY_REQUESTS)
            answer.headers["retry-after"] = str(max(1, round(wait)))
            return answer
        self._throttle.failed(*keys)  # a failure until it is known to be right: many at once must not all be tried
        person = await self._users.person(name, form.get("password", ""))
        if person is None:
            self._metrics.on_login("refused")
            _log.warning("A login was refused.", extra={"address": address})
            return self._again(request, name, WRONG, HTTPStatus.FORBIDDEN)
        self._throttle.succeeded(*keys)
        self._metrics.on_login("done")
        self._sessions.end(request.state.session_id)
        request.state.new_session_id = self._sessions.begin(person)
        _log.info("%s has logged in.", person.name)
        return RedirectResponse("/", HTTPStatus.SEE_OTHER)

    async def log_out(self, request: Request, _form: Form) -> Response:
        """The session ends."""
        self._sessions.end(request.state.session_id)
        request.state.new_session_id = new_id()
        return RedirectResponse("/login", HTTPStatus.SEE_OTHER)

    def _again(self, request: Request, name: str, problem: str, status: HTTPStatus) -> Response:
        return self._renderer.page(request, "login.html", status=status, problem=problem, name=name)
