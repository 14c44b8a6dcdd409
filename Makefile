# Every target works from a bare checkout: `make run` is the one to begin with.

PYTHON := .venv/bin/python
READY := .venv/.installed
.DEFAULT_GOAL := help
.PHONY: help run demo test interop check documents bench chaos fuzz clean

help: ## what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

run: $(READY) ## the whole system on this machine, with a sample purchase; Ctrl-C ends it
	@$(PYTHON) -m deploy.local run

demo: $(READY) ## the same, and end after the sample purchase
	@$(PYTHON) -m deploy.local demo

# A file's tests share what they started, so a worker takes whole files.
test: $(READY) ## all tests, with a real PostgreSQL and a real RabbitMQ
	@$(PYTHON) -m pytest -n 2 --dist loadfile --ignore tests/bench

interop: $(READY) ## the tests with real Java around the bridge alone (they need Maven and Java 17 or later)
	@$(PYTHON) -m pytest -rs --durations 5 tests/interop

check: $(READY) ## formatting, lint, types, import floors, the documents of contracts/
	@$(PYTHON) -m ruff format --check --quiet .
	@$(PYTHON) -m ruff check --quiet .
	@$(PYTHON) -m mypy
	@.venv/bin/lint-imports
	@$(PYTHON) -m deploy.documents --check

documents: $(READY) ## write contracts/openapi.json and asyncapi.yaml from the code
	@$(PYTHON) -m deploy.documents

bench: $(READY) ## measures what is promised, about 15 minutes, as JSON and a page of plots (ARGS="--only p1,p7")
	@$(PYTHON) -m tests.bench $(ARGS)

chaos: $(READY) ## break everything while people buy, then look whether the money is right (ARGS="--seed 1 --minutes 2")
	@$(PYTHON) -m tests.chaos $(ARGS)

fuzz: $(READY) ## 10,000 bad and odd requests and messages (ARGS="--seed 2 --cases 20000")
	@$(PYTHON) -m pytest -n 2 --dist loadfile tests/fuzz --cases 10000 $(ARGS)

clean: ## remove the stack's data, .venv and every cache
	@test ! -x $(PYTHON) || $(PYTHON) -m deploy.local clean
	@rm -rf .venv .bench .chaos .stack .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist tests/interop/target
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml uv.lock
	@deploy/local/install.sh
