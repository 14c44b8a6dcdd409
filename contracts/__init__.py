"""What other programs rely on, as data: messages, replies, faults, events, envelope, topology. No technology, no logic.

Service and bridge are built on it, and so may be any other program that talks to the payment service. `make documents`
writes `asyncapi.yaml` and `openapi.json` from it, for people and generators.
"""

from typing import Final

VERSION: Final = "1.0.0"
"""The semantic version of both documents: a breaking change raises the first number."""
