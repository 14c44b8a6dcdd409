"""A service process with one mutant: `python -m tests.mutants <name>`; the service as it is without a name."""

import sys

import pytest

from service.__main__ import main
from tests.mutants.mutants import MUTANTS

if __name__ == "__main__":
    name = sys.argv[1]
    if name:
        MUTANTS[name].patch(pytest.MonkeyPatch())
    sys.argv[1:] = ["run"]
    main()
