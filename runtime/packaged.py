"""Files that other packages bring, without importing these packages, which may take long and much memory."""

import importlib.util
from pathlib import Path


def packaged(package: str, path: str) -> Path:
    """The path of a file or folder inside an installed package.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    return Path(spec.submodule_search_locations[0]) / path
