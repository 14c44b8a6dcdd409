"""The two documents as they are written, as they are generated, and the difference between them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import yaml

import contracts
from bridge import openapi
from bridge.app import create_app
from bridge.requester import Requester
from deploy.documents import asyncapi
from deploy.documents.compatibility import incompatible

FOLDER: Final = Path(contracts.__file__).parent
_HEAD: Final = "# Written by `make documents` from contracts/ and deploy/documents/. Changes made here are lost.\n"


class _Dumper(yaml.SafeDumper):
    """Without anchors, and with long texts as they are."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - yaml's signature
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def open_api() -> str:
    """`openapi.json`, as the bridge itself has it. Nothing is connected for that."""
    nowhere = Requester(amqp_url="amqp://localhost", timeout_seconds=1, max_in_flight=1)
    return json.dumps(openapi.document(create_app(nowhere)), indent=2, ensure_ascii=False) + "\n"


def async_api() -> str:
    """`asyncapi.yaml`."""
    return _HEAD + yaml.dump(asyncapi.document(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


GENERATED: Final[dict[Path, Callable[[], str]]] = {
    FOLDER / "openapi.json": open_api,
    FOLDER / "asyncapi.yaml": async_api,
}


def parsed(text: str) -> Any:
    """A document as data."""
    return json.loads(text) if text.startswith("{") else yaml.safe_load(text)


def breaking(path: Path) -> list[str]:
    """What the document as it would be generated now breaks of the one that is written."""
    return incompatible(parsed(path.read_text()), parsed(GENERATED[path]())) if path.exists() else []
