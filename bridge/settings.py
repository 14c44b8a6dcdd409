"""The bridge's settings, from the environment. Every problem is named at once; no value is ever shown."""

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts import addresses
from contracts.logs import LogFormat, LogLevel, default_format


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
    bridge_auth: Annotated[
        Literal["headers"] | None,
        Field(
            validate_default=True, description='"headers"; it must be named when BRIDGE_HOST is not a loopback address'
        ),
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

    @field_validator("bridge_auth")
    @classmethod
    def _is_chosen(cls, value: str | None, info: ValidationInfo) -> str | None:
        """Anyone who reaches the port can send `X-User-Roles`: beyond loopback that must be somebody's decision."""
        if value is None and not addresses.is_loopback(info.data.get("bridge_host", "")):
            raise ValueError
        return value


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
