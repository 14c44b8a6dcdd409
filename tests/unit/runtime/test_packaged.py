import sys

import pytest

from runtime.packaged import packaged


def test_a_file_of_a_package_is_found_without_importing_the_package() -> None:
    before = set(sys.modules)
    assert packaged("fastapi_offline", "static/swagger-ui.css").is_file()
    assert "fastapi_offline" not in set(sys.modules) - before


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        packaged("no_such_package", "x")
