"""Signed service tokens: JSON Web Tokens (RFC 7519) as bearer tokens (RFC 6750). `X-User-*` headers grant nothing here.

A token's header chooses among our own keys, and nothing else: `alg` must be the chosen key's; `jku`, `x5u` and `jwk`
are not even read (RFC 8725 §3).
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Annotated, Any, Final

import jwt
from jwt import PyJWK
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from bridge.errors import InsufficientScopeError, InvalidTokenError, NoTokenError
from bridge.identity import Permission, RawHeaders, single
from bridge.keys import ALGORITHMS, KeyRing
from contracts import envelope
from contracts.actuator import Check

SKEW_SECONDS: Final = 30
MAX_LIFETIME_SECONDS: Final = 300
MAX_REMEMBERED: Final = 1024
"""A service uses one token for many calls. Only tokens that were found good are remembered."""


def _fits_a_message(subject: str) -> str:
    """The caller goes into a message header, and idempotency keys are scoped to it."""
    if not envelope.is_request_id(subject):
        raise ValueError("must be 1 to 128 printable ASCII characters without blanks")
    return subject


Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Claims(BaseModel):
    """What is read of a verified token. Scopes: RFC 8693's `scope`, or `scp` as a list or as `scope` is written."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    sub: Annotated[str, AfterValidator(_fits_a_message)]
    exp: Seconds
    iat: Seconds | None = None
    nbf: Seconds | None = None
    scope: str = ""
    scp: str | list[str] = ""

    def is_short_lived(self, *, now: float) -> bool:
        """At most five minutes from its issue to its end, and never more than that from now."""
        issued = now if self.iat is None else min(self.iat, now)
        return self.exp - issued <= MAX_LIFETIME_SECONDS + SKEW_SECONDS

    @property
    def scopes(self) -> frozenset[str]:
        others = self.scp.split() if isinstance(self.scp, str) else self.scp
        return frozenset((*self.scope.split(), *others))


class ServiceTokens:
    """The callers are services with a token of one issuer, for one audience (`Identity`)."""

    def __init__(self, ring: KeyRing, *, issuer: str, audience: str) -> None:
        self._ring = ring
        self._issuer = issuer
        self._audience = audience
        self._good: OrderedDict[bytes, _Claims] = OrderedDict()
        self._good_under: Mapping[str, PyJWK] = ring.keys

    @property
    def checks(self) -> Mapping[str, Check]:
        """Without any key nobody can be let in."""

        async def has_keys() -> bool:
            return bool(self._ring.keys)

        return {"keys": has_keys}

    async def caller(self, headers: RawHeaders, permission: Permission) -> str:
        """The token's subject, if the token is good and has the permission among its scopes."""
        token = _bearer(headers)
        digest = hashlib.sha256(token.encode()).digest()
        claims = self._remembered(digest)
        if claims is None:
            claims = await self._verified(token)
            self._remember(digest, claims)
        if permission not in claims.scopes:
            raise InsufficientScopeError(permission)
        return claims.sub

    async def _verified(self, token: str) -> _Claims:
        try:
            key = await self._ring.find(_key_id(jwt.get_unverified_header(token)))
            if key is None:
                raise InvalidTokenError
            payload = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                issuer=self._issuer,
                audience=self._audience,
                leeway=SKEW_SECONDS,
                options={"require": ["iss", "aud", "exp", "sub"]},
            )
            claims = _Claims.model_validate(payload)
        except (jwt.PyJWTError, ValidationError):
            raise InvalidTokenError from None
        if not claims.is_short_lived(now=time.time()):
            raise InvalidTokenError
        return claims

    def _remembered(self, digest: bytes) -> _Claims | None:
        """Verifying takes as long as everything else that the bridge does for a call."""
        if self._good_under is not self._ring.keys:
            self._good.clear()
            self._good_under = self._ring.keys
        claims = self._good.get(digest)
        return claims if claims is not None and time.time() < claims.exp + SKEW_SECONDS else None

    def _remember(self, digest: bytes, claims: _Claims) -> None:
        self._good[digest] = claims
        self._good.move_to_end(digest)
        if len(self._good) > MAX_REMEMBERED:
            self._good.popitem(last=False)


def _bearer(headers: RawHeaders) -> str:
    scheme, _, token = (single(headers, "Authorization") or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NoTokenError
    return token.strip()


def _key_id(header: Mapping[str, Any]) -> str:
    key_id = header.get("kid")
    if not isinstance(key_id, str):
        raise InvalidTokenError
    return key_id
