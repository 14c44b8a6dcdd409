"""The service's settings: environment variables, all checked at start, every problem listed at once, no value shown."""

import re
from typing import Annotated, Any, Final, Literal, Protocol, Self
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError, ValidationInfo, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from contracts import addresses
from contracts.logs import LogFormat, LogLevel, default_format
from service import failpoints
from service.domain import urls
from service.domain.money import CURRENCIES

STRIPE_API_BASE: Final = "https://api.stripe.com"
_KEY = re.compile(r"(sk|rk)_(test|live)_[A-Za-z0-9_]{8,250}", re.ASCII)


class SettingsError(Exception):
    """The environment does not make sense; the text lists every problem, a line each."""


def _scheme(*schemes: str) -> Any:
    def check(value: SecretStr) -> SecretStr:
        parts = urlsplit(value.get_secret_value())
        if parts.scheme not in schemes or not (parts.netloc or parts.query):
            raise ValueError
        _ = parts.port  # raises ValueError unless it is none or a port number
        return value

    return AfterValidator(check)


def _checked(accepts: Any) -> Any:
    def check(value: Any) -> Any:
        if not accepts(value):
            raise ValueError
        return value

    return AfterValidator(check)


class _Check(Protocol):
    def __call__(self, url: str, *, name: str, production: bool) -> None: ...


def _secured(check: _Check) -> Any:
    """After `payment_environment`, on which it depends."""

    def secured(value: SecretStr, info: ValidationInfo) -> SecretStr:
        production = info.data.get("payment_environment") == "production"
        check(value.get_secret_value(), name=str(info.field_name).upper(), production=production)
        return value

    return AfterValidator(secured)


def _names(text: str) -> frozenset[str]:
    names = [part.strip() for part in text.split(",")]
    if not all(names):
        raise ValueError
    return frozenset(names)


def _origins(text: str) -> frozenset[str]:
    origins = {urls.origin(part.strip()) for part in text.split(",")}
    if None in origins:
        raise ValueError
    return frozenset(origin for origin in origins if origin is not None)


def _is_key(value: SecretStr) -> bool:
    return _KEY.fullmatch(value.get_secret_value()) is not None


def _is_api_base(value: str) -> bool:
    parts = urlsplit(value)
    _ = parts.port  # raises ValueError unless it is none or a port number
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and addresses.is_loopback(parts.hostname or ""))
    )


_AMQP_DEFAULT: Final = "amqp://guest:guest@127.0.0.1:5672/"
_AmqpUrl = Annotated[SecretStr, _scheme("amqp", "amqps"), _secured(addresses.check_amqp)]
_DatabaseUrl = Annotated[
    SecretStr, _scheme("postgresql+asyncpg", "postgresql", "postgres"), _secured(addresses.check_database)
]
_ReturnUrl = Annotated[str, _checked(urls.origin)]
_PAGES: Final = "http://127.0.0.1:8084/payments"


