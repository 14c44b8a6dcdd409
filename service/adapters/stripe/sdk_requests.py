"""Requests to Stripe: headers, key, API version and errors are the SDK's; sending them is ours, on aiohttp.

For every request the SDK makes its headers anew, flattens nested parameters through dictionaries of dictionaries and
writes five log texts, the whole answer among them, whether or not anybody logs them: five times the work of ours. So it
is asked once for the headers, and after that only for the errors. A test compares what is sent with what it sends.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote_plus
from uuid import uuid4

import aiohttp
import orjson
from yarl import URL

from service.adapters.stripe.sdk_import import stripe
from service.failpoints import FailPoint, hit

_Answer = tuple[bytes, int, Mapping[str, str]]
_PATH: Final = "/v1/checkout/sessions"
_OK: Final = range(200, 300)


class _Aside(stripe.HTTPClient):
    """What the SDK takes for its HTTP client: it keeps the request that the SDK makes, and hands it an answer."""

    name = "aiohttp"

    def __init__(self) -> None:
        super().__init__()
        self.answer: _Answer = (b"{}", 200, {})
        self.url = ""
        self.headers: dict[str, str] = {}

    def request(self, method: str, url: str, headers: Any, post_data: Any = None) -> Any:  # type: ignore[override]  # noqa: ARG002
        self.url, self.headers = url, dict(headers)
        return self.answer


class StripeRequests:
    """Sends requests under one key. Not for use by several event loops; the session is the caller's."""

    def __init__(self, session: aiohttp.ClientSession, *, api_key: str, api_base: str | None) -> None:
        stripe.enable_telemetry = False  # it would write into the home directory and send figures with each call
        self._session = session
        self._aside = _Aside()
        self._sdk = stripe.StripeClient(
            api_key,
            http_client=self._aside,
            max_network_retries=0,  # deadlines and repeats are ours
            base_addresses={"api": api_base.rstrip("/")} if api_base else {},
        )
        self._headers = {method: self._prepared(method) for method in ("get", "post")}
        self._base = self._aside.url.removesuffix(_PATH)

    def _prepared(self, method: str) -> dict[str, str]:
        """The headers of every request of this method."""
        self._sdk.raw_request(method, _PATH)
        return {name: value for name, value in self._aside.headers.items() if name != "Idempotency-Key"}

    async def send(
        self, method: str, path: str, params: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> tuple[Any, Mapping[str, str]]:
        """Stripe's answer as plain data, and its headers.

        Raises:
            stripe.StripeError: Stripe answers with an error, or with what is no JSON, or there is no connection.
            aiohttp.ClientError, OSError: the answer broke off.
        """
        url, headers, form = self._base + path, self._headers[method], encoded(params)
        data = None
        if method == "post":
            headers = {**headers, "Idempotency-Key": idempotency_key or str(uuid4())}
            data = form.encode()
        elif form:
            url = f"{url}?{form}"
        body, status, answered = await self._exchange(method, url, headers, data)
        try:
            if status in _OK:
                return orjson.loads(body), answered
        except orjson.JSONDecodeError:
            pass  # the SDK decides
        return self._read((body, status, answered), method, path), answered

    async def _exchange(self, method: str, url: str, headers: Mapping[str, str], data: bytes | None) -> _Answer:
        try:
            # As it is: yarl would decode what needs no encoding, and Stripe's SDK does not.
            response = await self._session.request(method, URL(url, encoded=True), headers=headers, data=data)
        except Exception as error:
            failure: Exception = stripe.APIConnectionError(type(error).__name__)  # type: ignore[no-untyped-call]
            raise failure from error
        async with response:
            hit(FailPoint.ANSWER_LOST)
            return await response.read(), response.status, response.headers

    def _read(self, answer: _Answer, method: str, path: str) -> Any:
        """What the SDK makes of an answer; of most of these it makes an error."""
        self._aside.answer = answer
        return self._sdk.raw_request(method, path).data


def encoded(params: Mapping[str, Any]) -> str:
    """The parameters as the SDK writes them: a form with brackets, which stay as they are."""
    form = "&".join(_fields("", params.items()))
    return form.replace("%5B", "[").replace("%5D", "]")


def _fields(prefix: str, members: Iterable[tuple[Any, Any]]) -> list[str]:
    fields: list[str] = []
    for key, value in members:
        name = f"{prefix}[{key}]" if prefix else key
        match value:
            case str():
                fields.append(f"{name}={_quoted(value)}")
            case None:
                continue
            case bool():
                fields.append(f"{name}={str(value).lower()}")
            case dict():
                fields += _fields(name, value.items())
            case list():
                fields += _fields(name, enumerate(value))
            case _:
                fields.append(f"{name}={_quoted(str(value))}")
    return fields


_quoted: Final = lru_cache(maxsize=128)(quote_plus)
"""Most values are those of each create, as currency and addresses are."""
