# Every target works from a bare checkout. Begin with `make run`.

PYTHON := .venv/bin/python
READY := .venv/.installed
.DEFAULT_GOAL := help
.PHONY: help run demo cluster test-fast test test-all coverage interop fuzz kubernetes-check check fix documents images bench chaos clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

run: $(READY) ## the whole system on this machine, with a sample purchase; Ctrl-C ends it
	@$(PYTHON) -m tools.devstack run

demo: $(READY) ## the same, and end after the sample purchase
	@$(PYTHON) -m tools.devstack demo

cluster: $(READY) ## the same without a single point of failure: 3 RabbitMQ, 3 PostgreSQL, 2 services, 2 bridges
	@$(PYTHON) -m tools.devstack cluster

# Each of some hundred processes would compile anew what another one has compiled.
unexport PYTHONDONTWRITEBYTECODE

# The tests of a file share what they start, so a worker takes whole files, in the order that tests/conftest.py sets.
# Those with real servers wait for more than half of their time: four workers fill two cores.
SLOW := thorough or mutants or interop or fuzz or kubernetes or containers or packaging or observability or cluster
PYTEST := $(PYTHON) -m pytest --dist loadfile --no-loadscope-reorder

test-fast: $(READY) ## unit tests and architecture, less than a minute
	@$(PYTEST) -n 2 tests/unit tests/architecture $(ARGS)

test: $(READY) ## what proves the promises, on a real PostgreSQL and a real RabbitMQ, five to nine minutes
	@$(PYTEST) -n 4 -m "not ($(SLOW))" $(ARGS)

test-all: $(READY) ## all of it: the crash matrix in full, mutants, Java, containers, Kubernetes, a cluster, fuzzing (ARGS="--crash-runs 50")
	@$(PYTEST) -n 4 -rs --crash-runs 10 --cases 2000 --histories 2000 $(ARGS)

coverage: $(READY) ## the lines that `make test-fast` runs, without those of child processes
	@$(PYTEST) -n 2 tests/unit tests/architecture --cov contracts --cov runtime --cov service --cov bridge --cov console $(ARGS)

interop: $(READY) ## the bridge with a real Eureka, a Spring Cloud client, others' HTTP clients (needs Maven, Java 17)
	@$(PYTHON) -m pytest -rs --durations 5 tests/interop

fuzz: $(READY) ## 10,000 bad and odd requests and messages (ARGS="--seed 2 --cases 20000")
	@$(PYTEST) -n 2 tests/fuzz --cases 10000 $(ARGS)

kubernetes-check: $(READY) ## the chart against a real Kubernetes API server (needs Go 1.26; builds it once)
	@$(PYTHON) -m pytest -rs --durations 10 tests/kubernetes $(ARGS)

check: $(READY) ## formatting, lint, types, import floors, the documents of contracts/, the alerts of the chart
	@$(PYTHON) -m ruff format --check --quiet .
	@$(PYTHON) -m ruff check --quiet .
	@$(PYTHON) -m mypy
	@$(PYTHON) -m tools.lint
	@.venv/bin/lint-imports
	@$(PYTHON) -m tools.documents --check
	@cmp $(ALERTS) || { echo "The chart has other alerts: run \`make documents\`." >&2; exit 1; }

fix: $(READY) ## format, and mend what the linter can
	@$(PYTHON) -m ruff format .
	@$(PYTHON) -m ruff check --fix .

# A chart holds all that it deploys, and not every way in which a checkout travels keeps symbolic links.
ALERTS := deploy/observability/alerts.yml deploy/helm/payments/files/alerts.yaml

documents: $(READY) ## write contracts/openapi.json and asyncapi.yaml from the code, and the chart's copy of the alerts
	@$(PYTHON) -m tools.documents
	@cp $(ALERTS)

# The version and the commit are known from outside only: an image has no git.
IMAGES := service bridge console tools
TAG := local
BUILT := --build-arg GIT_COMMIT=$$(git rev-parse HEAD 2>/dev/null) \
	--build-arg VERSION=$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

images: ## the images of service, bridge, console and tools, with Docker (TAG=1.0.0); see docker-compose.yml
	@docker info > /dev/null 2>&1 || { echo "No Docker engine answers here: images need one." >&2; exit 1; }
	@for each in $(IMAGES); do \
		DOCKER_BUILDKIT=1 docker build --quiet --target $$each --tag bookticket/payment-$$each:$(TAG) $(BUILT) . > /dev/null || exit 1; \
		docker image inspect --format "bookticket/payment-$$each:$(TAG)  {{.Size}} bytes" bookticket/payment-$$each:$(TAG) || exit 1; \
	done

bench: $(READY) ## measure what is promised, about 15 minutes, as JSON and a page of plots (ARGS="--only p1,p7", ARGS="--against COMMIT")
	@$(PYTHON) -m tools.bench $(ARGS)

chaos: $(READY) ## break everything while people buy, then look whether the money is right (ARGS="--seed 1 --minutes 2", ARGS="--losses", ARGS="--cluster")
	@$(PYTHON) -m tools.chaos $(ARGS)

clean: ## remove the stack's data, .venv and every cache
	@test ! -x $(PYTHON) || $(PYTHON) -m tools.devstack clean
	@rm -rf .venv .bench .chaos .stack .coverage .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist tests/interop/target
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml uv.lock
	@tools/devstack/install.sh
