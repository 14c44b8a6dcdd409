"""Whether RabbitMQ lets a process in, and if not why, in a sentence for an operator. Nothing is changed there."""

import asyncio
import logging
from typing import Final

import aiormq
from aiormq.exceptions import AMQPError, AuthenticationError, InvalidFrameError, ProbableAuthenticationError

from runtime import amqp_nodes, connection_urls

SECONDS: Final = 5.0
NO_ENTRY: Final = "does not let the user into the virtual host: none of that name, no right, or too many connections"
"""RabbitMQ closes the connection instead of opening it, and aiormq's error names an object in memory and no reason."""


async def problem_of(url: str) -> str | None:
    """Why RabbitMQ cannot be used at this URL, a line for each node; None if it can, with some of its nodes down."""
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # it tells every failure too, in words of its own
    nodes = amqp_nodes.node_urls(url)
    errors = await asyncio.gather(*map(_error_of, nodes))
    refused = [error is not None and refusal(error) is not None for error in errors]
    if None in errors and not any(refused):
        return None
    lines = []
    for node, error in zip(nodes, errors, strict=True):
        if error is not None:
            where = f" at {amqp_nodes.address(node)}" if len(nodes) > 1 else ""
            why = refusal(error) or f"cannot be reached ({type(error).__name__})"
            lines.append(f"RabbitMQ (AMQP_URL){where} {why}.")
    return "\n".join(lines)


async def _error_of(node: str) -> Exception | None:
    try:
        async with asyncio.timeout(SECONDS), await aiormq.connect(node) as connection:
            await connection.channel()
    except (AMQPError, OSError) as error:  # TimeoutError too
        return error
    return None


def refusal(error: Exception) -> str | None:
    """Why a node that answers does not let us in; None if it does not answer."""
    if (distrust := connection_urls.distrust(error)) is not None:
        return distrust
    match error:
        case AuthenticationError() | ProbableAuthenticationError():
            return "refuses the user or its password"
        case InvalidFrameError():
            return NO_ENTRY
        case _:
            return None


def words_of(error: BaseException) -> str:
    """What the broker or the system said of a connection, with its code if it gave one. No URL is in it."""
    if isinstance(error, InvalidFrameError):
        return NO_ENTRY
    return " ".join(str(each) for each in error.args if each is not None and each != "") or type(error).__name__
