"""What the settings of every process have in common. All problems are told at once, and no value is ever shown."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtime import amqp_nodes, connection_urls, secret_files
from runtime.command_start import EXIT_USAGE, CannotStartError
from runtime.logs import LogFormat, LogLevel, default_format

AnySettings = TypeVar("AnySettings", bound=BaseSettings)


class InvalidSettingsError(CannotStartError):
    """The environment is not valid; the text has a line for each variable that is missing or wrong."""

    status = EXIT_USAGE


def checked(accepts: Callable[[Any], object]) -> Any:
    """For an annotation: refuses a value that is not accepted."""

    def check(value: Any) -> Any:
        if not accepts(value):
            raise ValueError
        return value

    return AfterValidator(check)


def _secured(check: Callable[..., None]) -> Any:
    """Needs `payment_environment` to be validated before."""

    def secured(value: SecretStr, info: ValidationInfo) -> SecretStr:
        production = info.data.get("payment_environment") == "production"
        check(value.get_secret_value(), name=str(info.field_name).upper(), production=production)
        return value

    return AfterValidator(secured)


_LowerCase = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)
AmqpUrl = Annotated[
    SecretStr,
    checked(lambda url: url.get_secret_value().partition("://")[0].lower() in amqp_nodes.PORTS),
    _secured(connection_urls.check_amqp),
]
DatabaseUrl = Annotated[
    SecretStr,
    checked(lambda url: connection_urls.is_database(url.get_secret_value())),
    _secured(connection_urls.check_database),
]


class EnvironmentSettings(BaseSettings):
    """For every command. A field's description says what is expected of its value."""

    model_config = SettingsConfigDict(frozen=True, hide_input_in_errors=True, extra="ignore")

    payment_environment: Literal["production", "development"] = Field(
        "development", description='"production" or "development"'
    )


class BrokerSettings(EnvironmentSettings):
    """For what uses the broker."""

    amqp_url: AmqpUrl = Field(SecretStr("amqp://guest:guest@127.0.0.1:5672/"), description="amqp:// or amqps:// URL")


class DatabaseSettings(EnvironmentSettings):
    """For what uses the database."""

    database_url: DatabaseUrl = Field(description="postgresql://user:password@host:port/name")


class ProcessSettings(EnvironmentSettings):
    """For what runs until it is stopped."""

    git_commit: str | None = Field(
        None, pattern="^([0-9a-f]{7,40})?$", description="a commit's id, 7 to 40 hexadecimal digits"
    )
    log_level: Annotated[LogLevel, _LowerCase] = Field("info", description="debug, info, warning or error")
    log_format: Annotated[LogFormat, _LowerCase] = Field(default_factory=default_format, description="json or console")


def load(model: type[AnySettings]) -> AnySettings:
    """The settings from the environment and the files that it names for secrets.

    Raises:
        InvalidSettingsError: with a line for each variable that is missing or wrong.
    """
    files = secret_files.read(model)
    problems = list(files.problems.values())
    try:
        settings = model(**files.values)
    except ValidationError as error:
        known = [(name,) for name in files.problems]
        problems += [_problem(model, each) for each in error.errors(include_url=False) if each["loc"][:1] not in known]
    if problems:
        raise InvalidSettingsError("\n".join(problems))
    return settings


def _problem(model: type[BaseSettings], details: Any) -> str:
    if not details["loc"]:
        return str(details["ctx"]["error"])
    name = str(details["loc"][0])
    if isinstance(error := details.get("ctx", {}).get("error"), connection_urls.InsecureAddressError):
        return str(error)
    found = "is not set" if details["type"] == "missing" or details["input"] is None else "is not valid"
    return f"{name.upper()} {found}; expected: {model.model_fields[name].description}"
