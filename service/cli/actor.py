"""Who acts: the name that an operator's command writes into a journal."""

import getpass
import os

from service.cli.argument_types import MAX_ACTOR_LENGTH


def os_user() -> str:
    """The user of the system, by default."""
    try:
        return getpass.getuser()[:MAX_ACTOR_LENGTH]
    except (OSError, KeyError):  # a container whose user has no name
        return f"uid {os.getuid()}"
