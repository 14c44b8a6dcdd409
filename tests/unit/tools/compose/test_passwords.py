"""The passwords of a first start: made once, each container's own, none that anybody knows."""

import base64
import hashlib
import json
import stat
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tools.compose import passwords
from tools.compose.passwords import NAMES, PasswordsError, with_passwords
from tools.devstack.stack_settings import CHECKOUT

DEFINITIONS = CHECKOUT / "deploy" / "rabbitmq" / "definitions.json"
FOLDERS = ("made", "postgres", "rabbitmq", "migrate", "service", "bridge", "console", "grafana")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FOLDERS:
        (tmp_path / name).mkdir()
    return tmp_path


def made(folder: Path, *arguments: str, definitions: Path = DEFINITIONS) -> dict[str, str]:
    """What every file holds after a start, by its path."""
    assert passwords.main([*arguments, "--folder", str(folder), "--definitions", str(definitions)]) == 0
    return {file.relative_to(folder).as_posix(): file.read_text() for file in folder.rglob("*") if file.is_file()}


def test_a_second_start_changes_nothing(folder: Path) -> None:
    first = made(folder)
    known = json.loads(first["made/passwords.json"])
    assert known.keys() == set(NAMES)
    assert len(set(known.values())) == len(NAMES)
    assert made(folder) == first


def test_each_container_has_its_own_secrets_only(folder: Path) -> None:
    files = made(folder)
    known = json.loads(files["made/passwords.json"])
    held = {
        place: {name for name, password in known.items() for path, text in files.items()
                if path.startswith(f"{place}/") and password in text}
        for place in FOLDERS
    }  # fmt: skip
    assert held == {
        "made": set(NAMES),
        "postgres": {"postgres", "payment_owner", "payment_service", "payment_console"},
        "rabbitmq": set(),  # hashes
        "migrate": {"payment_owner", "payment_service"},
        "service": {"payment_service", "payment-service", "stripe"},
        "bridge": {"payment-bridge"},
        "console": {"payment-console", "payment_console"},  # and the hash of a person's
        "grafana": {"grafana"},
    }
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o444 for file in folder.rglob("*") if file.is_file())


def test_rabbitmq_gets_hashes_of_the_passwords_in_the_urls(folder: Path) -> None:
    files = made(folder)
    password = urlsplit(files["bridge/amqp-url"]).password or ""
    users = {user["name"]: user for user in json.loads(files["rabbitmq/definitions.json"])["users"]}
    assert users.keys() == {user["name"] for user in json.loads(DEFINITIONS.read_text())["users"]}
    salted = base64.b64decode(users["payment-bridge"]["password_hash"])
    assert hashlib.sha256(salted[:4] + password.encode()).digest() == salted[4:]


def test_one_password_is_renewed_and_the_others_stay(folder: Path) -> None:
    before = made(folder)
    after = made(folder, "--renew", "payment-bridge")
    assert {path for path in before if before[path] != after[path]} == {
        "made/passwords.json",
        "bridge/amqp-url",
        "rabbitmq/definitions.json",
    }


@pytest.mark.parametrize(
    ("user", "sentence"),
    [
        ("guest", "The definitions have the user guest, whose password everybody knows: remove it."),
        ("shop", "The definitions have users for whom no password is made here: shop."),
    ],
)
def test_definitions_with_another_user_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], user: str, sentence: str
) -> None:
    definitions: dict[str, Any] = json.loads(DEFINITIONS.read_text())
    definitions["users"].append({"name": user, "password_hash": "", "tags": ""})
    with pytest.raises(PasswordsError):
        with_passwords(definitions, dict.fromkeys(NAMES, "x"))
    wrong = folder / "wrong.json"
    wrong.write_text(json.dumps(definitions))
    assert passwords.main(["--folder", str(folder), "--definitions", str(wrong)]) == 2
    assert capsys.readouterr().err == f"{sentence}\n"
    assert not list((folder / "rabbitmq").iterdir())


def test_a_folder_or_a_record_that_is_of_no_use_is_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--folder", str(folder), "--definitions", str(DEFINITIONS)]
    assert passwords.main([*words, "--show", "console"]) == 1
    assert capsys.readouterr().err == "No password is made yet: that is done by the first start.\n"
    (folder / "console").rmdir()
    assert passwords.main(words) == 2
    place = folder / "console" / "database-url"
    assert capsys.readouterr().err == f"{place} cannot be written: No such file or directory.\n"
    record = folder / "made" / "passwords.json"
    record.chmod(0o644)
    record.write_text("{broken")
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert passwords.main(words) == 2
    assert capsys.readouterr().err == f"{record} cannot be read: nothing is written until it is put back, or removed.\n"
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("text", [None, "{", "[]", '{"users": [{}]}'])
def test_definitions_that_cannot_be_read_are_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    file = folder / "wrong.json"
    if text is not None:
        file.write_text(text)
    assert passwords.main(["--folder", str(folder), "--definitions", str(file)]) == 2
    assert capsys.readouterr().err == f"{file} cannot be read, or is no file of RabbitMQ's definitions.\n"
