"""Signed service tokens: JSON Web Tokens (RFC 7519) as bearer tokens (RFC 6750). `X-User-*` headers grant nothing here.

A token's header chooses among our own keys, and nothing else: `alg` must be the chosen key's; `jku`, `x5u` and `jwk`
are ignored (RFC 8725 §3).
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Annotated, Final, Protocol

import jwt
from jwt import PyJWK
from jwt.types import Options
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from bridge.auth import Permission, RawHeaders, single
from bridge.errors import INVALID_TOKEN, NO_TOKEN, BridgeError, insufficient_scope
from bridge.jwks import ALGORITHMS, JwksCache
from contracts import envelope
from runtime.health import Check

SKEW_SECONDS: Final = 30
_OPTIONS: Final[Options] = {
    "require": ["iss", "aud", "exp", "sub"],
    # Its times are judged here: there it would be by this machine's clock.
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
}
MAX_LIFETIME_SECONDS: Final = 300
MAX_REMEMBERED: Final = 1024
"""A service uses one token for many calls. Only valid tokens are remembered."""


def _fits_a_message(subject: str) -> str:
    """The caller goes into a message header, and idempotency keys are scoped to it."""
    if not envelope.is_request_id(subject):
        raise ValueError("must be 1 to 128 printable ASCII characters without blanks")
    return subject


Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Claims(BaseModel):
    """The claims of a verified token that matter. Scopes: RFC 8693's `scope`, or `scp` as a list or as a string."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    sub: Annotated[str, AfterValidator(_fits_a_message)]
    exp: Seconds
    iat: Seconds | None = None
    nbf: Seconds | None = None
    scope: str = ""
    scp: str | list[str] = ""

    def is_current(self, now: float) -> bool:
        """It has begun, is not over, and is short-lived: five minutes from its issue, and from now, at most."""
        begun = max(self.iat or 0, self.nbf or 0)
        issued = now if self.iat is None else min(self.iat, now)
        is_short_lived = self.exp - issued <= MAX_LIFETIME_SECONDS + SKEW_SECONDS
        return begun <= now + SKEW_SECONDS and now < self.exp + SKEW_SECONDS and is_short_lived

    @property
    def scopes(self) -> frozenset[str]:
        others = self.scp.split() if isinstance(self.scp, str) else self.scp
        return frozenset((*self.scope.split(), *others))


class Clock(Protocol):
    """The time by which tokens are judged, in unix seconds."""

    def now(self) -> float:
        """As far as it is known."""

    async def asked(self) -> float:
        """As it is; BridgeError if nobody tells it."""


class JwtAuth:
    """An `Authenticator` of services that show a token of one issuer, for one audience."""

    def __init__(self, cache: JwksCache, *, issuer: str, audience: str, clock: Clock) -> None:
        self._cache = cache
        self._clock = clock
        self._issuer = issuer
        self._audience = audience
        self._valid: OrderedDict[bytes, _Claims] = OrderedDict()
        self._verified_under: Mapping[str, PyJWK] = cache.keys
        self.checks: Mapping[str, Check] = {"keys": cache.has_keys}

    async def authenticate(self, headers: RawHeaders, permission: Permission) -> str:
        """The token's subject, if the token is valid and has the permission among its scopes."""
        token = _bearer(headers)
        digest = hashlib.sha256(token.encode()).digest()
        claims = self._remembered(digest)
        if claims is None:
            claims = await self._verified(token)
            self._remember(digest, claims)
        if permission not in claims.scopes:
            raise BridgeError(insufficient_scope(permission))
        return claims.sub

    async def _verified(self, token: str) -> _Claims:
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
            key = await self._cache.find(key_id) if isinstance(key_id, str) else None
            if key is None:
                raise BridgeError(INVALID_TOKEN)
            payload = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                issuer=self._issuer,
                audience=self._audience,
                options=_OPTIONS,
            )
            claims = _Claims.model_validate(payload)
        except (jwt.PyJWTError, ValidationError):
            raise BridgeError(INVALID_TOKEN) from None
        if not claims.is_current(self._clock.now()) and not claims.is_current(await self._clock.asked()):
            raise BridgeError(INVALID_TOKEN)
        return claims

    def _remembered(self, digest: bytes) -> _Claims | None:
        """To verify a token takes as long as everything else that the bridge does for a call."""
        if self._verified_under is not self._cache.keys:
            self._valid.clear()
            self._verified_under = self._cache.keys
        claims = self._valid.get(digest)
        return claims if claims is not None and self._clock.now() < claims.exp + SKEW_SECONDS else None

    def _remember(self, digest: bytes, claims: _Claims) -> None:
        self._valid[digest] = claims
        self._valid.move_to_end(digest)
        if len(self._valid) > MAX_REMEMBERED:
            self._valid.popitem(last=False)


def _bearer(headers: RawHeaders) -> str:
    scheme, _, token = (single(headers, "Authorization") or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise BridgeError(NO_TOKEN)
    return token.strip()
