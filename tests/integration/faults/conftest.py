import pytest

from tests.kit.databases import Migrated


@pytest.fixture(scope="module")
def migrated_url(migrated: Migrated) -> str:
    """For the owner of the tables: these tests change them."""
    return migrated.owner
