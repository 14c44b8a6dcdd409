"""The console's settings, from the environment. All problems are reported at once, and no value is ever shown."""

from typing import Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from console.users import InvalidUsersError, Users
from runtime import amqp_nodes, connection_urls, secret_files
from runtime.logs import LogFormat, LogLevel, default_format

AuthMode = Literal["none", "password", "proxy"]
MIN_SECRET_LENGTH: Final = 32
_TEMPLATE: Final = "an http:// or https:// URL with {} in it"


class InvalidSettingsError(Exception):
    """One line per variable that is missing or wrong."""


class Settings(BaseSettings):
    """The settings. A field's description says what is expected of its value."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    payment_environment: Literal["production", "development"] = Field(
        default="development", description='"production" or "development"'
    )
    amqp_url: SecretStr = Field(
        default=SecretStr("amqp://guest:guest@127.0.0.1:5672/"), description="an amqp:// or amqps:// URL with a host"
    )
    database_url: SecretStr = Field(description="a postgresql:// URL")
    console_host: str = Field(default="127.0.0.1", description="a host name or an IP address")
    console_port: int = Field(default=8087, ge=1, le=65535, description="a port from 1 to 65535")
    console_users: SecretStr | None = Field(
        default=None,
        description="lines of name:role:hash, as `payment-console user` prints them; CONSOLE_AUTH=password needs it",
    )
    console_proxy_secret: SecretStr | None = Field(
        default=None,
        description=f"{MIN_SECRET_LENGTH} characters or more, which the proxy sends too; CONSOLE_AUTH=proxy needs it",
    )
    console_proxy_user_header: str = Field(
        default="X-Forwarded-User", pattern="^[A-Za-z0-9-]{1,64}$", description="the name of a header"
    )
    console_proxy_roles_header: str = Field(
        default="X-Forwarded-Groups", pattern="^[A-Za-z0-9-]{1,64}$", description="the name of a header"
    )
    console_auth: AuthMode | None = Field(
        default=None,
        validate_default=True,
        description='"password" or "proxy", or "none" where CONSOLE_HOST is a loopback address; elsewhere it must be '
        "named",
    )
    console_hosts: str = Field(
        default="",
        description="the names by which browsers reach the console, separated by commas; with a port unless it is the "
        "scheme's own",
    )
    console_session_seconds: int = Field(default=28_800, ge=60, le=604_800, description="seconds from 60 to 604800")
    console_trace_url: str = Field(default="", description=_TEMPLATE.format("{trace_id}"))
    console_logs_url: str = Field(default="", description=_TEMPLATE.format("{request_id} or {payment_id}"))
    git_commit: str | None = Field(
        default=None, pattern="^[0-9a-f]{7,40}$", description="a commit's id, 7 to 40 hexadecimal digits"
    )
    log_level: LogLevel = Field(default="info", description="debug, info, warning or error")
    log_format: LogFormat = Field(default_factory=default_format, description="json or console")

    @field_validator("log_level", "log_format", "console_auth", mode="before")
    @classmethod
    def _lower_case(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("amqp_url")
    @classmethod
    def _names_a_broker(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        if value.get_secret_value().partition("://")[0].lower() not in amqp_nodes.PORTS:
            raise ValueError
        production = info.data.get("payment_environment") == "production"
        connection_urls.check_amqp(value.get_secret_value(), name="AMQP_URL", production=production)
        return value

    @field_validator("database_url")
    @classmethod
    def _names_a_database(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        url = value.get_secret_value()
        if not connection_urls.is_database(url):
            raise ValueError
        production = info.data.get("payment_environment") == "production"
        connection_urls.check_database(url, name="DATABASE_URL", production=production)
        return value

    @field_validator("console_users")
    @classmethod
    def _are_users(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            try:
                Users.parsed(value.get_secret_value())
            except InvalidUsersError:
                raise ValueError from None
        return value

    @field_validator("console_proxy_secret")
    @classmethod
    def _is_long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < MIN_SECRET_LENGTH:
            raise ValueError
        return value

    @field_validator("console_auth")
    @classmethod
    def _is_chosen(cls, value: str | None, info: ValidationInfo) -> str:
        """Whoever reaches the port may read and act with `none`: beyond loopback that is never right."""
        if value in {None, "none"}:
            if not connection_urls.is_loopback(info.data.get("console_host", "")):
                raise ValueError
            return "none"
        needed = "console_users" if value == "password" else "console_proxy_secret"
        if needed in info.data and info.data[needed] is None:
            raise ValueError
        return value or "none"

    @field_validator("console_trace_url", "console_logs_url")
    @classmethod
    def _is_a_template(cls, value: str) -> str:
        if value and (urlsplit(value).scheme not in {"http", "https"} or "{" not in value):
            raise ValueError
        return value

    @property
    def hosts(self) -> frozenset[str]:
        """What a browser may call the console, lower case; empty: whatever reaches it."""
        return frozenset(host.strip().lower() for host in self.console_hosts.split(",") if host.strip())


def load() -> Settings:
    """The settings from the environment and the files that it names for secrets.

    Raises:
        InvalidSettingsError: with a line for each wrong variable.
    """
    files = secret_files.read(Settings)
    problems = list(files.problems.values())
    try:
        settings = Settings(**files.values)
    except ValidationError as error:
        details = [each for each in error.errors(include_input=False) if each["loc"][0] not in files.problems]
        problems += map(_expectation, details)
    if problems:
        raise InvalidSettingsError("\n".join(problems))
    return settings


def _expectation(details: Any) -> str:
    if isinstance(refusal := details.get("ctx", {}).get("error"), connection_urls.InsecureAddressError):
        return str(refusal)
    name = str(details["loc"][0])
    return f"{name.upper()} must be {Settings.model_fields[name].description}"
