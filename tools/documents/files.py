"""The two documents as committed and as generated, and the breaking changes between them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import yaml

import contracts
from tools.documents import asyncapi_document, openapi_document
from tools.documents.compatibility import incompatible

FOLDER: Final = Path(contracts.__file__).parent
_HEAD: Final = "# Written by `make documents` from contracts/ and tools/documents/. Changes made here are lost.\n"


class _Dumper(yaml.SafeDumper):
    """Writes no anchors, and multi-line texts as blocks."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - yaml's signature
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def open_api() -> str:
    """`openapi.json`."""
    return json.dumps(openapi_document.document(), indent=2, ensure_ascii=False) + "\n"


def async_api() -> str:
    """`asyncapi.yaml`."""
    return _HEAD + yaml.dump(
        asyncapi_document.document(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110
    )


GENERATED: Final[dict[Path, Callable[[], str]]] = {
    FOLDER / "openapi.json": open_api,
    FOLDER / "asyncapi.yaml": async_api,
}


def parsed(text: str) -> Any:
    """A document as data."""
    return json.loads(text) if text.startswith("{") else yaml.load(text, Loader=yaml.CSafeLoader)


def breaking(path: Path) -> list[str]:
    """The breaking changes from the committed document to the generated one."""
    return incompatible(parsed(path.read_text()), parsed(GENERATED[path]())) if path.exists() else []
