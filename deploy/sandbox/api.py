"""The path of one API call, from the key in its header to the bytes of its answer.

Order: key, limits, faults, idempotency, parameters, work. Whatever is refused before the work leaves no trace.
"""

import asyncio
import logging
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from hashlib import sha256
from operator import itemgetter

from deploy.sandbox import errors, form, ids
from deploy.sandbox.faults import FaultInjector
from deploy.sandbox.idempotency import Answer, Claim
from deploy.sandbox.objects import API_VERSION
from deploy.sandbox.operations import Call, Operation, Work, route
from deploy.sandbox.state import Account
from deploy.sandbox.stats import Counts, Stats
from deploy.sandbox.web import CutError, Request, Response, json_bytes

OLDEST_VERSION = "2026-09-30"
"""From the endive release on, requests mean what the sandbox takes them to mean."""
TOO_MANY, REFUSED = 429, 400

logger = logging.getLogger(__name__)


class Api:
    """Stripe's API, for one account."""

    def __init__(self, account: Account, faults: FaultInjector, stats: Stats) -> None:
        self._account = account
        self._faults = faults
        self._stats = stats

    async def answer(self, request: Request) -> Response:
        """The answer to a request below ``/v1/``.

        Raises:
            CutError: the connection is to be cut instead.
        """
        found = route(request.method, request.path.removeprefix("/v1/"))
        counts = Counts() if found is None else self._stats.counts[found[0].name]
        counts.calls += 1
        try:
            response = await self._guarded(request, found, counts)
        except CutError:
            counts.errors += 1
            raise
        if response.status == TOO_MANY:
            counts.rate_limited += 1
        elif response.status >= REFUSED:
            counts.errors += 1
        return response

    async def _guarded(self, request: Request, found: tuple[Operation, str] | None, counts: Counts) -> Response:
        if self._faults.settings.down:
            raise CutError
        request_id = ids.short_id("req")
        extra: dict[str, str] = {}
        try:
            check_key(request.headers.get("authorization"))
            check_version(request.headers.get("stripe-version"))
            if found is None:
                raise errors.unknown_url(request.method, request.path)
            self._faults.limiter.admit(found[0].name)
            answer = await self._executed(request, *found, request_id, extra)
            if answer.request_id != request_id:
                counts.replays += 1
        except errors.ApiError as error:
            extra |= error.headers
            answer = Answer(status=error.status, body=json_bytes(error.body(request_id)), request_id=request_id)
        return _response(request, answer, request_id, extra)

    async def _executed(
        self, request: Request, operation: Operation, target: str, request_id: str, extra: dict[str, str]
    ) -> Answer:
        """The answer of the work, or the kept answer of the first request with this key."""
        fields = _fields(request)
        key = request.headers.get("idempotency-key", "") if request.method == "POST" else ""
        if not key:
            await self._delay()
            work = self._prepared(request, operation, target, fields, {"id": request_id})
            return self._worked(work, request_id, posted=request.method == "POST", claim=None)
        extra["Idempotency-Key"] = key
        claim = self._claim(key, request, fields)
        try:
            if claim.answer is None:
                await self._delay()
                cause = {"id": request_id, "idempotency_key": key}
                work = self._prepared(request, operation, target, fields, cause)
                extra["Original-Request"] = request_id
                return self._worked(work, request_id, posted=True, claim=claim)
        finally:
            self._account.keys.release(claim)
        await self._delay()
        extra |= {"Original-Request": claim.answer.request_id, "Idempotent-Replayed": "true"}
        return claim.answer

    def _claim(self, key: str, request: Request, fields: list[tuple[str, str]]) -> Claim:
        what = sha256(repr((request.path, sorted(fields, key=itemgetter(0)))).encode()).digest()
        return self._account.keys.claim(key, what, self._account.now())

    async def _delay(self) -> None:
        """The latency of the answer, and the failures before execution, which come after it."""
        latency_ms = self._faults.settings.latency_ms
        if latency_ms:
            await asyncio.sleep(latency_ms / 1000)
        if self._faults.fails_at_random():
            raise errors.server_error()

    def _prepared(
        self,
        request: Request,
        operation: Operation,
        target: str,
        fields: list[tuple[str, str]],
        cause: Mapping[str, str | None],
    ) -> Work:
        self._account.expire_due()
        params = operation.schema.read(form.tree(fields))
        call = Call(params=params, target=target, base_url=request.base_url, cause=cause)
        return operation.handle(self._account, call)

    def _worked(self, work: Work, request_id: str, *, posted: bool, claim: Claim | None) -> Answer:
        """Do the work and keep its answer. Nothing here waits, so no other request can come in between."""
        status, value = 200, None
        try:
            value = work()
        except errors.ApiError as error:
            status, value = error.status, error.body(request_id)
        except Exception:
            logger.exception("the sandbox broke; the caller is told a 500, as Stripe would")
            status, value = 500, errors.server_error().body(request_id)
        if posted and self._faults.takes("lose_responses"):
            status, value = 500, errors.server_error().body(request_id)
        answer = Answer(status=status, body=json_bytes(value), request_id=request_id)
        if claim is not None:
            claim.answer = answer
        if posted and self._faults.takes("drop_responses"):
            raise CutError
        return answer


