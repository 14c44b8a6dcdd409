"""`python -m deploy.local run | demo | clean`: what `make run`, `make demo` and `make clean` call."""

import sys

from deploy.local.cli import main

sys.exit(main())
