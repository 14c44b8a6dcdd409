"""The bridge's settings, from the environment. All problems are reported at once, and no value is ever shown."""

import re
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote, unquote, urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from runtime import connection_urls
from runtime.process_settings import BrokerSettings, ProcessSettings

_LABEL: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*", re.ASCII | re.IGNORECASE)
"""Java connects to no host name with other characters, such as an underscore."""
_APP_NAME = r"^[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$"

DRAIN_SECONDS_WITH_EUREKA: Final = 95.0
"""How long Java may call an instance that left Eureka: cached by server 30 s, client 30 s, load balancer 35 s."""


class Settings(BrokerSettings, ProcessSettings):
    """One member per variable; a description says what is expected of it."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    bridge_host: str = Field(default="127.0.0.1", description="a host name or an IP address")
    bridge_port: int = Field(default=8085, ge=1, le=65535, description="a port from 1 to 65535")
    bridge_timeout_seconds: float = Field(default=10, ge=0.1, le=60, description="seconds from 0.1 to 60")
    bridge_max_in_flight: int = Field(default=1000, ge=1, le=100_000, description="a number from 1 to 100000")
    bridge_max_held: int = Field(default=10_000, ge=0, le=100_000, description="a number from 0 to 100000")
    bridge_auth: Literal["headers", "jwt"] | None = Field(
        default=None, description='"headers" or "jwt"; it must be named when BRIDGE_HOST is not a loopback address'
    )
    bridge_jwt_jwks: str = Field(
        default="",
        description="the path of a file with at least one usable public key (JWKS), or an https:// address without"
        " a password (http:// on this machine only); BRIDGE_AUTH=jwt needs it",
    )
    bridge_jwt_issuer: str = Field(default="", description="the tokens' issuer (iss); BRIDGE_AUTH=jwt needs it")
    bridge_jwt_audience: str = Field(
        default="", description="this service's name in tokens (aud); BRIDGE_AUTH=jwt needs it"
    )
    bridge_caller_requests_per_second: float = Field(
        default=0, ge=0, le=100_000, description="a number from 0 (no limit) to 100000"
    )
    bridge_caller_burst: int | None = Field(default=None, ge=1, le=100_000, description="a number from 1 to 100000")
    bridge_booking_creates_per_minute: int = Field(
        default=0, ge=0, le=100_000, description="a number from 0 (no limit) to 100000"
    )
    eureka_url: SecretStr | None = Field(
        default=None,
        description="http:// or https:// URLs with a host name or an IPv4 address, separated by commas; "
        "a user in one needs a password, and both are percent-encoded",
    )
    eureka_app_name: str = Field(
        default="payment-service",
        pattern=_APP_NAME,
        description="letters, digits and hyphens, a letter first, as in a host name",
    )
    instance_host: str | None = Field(default=None, description="a host name or an IP address, without a port")
    bridge_drain_seconds: float | None = Field(default=None, ge=0, le=3600, description="seconds from 0 to 3600")

    @field_validator("eureka_url")
    @classmethod
    def _names_peers(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not all(map(_is_peer, _split(value))):
            raise ValueError
        return value

    @field_validator("instance_host")
    @classmethod
    def _is_a_host(cls, value: str | None) -> str | None:
        if value is not None and not connection_urls.is_ip_address(value) and not _HOST_NAME.fullmatch(value):
            raise ValueError
        return value

    @field_validator("bridge_jwt_jwks")
    @classmethod
    def _leads_to_keys(cls, value: str) -> str:
        """A file is parsed here already; a URL may become reachable later."""
        if not value:
            return value
        from bridge import jwks  # noqa: PLC0415 - 20 MB that only this mode needs

        if not jwks.is_url(value):
            try:
                jwks.parse(jwks.read_file(Path(value)))
            except OSError:
                raise ValueError from None
            return value
        url = urlsplit(value)
        # Raises ValueError for an invalid name, as `port` does for a wrong port.
        host = (url.hostname or "").encode("idna").decode()
        is_safe = url.scheme == "https" or (url.scheme == "http" and connection_urls.is_loopback(host))
        is_plain = value.isascii() and value.isprintable() and " " not in value and "@" not in url.netloc
        if not is_safe or not is_plain or not host or url.port == 0:
            raise ValueError
        return value

    @field_validator("bridge_jwt_jwks", "bridge_jwt_issuer", "bridge_jwt_audience")
    @classmethod
    def _is_given_for_tokens(cls, value: str, info: ValidationInfo) -> str:
        if not value and info.data.get("bridge_auth") == "jwt":
            raise ValueError
        return value

    @field_validator("bridge_auth")
    @classmethod
    def _is_chosen(cls, value: str | None, info: ValidationInfo) -> str | None:
        """Whoever reaches the port can send `X-User-Roles`: beyond loopback an operator must choose the mode."""
        if value is None and not connection_urls.is_loopback(info.data.get("bridge_host", "")):
            raise ValueError
        return value

    @property
    def eureka_peers(self) -> tuple[str, ...]:
        """Eureka's URLs, with the credentials percent-encoded."""
        return tuple(map(_encoded, _split(self.eureka_url))) if self.eureka_url else ()

    @property
    def drain_seconds(self) -> float:
        """How long to serve after the first signal."""
        if self.bridge_drain_seconds is not None:
            return self.bridge_drain_seconds
        return DRAIN_SECONDS_WITH_EUREKA if self.eureka_url else 0


def _split(peers: SecretStr) -> list[str]:
    return [peer.strip() for peer in peers.get_secret_value().split(",")]


def _is_peer(peer: str) -> bool:
    url = urlsplit(peer)
    return (
        url.scheme in {"http", "https"}
        and _HOST_NAME.fullmatch(url.hostname or "") is not None
        and url.port != 0
        and not url.query
        and not url.fragment
        and peer.isprintable()
        and " " not in peer
        and bool(url.username) == bool(url.password)
    )


def _encoded(peer: str) -> str:
    url = urlsplit(peer)
    if not url.username:
        return peer
    user, password = (quote(unquote(part or ""), safe="") for part in (url.username, url.password))
    return url._replace(netloc=f"{user}:{password}@{url.netloc.rpartition('@')[2]}").geturl()
