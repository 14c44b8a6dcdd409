"""Passwords, guesses and sessions."""

import pytest

from console.identity import Person, Role
from console.sessions import IDLE_SECONDS, FormTokens, Sessions
from console.users import MAX_FAILURES, InvalidUsersError, Throttle, Users, user_line
from tests.kit.clock import Seconds

PERSON = Person(name="asha", role=Role.VIEWER)


async def test_a_person_is_known_by_name_and_password() -> None:
    users = Users.parsed(user_line("asha", Role.VIEWER, "a long password") + "\n\n")
    assert await users.person("asha", "a long password") == PERSON
    assert await users.person("asha", "a wrong password") is None
    assert await users.person("nobody", "the password of nobody") is None


@pytest.mark.parametrize(("name", "password"), [("", "a long password"), ("a:b", "a long password"), ("asha", "short")])
def test_a_name_or_password_that_will_not_do_is_a_sentence(name: str, password: str) -> None:
    with pytest.raises(ValueError, match=r"\.$"):
        user_line(name, Role.VIEWER, password)


@pytest.mark.parametrize("text", ["", "asha", "asha:viewer", "asha:viewer:", "asha:viewer:$2b$12$abc"])
def test_a_list_without_hashes_of_ours_is_refused(text: str) -> None:
    with pytest.raises(InvalidUsersError):
        Users.parsed(text)


def test_guesses_wait_longer_each_time_and_are_forgotten_after_success() -> None:
    clock = Seconds()
    throttle = Throttle(clock)
    for _ in range(MAX_FAILURES - 1):
        throttle.failed("name asha", "address 1")
    assert throttle.seconds_left("name asha", "address 1") == 0
    throttle.failed("name asha", "address 1")
    first = throttle.seconds_left("name other", "address 1")
    throttle.failed("address 1")
    assert 0 < first < throttle.seconds_left("address 1")
    throttle.succeeded("name asha", "address 1")
    assert throttle.seconds_left("name asha", "address 1") == 0


def test_a_session_ends_without_use_and_in_the_end_anyhow() -> None:
    clock = Seconds()
    sessions = Sessions(seconds=2 * IDLE_SECONDS, now=clock)
    idle, used = sessions.begin(PERSON), sessions.begin(PERSON)
    assert idle != used
    clock.now += 0.6 * IDLE_SECONDS
    assert sessions.person(None, used) == PERSON
    clock.now += 0.6 * IDLE_SECONDS
    assert sessions.person(None, idle) is None
    assert sessions.person(None, used) == PERSON
    clock.now += 0.9 * IDLE_SECONDS
    assert sessions.person(None, used) is None


def test_a_token_is_bound_to_the_browser_and_the_person() -> None:
    tokens = FormTokens()
    token = tokens.of("browser", PERSON)
    assert tokens.fits(token, "browser", PERSON)
    assert not tokens.fits(token, "another", PERSON)
    assert not tokens.fits(token, "browser", None)
    assert not tokens.fits(token, None, PERSON)
    assert not FormTokens().fits(token, "browser", PERSON)
    assert not tokens.fits("\u00fc", "browser", PERSON)


def test_consoles_with_the_same_secret_take_each_others_forms() -> None:
    token = FormTokens("a secret").of("browser", PERSON)
    assert FormTokens("a secret").fits(token, "browser", PERSON)
    assert not FormTokens("a secret").fits(token, "another", PERSON)
    assert not FormTokens("another secret").fits(token, "browser", PERSON)
    assert not FormTokens().fits(token, "browser", PERSON)
