from collections.abc import Callable

import pytest

from service.adapters.store import migrate
from tests.conftest import run


@pytest.fixture(scope="module")
def migrated_url(new_database: Callable[[], str]) -> str:
    """A database of this module's own."""
    url = new_database()
    run(migrate(url))
    return url
