"""`payment-bridge check`: whether the bridge could work here, for the first step of a deployment."""

import argparse
import asyncio
import json
import sys

from bridge.settings import Settings
from runtime import broker_check, misspelt


def check(settings: Settings, arguments: argparse.Namespace) -> int:
    """Tell what is wrong with RabbitMQ, and change nothing; the exit status."""
    problem = asyncio.run(broker_check.problem_of(settings.amqp_url.get_secret_value()))
    warnings = misspelt.sentences(Settings)
    if arguments.json:
        problems = [] if problem is None else [problem]
        sys.stdout.write(json.dumps({"ok": problem is None, "problems": problems, "warnings": warnings}) + "\n")
    else:
        sys.stderr.writelines(f"{sentence}\n" for sentence in (problem, *warnings) if sentence)
        if problem is None:
            sys.stdout.write("The settings are valid, and RabbitMQ can be used.\n")
    return 0 if problem is None else 1
