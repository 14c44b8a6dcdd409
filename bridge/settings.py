"""The bridge's settings, from the environment. Every problem is named at once; no value is ever shown."""

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote, unquote, urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bridge import keys
from contracts import addresses
from contracts.logs import LogFormat, LogLevel, default_format

_LABEL: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*", re.ASCII | re.IGNORECASE)
"""Java calls no host with another letter, an underscore for example."""
_APP_NAME = r"^[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$"

DRAIN_SECONDS_WITH_EUREKA: Final = 95.0
"""How long Java may call whom it once saw in Eureka: cached by the server 30 s, the client 30 s, the balancer 35 s."""


class InvalidSettingsError(Exception):
    """One line per variable that is missing or wrong."""


class Settings(BaseSettings):
    """What may be set from outside. A field's description says what is expected."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    payment_environment: Annotated[
        Literal["production", "development"], Field(description='"production" or "development"')
    ] = "development"
    amqp_url: Annotated[SecretStr, Field(description="an amqp:// or amqps:// URL with a host")] = SecretStr(
        "amqp://guest:guest@127.0.0.1:5672/"
    )
    bridge_host: Annotated[str, Field(description="a host name or an IP address")] = "127.0.0.1"
    bridge_port: Annotated[int, Field(ge=1, le=65535, description="a port from 1 to 65535")] = 8085
    bridge_timeout_seconds: Annotated[float, Field(ge=0.1, le=60, description="seconds from 0.1 to 60")] = 10
    bridge_max_in_flight: Annotated[int, Field(ge=1, le=100_000, description="a number from 1 to 100000")] = 1000
    bridge_max_held: Annotated[int, Field(ge=0, le=100_000, description="a number from 0 to 100000")] = 10_000
    bridge_auth: Annotated[
        Literal["headers", "jwt"] | None,
        Field(
            validate_default=True,
            description='"headers" or "jwt"; it must be named when BRIDGE_HOST is not a loopback address',
        ),
    ] = None
    bridge_jwt_jwks: Annotated[
        str,
        Field(
            validate_default=True,
            description="the path of a file with at least one usable public key (JWKS), or an https:// address without"
            " a password (http:// on this machine only); BRIDGE_AUTH=jwt needs it",
        ),
    ] = ""
    bridge_jwt_issuer: Annotated[
        str, Field(validate_default=True, description="the tokens' issuer (iss); BRIDGE_AUTH=jwt needs it")
    ] = ""
    bridge_jwt_audience: Annotated[
        str,
        Field(validate_default=True, description="this service's name in tokens (aud); BRIDGE_AUTH=jwt needs it"),
    ] = ""
    bridge_caller_requests_per_second: Annotated[
        float, Field(ge=0, le=100_000, description="a number from 0 (no limit) to 100000")
    ] = 0
    bridge_caller_burst: Annotated[int | None, Field(ge=1, le=100_000, description="a number from 1 to 100000")] = None
    bridge_booking_creates_per_minute: Annotated[
        int, Field(ge=0, le=100_000, description="a number from 0 (no limit) to 100000")
    ] = 0
    eureka_url: Annotated[
        SecretStr | None,
        Field(
            description="http:// or https:// URLs with a host name or an IPv4 address, separated by commas; "
            "a user in one needs a password, and both are percent-encoded"
        ),
    ] = None
    eureka_app_name: Annotated[
        str, Field(pattern=_APP_NAME, description="letters, digits and hyphens, a letter first, as in a host name")
    ] = "payment-service"
    instance_host: Annotated[str | None, Field(description="a host name or an IP address, without a port")] = None
    bridge_drain_seconds: Annotated[float | None, Field(ge=0, le=3600, description="seconds from 0 to 3600")] = None
    git_commit: Annotated[
        str | None, Field(pattern="^[0-9a-f]{7,40}$", description="a commit's id, 7 to 40 hexadecimal digits")
    ] = None
    log_level: Annotated[LogLevel, Field(description="debug, info, warning or error")] = "info"
    log_format: LogFormat = Field(default_factory=default_format, description="json or console")

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _lower_case(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("amqp_url")
    @classmethod
    def _names_a_broker(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        url = urlsplit(value.get_secret_value())
        if url.scheme not in {"amqp", "amqps"} or not url.hostname or url.port == 0:
            raise ValueError
        production = info.data.get("payment_environment") == "production"
        addresses.check_amqp(value.get_secret_value(), name="AMQP_URL", production=production)
        return value

    @field_validator("eureka_url")
    @classmethod
    def _names_peers(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not all(map(_is_peer, _split(value))):
            raise ValueError
        return value

    @field_validator("instance_host")
    @classmethod
    def _is_a_host(cls, value: str | None) -> str | None:
        if value is not None and not addresses.is_ip_address(value) and not _HOST_NAME.fullmatch(value):
            raise ValueError
        return value

    @field_validator("bridge_jwt_jwks")
    @classmethod
    def _leads_to_keys(cls, value: str) -> str:
        """A file is read already here; an address may come to life later."""
        if not value:
            return value
        if not keys.is_url(value):
            try:
                keys.parse(keys.read_file_now(Path(value)))
            except OSError:
                raise ValueError from None
            return value
        url = urlsplit(value)
        host = (url.hostname or "").encode("idna").decode()  # a name that is none is a ValueError, as a wrong port is
        is_safe = url.scheme == "https" or (url.scheme == "http" and addresses.is_loopback(host))
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
        """Anyone who reaches the port can send `X-User-Roles`: beyond loopback that must be somebody's decision."""
        if value is None and not addresses.is_loopback(info.data.get("bridge_host", "")):
            raise ValueError
        return value

    @property
    def eureka_peers(self) -> tuple[str, ...]:
        """Eureka's addresses, every letter of the credentials that means something else in a URL encoded."""
        return tuple(map(_encoded, _split(self.eureka_url))) if self.eureka_url else ()

    @property
    def drain_seconds(self) -> float:
        """How long to go on serving after the first signal."""
        if self.bridge_drain_seconds is not None:
            return self.bridge_drain_seconds
        return DRAIN_SECONDS_WITH_EUREKA if self.eureka_url else 0


def load() -> Settings:
    """Read the environment.

    Raises:
        InvalidSettingsError: the text names every wrong variable and what is expected of it.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise InvalidSettingsError(describe(error)) from None


def describe(error: ValidationError) -> str:
    """One line per problem."""
    return "\n".join(_expectation(details) for details in error.errors(include_input=False))


def _expectation(details: Any) -> str:
    if isinstance(refusal := details.get("ctx", {}).get("error"), addresses.InsecureAddressError):
        return str(refusal)
    name = str(details["loc"][0])
    return f"{name.upper()} must be {Settings.model_fields[name].description}"


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
