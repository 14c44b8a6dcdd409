"""The path of one API call, from the key in its header to the bytes of its answer.

The order is key, limits, faults, idempotency, parameters, work. A refusal before the work leaves no trace.
"""

import asyncio
import logging
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from operator import itemgetter

from tools.sandbox import form_encoding, ids, stripe_errors
from tools.sandbox.account import Account
from tools.sandbox.accounts import Accounts
from tools.sandbox.asgi import CutError, Request, Response, json_bytes
from tools.sandbox.fault_injector import FaultInjector
from tools.sandbox.idempotency import Answer, Claim
from tools.sandbox.objects import API_VERSION
from tools.sandbox.operations import Call, Operation, Work, route

OLDEST_VERSION = "2026-09-30"
"""The oldest release whose requests the sandbox interprets correctly."""
TOO_MANY, REFUSED = 429, 400

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Counts:
    """One endpoint's calls, in the words of ``GET /_sandbox/stats``.

    ``calls`` counts every request, cut ones included. ``errors`` were cut or answered with 400 or more, except 429,
    which are ``rate_limited``. ``replays`` were answered with a stored answer.
    """

    calls: int = 0
    errors: int = 0
    rate_limited: int = 0
    replays: int = 0


class StripeApi:
    """Stripe's API, for all accounts."""

    def __init__(self, accounts: Accounts, faults: FaultInjector, stats: dict[str, Counts]) -> None:
        self._accounts = accounts
        self._faults = faults
        self._stats = stats

    async def answer(self, request: Request) -> Response:
        """The answer to a request below ``/v1/``.

        Raises:
            CutError: cut the connection instead.
        """
        found = route(request.method, request.path.removeprefix("/v1/"))
        counts = Counts() if found is None else self._stats[found[0].name]
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
            account = self._accounts.of(self._accepted_key(request))
            check_version(request.headers.get("stripe-version"))
            if found is None:
                raise stripe_errors.unknown_url(request.method, request.path)
            self._faults.limiter.admit(found[0].name)
            answer = await self._executed(account, request, found, request_id=request_id, extra=extra)
            if answer.request_id != request_id:
                counts.replays += 1
        except stripe_errors.ApiError as error:
            extra |= error.headers
            answer = Answer(status=error.status, body=json_bytes(error.body(request_id)), request_id=request_id)
        return _response(request, answer, request_id, extra)

    def _accepted_key(self, request: Request) -> str:
        key = checked_key(request.headers.get("authorization"))
        if key in self._faults.settings.revoked_keys:
            raise stripe_errors.unauthorized(f"Expired API Key provided: {masked(key)}", "api_key_expired")
        return key

    async def _executed(
        self,
        account: Account,
        request: Request,
        found: tuple[Operation, str],
        *,
        request_id: str,
        extra: dict[str, str],
    ) -> Answer:
        """The answer of the work, or the stored answer of the first request with this key."""
        fields = _fields(request)
        key = request.headers.get("idempotency-key", "") if request.method == "POST" else ""
        if not key:
            await self._delay()
            work = _prepared(account, found, fields, request.base_url, cause={"id": request_id})
            return self._worked(work, request_id, posted=request.method == "POST", claim=None)
        extra["Idempotency-Key"] = key
        claim = _claim(account, key, request, fields)
        try:
            if claim.answer is None:
                await self._delay()
                cause = {"id": request_id, "idempotency_key": key}
                work = _prepared(account, found, fields, request.base_url, cause=cause)
                extra["Original-Request"] = request_id
                return self._worked(work, request_id, posted=True, claim=claim)
        finally:
            account.keys.release(claim)
        await self._delay()
        extra |= {"Original-Request": claim.answer.request_id, "Idempotent-Replayed": "true"}
        return claim.answer

    async def _delay(self) -> None:
        """Applies the latency, then the failures before execution."""
        latency_ms = self._faults.settings.latency_ms
        if latency_ms:
            await asyncio.sleep(latency_ms / 1000)
        if self._faults.fails_at_random():
            raise stripe_errors.server_error()

    def _worked(self, work: Work, request_id: str, *, posted: bool, claim: Claim | None) -> Answer:
        """Does the work and stores its answer. Nothing is awaited here, so no other request can interfere."""
        status, value = 200, None
        try:
            value = work()
        except stripe_errors.ApiError as error:
            status, value = error.status, error.body(request_id)
        except Exception:
            logger.exception("the sandbox failed; it answers 500, as Stripe would")
            status, value = 500, stripe_errors.server_error().body(request_id)
        if posted and self._faults.takes("lose_responses"):
            status, value = 500, stripe_errors.server_error().body(request_id)
        answer = Answer(status=status, body=json_bytes(value), request_id=request_id)
        if claim is not None:
            claim.answer = answer
        if posted and self._faults.takes("drop_responses"):
            raise CutError
        return answer


