"""The sandbox as an ASGI application: API, control API or hosted page, by path."""

from dataclasses import replace
from email.utils import formatdate
from functools import lru_cache
from importlib.resources import files

from tools.sandbox import asgi
from tools.sandbox.accounts import Accounts
from tools.sandbox.control_api import ControlApi
from tools.sandbox.fault_injector import FaultInjector
from tools.sandbox.hosted_html import Pages
from tools.sandbox.hosted_page import HostedPage
from tools.sandbox.operations import ENDPOINTS
from tools.sandbox.stepped_clock import SteppedClock
from tools.sandbox.stripe_api import Counts, StripeApi

CUT = "sandbox.cut"
"""Key in the ASGI scope's extensions: a function that ends the connection (see ``server``)."""


class Sandbox:
    """All accounts with their API, hosted pages and control API. ``account`` is that of every key by default.

    ``public_url``: where payers reach the hosted page, if not where the API is called (as between containers).
    """

    def __init__(self, clock: SteppedClock | None = None, *, public_url: str | None = None) -> None:
        self._public_url = public_url
        self.clock = clock or SteppedClock()
        self.faults = FaultInjector(ENDPOINTS)
        self.accounts = Accounts(self.clock, self.faults)
        self.account = self.accounts.main
        self.stats = {endpoint: Counts() for endpoint in ENDPOINTS}
        self._api = StripeApi(self.accounts, self.faults, self.stats)
        self._control = ControlApi(self.accounts, self.clock, self.faults, self.stats, self.reset)
        css = files("tools.sandbox").joinpath("hosted_page.css").read_text(encoding="utf-8")
        self._hosted = HostedPage(self.accounts, Pages(css))

    def reset(self) -> None:
        """Back to the initial state."""
        self.clock.reset()
        self.accounts.reset()
        self.faults.reset()
        self.stats.update({endpoint: Counts() for endpoint in ENDPOINTS})

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Serve one request."""
        try:
            request = await asgi.read(scope, receive)
            response = await self.answer(request)
        except asgi.TooLargeError:
            response = self._dated(asgi.json_response(413, {"error": {"message": "The request is too large."}}))
        except asgi.CutError:
            cut = scope.get("extensions", {}).get(CUT)
            if cut is not None:
                cut()
                await receive()  # returns after the disconnect, so that the server expects no answer
            return
        await asgi.write(send, response, head=scope["method"] == "HEAD")

    async def answer(self, request: asgi.Request) -> asgi.Response:
        """The answer to one request, dated by the sandbox's clock."""
        if self._public_url is not None:
            request = replace(request, base_url=self._public_url)
        if request.path.startswith("/v1/"):
            response = await self._api.answer(request)
        elif request.path.startswith("/_sandbox/"):
            response = self._control.answer(request)
        else:
            response = self._hosted.answer(request)
        return self._dated(response)

    def _dated(self, response: asgi.Response) -> asgi.Response:
        return replace(response, headers=[("Date", _http_date(self.clock.now())), *response.headers])


@lru_cache(maxsize=4)
def _http_date(moment: int) -> str:
    return formatdate(moment, usegmt=True)
