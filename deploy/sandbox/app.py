"""The sandbox as an ASGI application: which door a request goes to."""

from importlib.resources import files

from deploy.sandbox import web
from deploy.sandbox.api import Api
from deploy.sandbox.control import Control
from deploy.sandbox.faults import FaultInjector
from deploy.sandbox.hosted import HostedPage
from deploy.sandbox.operations import ENDPOINTS
from deploy.sandbox.pages import Pages
from deploy.sandbox.state import Account
from deploy.sandbox.stats import Stats

CUT = "sandbox.cut"
"""Key in the ASGI scope's extensions: a function that ends the connection (see ``server``)."""


class Sandbox:
    """One account with its API, hosted page and control API."""

    def __init__(self, account: Account | None = None) -> None:
        self.account = account or Account()
        self.faults = FaultInjector(ENDPOINTS)
        self.stats = Stats(ENDPOINTS)
        self._api = Api(self.account, self.faults, self.stats)
        self._control = Control(self.account, self.faults, self.stats, self.reset)
        css = files("deploy.sandbox").joinpath("page.css").read_text(encoding="utf-8")
        self._hosted = HostedPage(self.account, Pages(css))

    def reset(self) -> None:
        """Back to the first moment."""
        self.account.reset()
        self.faults.reset()
        self.stats.reset()

    async def __call__(self, scope: web.Scope, receive: web.Receive, send: web.Send) -> None:
        """Serve one request."""
        try:
            request = await web.read(scope, receive)
            response = await self.answer(request)
        except web.TooLargeError:
            response = web.json_response(413, {"error": {"message": "The request is too large."}})
        except web.CutError:
            cut = scope.get("extensions", {}).get(CUT)
            if cut is not None:
                cut()
                await receive()  # returns once the connection is gone, so that the server expects no answer
            return
        await web.write(send, response, head=scope["method"] == "HEAD")

    async def answer(self, request: web.Request) -> web.Response:
        """The answer to one request."""
        if request.path.startswith("/v1/"):
            return await self._api.answer(request)
        if request.path.startswith("/_sandbox/"):
            return self._control.answer(request)
        return self._hosted.answer(request)
