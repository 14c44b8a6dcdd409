from collections.abc import Callable

import pytest

from tests.conftest import Migrated


@pytest.fixture(scope="module")
def migrated(new_migrated: Callable[[], Migrated]) -> Migrated:
    """A database of this module's own."""
    return new_migrated()


@pytest.fixture(scope="module")
def migrated_url(migrated: Migrated) -> str:
    return migrated.application