def _fields(request: Request) -> list[tuple[str, str]]:
    if request.method != "POST" or not request.body:
        return form.pairs(request.query)
    if "json" in request.headers.get("content-type", ""):
        message = (
            "Invalid request (check that your POST content type is application/x-www-form-urlencoded). If you have "
            "any questions, we can help at https://support.stripe.com/."
        )
        raise errors.invalid(message)
    try:
        body = request.body.decode()
    except UnicodeDecodeError as error:
        raise errors.invalid("Invalid UTF-8 in the request.") from error
    return form.pairs(f"{request.query}&{body}" if request.query else body)


def _response(request: Request, answer: Answer, request_id: str, extra: dict[str, str]) -> Response:
    headers = {
        "Content-Type": "application/json",
        "Cache-Control": "no-cache, no-store",
        "Request-Id": request_id,
        "Stripe-Version": request.headers.get("stripe-version") or API_VERSION,
    }
    if answer.status < 500:  # noqa: PLR2004 - Stripe leaves the decision about a 5xx to the caller
        headers["Stripe-Should-Retry"] = "false"
    return Response(status=answer.status, body=answer.body, headers=[*(headers | extra).items()])


def check_version(version: str | None) -> None:
    """Refuse releases in which requests mean something else; without a version the account's own counts."""
    if not version:
        return
    matched = re.fullmatch(r"(\d{4}-\d{2}-\d{2})(\.[a-z_]+)?", version)
    if matched is None or matched[1] < OLDEST_VERSION:
        message = (
            f"Invalid Stripe API version: {version[:40]}. The BookTicket sandbox plays {OLDEST_VERSION}.endive and "
            f"later, by default {API_VERSION}."
        )
        raise errors.invalid(message)


def check_key(authorization: str | None) -> None:
    """Every well-formed test key is the one account. Nothing else comes in, and no key is ever repeated in full.

    Raises:
        ApiError: 401.
    """
    key = _key(authorization or "")
    if not key:
        message = (
            "You did not provide an API key. You need to provide your API key in the Authorization header, using "
            "Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See "
            "https://stripe.com/docs/api#authentication for details, or we can help at https://support.stripe.com/."
        )
        raise errors.unauthorized(message)
    if re.fullmatch(r"[sr]k_test_[A-Za-z0-9_]{1,247}", key):
        return
    if re.match(r"pk_(test|live)_", key):
        message = "This API call cannot be made with a publishable API key. Please use a secret API key."
        raise errors.unauthorized(message, "secret_key_required")
    raise errors.unauthorized(f"Invalid API Key provided: {masked(key)}")


def _key(authorization: str) -> str:
    scheme, _, credentials = authorization.strip().partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() == "basic":
        try:
            return b64decode(credentials, validate=True).decode("latin-1").partition(":")[0]
        except Base64Error:
            return ""
    return ""


def masked(key: str) -> str:
    """Prefix and last four characters, as Stripe shows a key; only stars where those would be most of it."""
    prefix = re.match(r"[a-z]{2}_(?:test|live)_", key)
    kept = prefix[0] if prefix else ""
    secret = key[len(kept) :]
    tail = secret[-4:] if len(secret) >= 12 and secret.isascii() else ""  # noqa: PLR2004 - a third at most
    return f"{kept}{'*' * min(len(secret) - len(tail), 40)}{tail}"