class Settings(BaseSettings):
    """One member per variable; a description says what is expected of it."""

    model_config = SettingsConfigDict(frozen=True, hide_input_in_errors=True, extra="ignore")

    payment_environment: Literal["production", "development"] = Field(
        "development", description='"production" or "development"'
    )
    amqp_url: _AmqpUrl = Field(SecretStr(_AMQP_DEFAULT), description="amqp:// or amqps:// URL")
    command_users: Annotated[str, AfterValidator(lambda text: _names(text) and text), NoDecode] | None = Field(
        None, description="RabbitMQ users whose commands are executed, separated by commas"
    )
    database_url: _DatabaseUrl = Field(description="postgresql://user:password@host:port/name")
    stripe_api_key: Annotated[SecretStr, _checked(_is_key)] = Field(
        description="a secret or restricted key of Stripe: sk_test_, rk_test_, sk_live_ or rk_live_ and what follows"
    )
    stripe_api_base: Annotated[str, _checked(_is_api_base)] = Field(
        STRIPE_API_BASE,
        description="an https:// URL, or http:// on this machine; another than Stripe's for test keys only",
    )
    stripe_concurrency: int = Field(64, ge=1, le=2000, description="an integer from 1 to 2000")
    stripe_requests_per_second: float = Field(20, ge=0, le=10_000, description="a number from 0 (no pacing) to 10000")
    stripe_global_requests_per_second: float | None = Field(
        None, ge=0, le=10_000, description="a number from 0 (no limit) to 10000"
    )
    feed_interval_seconds: float = Field(2, ge=0.1, le=60, description="a number from 0.1 to 60")
    payment_currency: Annotated[str, _checked(CURRENCIES.__contains__)] = Field(
        "inr", description="a lower-case ISO 4217 code that Stripe charges"
    )
    payment_success_url: _ReturnUrl = Field(
        f"{_PAGES}/success?session_id={{CHECKOUT_SESSION_ID}}", description="an absolute http(s) URL"
    )
    payment_cancel_url: _ReturnUrl = Field(f"{_PAGES}/cancelled", description="an absolute http(s) URL")
    payment_url_origins: Annotated[str, AfterValidator(lambda text: _origins(text) and text), NoDecode] | None = Field(
        None, description="origins (https://host:port) that callers may name in their URLs, separated by commas"
    )
    payment_window_seconds: int = Field(900, ge=60, le=82_800, description="an integer from 60 to 82800")
    outbox_retention_days: int = Field(7, ge=1, le=3650, description="an integer from 1 to 3650")
    verify_freshness_seconds: float = Field(1, ge=0, le=60, description="a number from 0 to 60")
    service_host: str = Field("127.0.0.1", min_length=1, description="an address to listen on")
    service_port: int = Field(8086, ge=0, le=65535, description="a port number")
    failpoint: Annotated[str, _checked(failpoints.read)] | None = Field(
        None, description="<name>:<n>, a name from service/failpoints.py and the time, from 1, that it is reached"
    )
    git_commit: str | None = Field(
        None, pattern="^([0-9a-f]{7,40})?$", description="a commit's id, 7 to 40 hexadecimal digits"
    )
    log_level: LogLevel = Field("info", description="debug, info, warning or error")
    log_format: LogFormat = Field(default_factory=default_format, description="json or console")

    @model_validator(mode="after")
    def _keys_fit_their_place(self) -> Self:
        """Live keys are for production and go to Stripe alone, test keys are for everywhere else."""
        live = "_live_" in self.stripe_api_key.get_secret_value()
        production = self.payment_environment == "production"
        problems = []
        if live and self.stripe_api_base != STRIPE_API_BASE:
            problems.append("STRIPE_API_BASE must not be set with a live key: it would be sent to somebody else")
        if live and not production:
            problems.append(
                "STRIPE_API_KEY is a live key, which moves real money: only with PAYMENT_ENVIRONMENT=production"
            )
        if production and not live:
            problems.append(
                "STRIPE_API_KEY is a test key, with which nobody pays: not with PAYMENT_ENVIRONMENT=production"
            )
        here = addresses.is_loopback(urlsplit(self.stripe_api_base).hostname or "")
        if self.failpoint is not None and (live or not here):
            problems.append("FAILPOINT kills the service: only with a test key and STRIPE_API_BASE on this machine")
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @model_validator(mode="after")
    def _our_own_retries_have_a_name(self) -> Self:
        if self.command_users is not None and self.amqp_user is None:
            raise ValueError("AMQP_URL must name its user where COMMAND_USERS is set: our own retries come back by it")
        return self

    @property
    def global_requests_per_second(self) -> float:
        """Of all endpoints together: four fifths of what Stripe allows an account, which is far less for test keys."""
        if self.stripe_global_requests_per_second is not None:
            return self.stripe_global_requests_per_second
        is_test = "_test_" in self.stripe_api_key.get_secret_value()
        return 20 if is_test and self.stripe_api_base == STRIPE_API_BASE else 80

    @property
    def amqp_user(self) -> str | None:
        """The RabbitMQ user that the service is, if AMQP_URL tells."""
        return addresses.amqp_user(self.amqp_url.get_secret_value())

    @property
    def senders(self) -> frozenset[str] | None:
        """RabbitMQ users whose commands are executed, ourselves among them for retries; None: the broker decides."""
        if self.command_users is None or self.amqp_user is None:
            return None
        return _names(self.command_users) | {self.amqp_user}

    @property
    def in_plain_text(self) -> tuple[str, ...]:
        """The variables by which something leaves this machine that others can read on its way."""
        urls = {"AMQP_URL": self.amqp_url, "DATABASE_URL": self.database_url}
        return tuple(name for name, url in urls.items() if addresses.is_plain_text(url.get_secret_value()))

    @property
    def origins(self) -> frozenset[str]:
        """Allowed origins of return URLs, normalised: those named, else those of the two default URLs."""
        if self.payment_url_origins is not None:
            return _origins(self.payment_url_origins)
        return _origins(f"{self.payment_success_url},{self.payment_cancel_url}")


class DatabaseSettings(BaseSettings):
    """What the commands need that only use the database."""

    model_config = SettingsConfigDict(frozen=True, hide_input_in_errors=True, extra="ignore")

    payment_environment: Literal["production", "development"] = Field(
        "development", description='"production" or "development"'
    )
    database_url: _DatabaseUrl = Field(description="postgresql://user:password@host:port/name")


class MigrateSettings(DatabaseSettings):
    """What migrating needs: the tables may belong to another role than the application's."""

    migration_database_url: _DatabaseUrl | None = Field(
        None, description="postgresql://user:password@host:port/name, of the role that shall own the tables"
    )

    @model_validator(mode="after")
    def _the_application_has_a_name(self) -> Self:
        if self.migration_database_url is not None and not self.application:
            raise ValueError("DATABASE_URL must name its user, whom the migration grants what the application needs")
        return self

    @property
    def application(self) -> str | None:
        """The role by which the service uses the tables, if another one shall own them."""
        if self.migration_database_url is None:
            return None
        parts = urlsplit(self.database_url.get_secret_value())
        return unquote(parts.username or "") or parse_qs(parts.query).get("user", [None])[0]


class BrokerSettings(BaseSettings):
    """What looking at dead letters needs."""

    model_config = SettingsConfigDict(frozen=True, hide_input_in_errors=True, extra="ignore")

    payment_environment: Literal["production", "development"] = Field(
        "development", description='"production" or "development"'
    )
    amqp_url: _AmqpUrl = Field(SecretStr(_AMQP_DEFAULT), description="amqp:// or amqps:// URL")


class OperatorSettings(BrokerSettings, DatabaseSettings):
    """What replaying and dropping dead letters needs: the record of it is in the database."""


def load(model: type[BaseSettings] = Settings) -> Any:
    """The settings from the environment.

    Raises:
        SettingsError: with a line for each variable that is missing or wrong, and what is expected of it.
    """
    try:
        return model()
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        raise SettingsError("\n".join(_problem(model, problem) for problem in details)) from None


def _problem(model: type[BaseSettings], details: Any) -> str:
    if not details["loc"]:
        return str(details["ctx"]["error"])
    name = str(details["loc"][0])
    if isinstance(error := details.get("ctx", {}).get("error"), addresses.InsecureAddressError):
        return str(error)
    expected = model.model_fields[name].description
    found = "is not set" if details["type"] == "missing" else "is not valid"
    return f"{name.upper()} {found}; expected: {expected}"