def _claim(account: Account, key: str, request: Request, fields: list[tuple[str, str]]) -> Claim:
    digest = sha256(repr((request.path, sorted(fields, key=itemgetter(0)))).encode()).digest()
    return account.keys.claim(key, digest, account.now())


def _prepared(
    account: Account,
    found: tuple[Operation, str],
    fields: list[tuple[str, str]],
    base_url: str,
    *,
    cause: Mapping[str, str | None],
) -> Work:
    account.expire_due()
    operation, target = found
    params = operation.schema.parse(form_encoding.tree(fields))
    return operation.handle(account, Call(params=params, target=target, base_url=base_url, cause=cause))


def _fields(request: Request) -> list[tuple[str, str]]:
    if request.method != "POST" or not request.body:
        return form_encoding.pairs(request.query)
    if "json" in request.headers.get("content-type", ""):
        message = (
            "Invalid request (check that your POST content type is application/x-www-form-urlencoded). If you have "
            "any questions, we can help at https://support.stripe.com/."
        )
        raise stripe_errors.invalid(message)
    try:
        body = request.body.decode()
    except UnicodeDecodeError as error:
        raise stripe_errors.invalid("Invalid UTF-8 in the request.") from error
    return form_encoding.pairs(f"{request.query}&{body}" if request.query else body)


def _response(request: Request, answer: Answer, request_id: str, extra: dict[str, str]) -> Response:
    headers = {
        "Content-Type": "application/json",
        "Cache-Control": "no-cache, no-store",
        "Request-Id": request_id,
        "Stripe-Version": request.headers.get("stripe-version") or API_VERSION,
    }
    if answer.status < 500:  # noqa: PLR2004 - Stripe leaves the retry of a 5xx to the caller
        headers["Stripe-Should-Retry"] = "false"
    return Response(status=answer.status, body=answer.body, headers=[*(headers | extra).items()])


def check_version(version: str | None) -> None:
    """Refuses releases that interpret requests differently; without a version the account's own applies."""
    if not version:
        return
    matched = re.fullmatch(r"(\d{4}-\d{2}-\d{2})(\.[a-z_]+)?", version)
    if matched is None or matched[1] < OLDEST_VERSION:
        message = (
            f"Invalid Stripe API version: {version[:40]}. The BookTicket sandbox plays {OLDEST_VERSION}.endive and "
            f"later, by default {API_VERSION}."
        )
        raise stripe_errors.invalid(message)


def checked_key(authorization: str | None) -> str:
    """The key of a call, which may be any well-formed test key; a refusal never repeats a key in full.

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
        raise stripe_errors.unauthorized(message)
    if re.fullmatch(r"[sr]k_test_[A-Za-z0-9_]{1,247}", key):
        return key
    if re.match(r"pk_(test|live)_", key):
        message = "This API call cannot be made with a publishable API key. Please use a secret API key."
        raise stripe_errors.unauthorized(message, "secret_key_required")
    raise stripe_errors.unauthorized(f"Invalid API Key provided: {masked(key)}")


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
    """A key as Stripe shows it: prefix, stars and last four characters; without these if they are too much of it."""
    prefix = re.match(r"[a-z]{2}_(?:test|live)_", key)
    kept = prefix[0] if prefix else ""
    secret = key[len(kept) :]
    tail = secret[-4:] if len(secret) >= 12 and secret.isascii() else ""  # noqa: PLR2004 - a third at most
    return f"{kept}{'*' * min(len(secret) - len(tail), 40)}{tail}"
