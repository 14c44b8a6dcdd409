"""What others rely on, as data: messages, replies, faults, events, the envelope and the topology.

Nothing here knows FastStream, HTTP, SQL or Stripe. Both the service and the bridge stand on it, and so may any other
program that talks to the payment service.

The same for people and generators, written from here by `make documents`: `asyncapi.yaml` and `openapi.json`.
"""

from typing import Final

VERSION: Final = "1.0.0"
"""Of both documents, as semver.org has it: what breaks others raises the first number."""
