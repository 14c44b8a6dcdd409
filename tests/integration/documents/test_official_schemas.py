"""The committed documents, validated against the official schemas of the two specifications."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from tools.documents.files import FOLDER, parsed

SPECS = "@asyncapi/specs@6.11.1"
OPENAPI = parsed((FOLDER / "openapi.json").read_text())
ASYNCAPI = parsed((FOLDER / "asyncapi.yaml").read_text())


def test_the_rest_document_is_openapi() -> None:
    assert OPENAPI["openapi"].startswith("3.1.")
    assert [error.message for error in OpenAPIV31SpecValidator(OPENAPI).iter_errors()] == []


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """AsyncAPI's own schema of version 3.0.0, which exists as an npm package only."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm on this machine")
    folder: Path = tmp_path_factory.mktemp("asyncapi-specs")
    command = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
    command += [f"--cache={folder / 'cache'}", "--fetch-retries=0", "--fetch-timeout=20000", SPECS]
    try:
        installed = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=60)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install {SPECS} within a minute")
    if installed.returncode:
        pytest.skip(f"npm cannot install {SPECS} here")
    return json.loads((folder / "node_modules/@asyncapi/specs/schemas/3.0.0.json").read_text())


def test_the_messages_document_is_asyncapi(official: Any) -> None:
    assert ASYNCAPI["asyncapi"] == "3.0.0"
    validator = Draft7Validator(official)
    found = [f"{'.'.join(map(str, error.path))}: {error.message[:200]}" for error in validator.iter_errors(ASYNCAPI)]
    assert found == []
