# The whole developer interface. Needs Python 3.11 or 3.12 and make; everything else is fetched, checked against locked hashes.

PYTHONS := python3 python3.12 python3.11
BIN := .venv/bin
UV := $(BIN)/uv --native-tls --quiet
COMPILE := $(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock" $(UPGRADE)
# What `make demo` adds to `klinestream up`, for example: make demo ARGS="--exchange binance --fresh"
ARGS ?= --symbols 50

# Tests wait more than they compute. A file's tests stay together: each process has a broker and a cluster of its own. The files
# keep their order, in which the longest come early.
IN_PARALLEL := --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: help install demo test check bench soak chaos docs release dashboards lock clean
.DELETE_ON_ERROR:

help: ## Show this.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

install: .venv/run ## Only set up: environment, klinestream, jars.

demo: .venv/run ## Run the whole pipeline here, with a chart at http://localhost:8084/chart.
	@exec $(BIN)/klinestream up $(ARGS)

test: .venv/dev ## Run every test, on a real broker, a real Flink cluster and a real browser.
	@scripts/browser.sh
	@scripts/prometheus.sh
	$(BIN)/python -m pytest $(or $(TESTS),$(IN_PARALLEL))

check: .venv/dev ## Lint, types, import rules; licences and known vulnerabilities of what is locked.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --no-incremental
	$(BIN)/lint-imports
	$(BIN)/python -m scripts.release.licences
	scripts/audit.sh

bench: .venv/dev ## Measure throughput, latency, memory and start-up; results go to bench/results.
	$(BIN)/python -m bench $(ARGS_BENCH)

soak: .venv/ml ## Let the whole pipeline run for long, with faults, and check what came out.
	@scripts/browser.sh
	$(BIN)/python -m pytest -m soak
	HYPOTHESIS_NEW=1 $(BIN)/python -m pytest tests/property
	$(BIN)/python -m bench.soak $(ARGS_SOAK)

chaos: .venv/dev ## Inject every fault and kill parts for ten minutes, prove every number, and draw data age over time.
	@scripts/browser.sh
	$(BIN)/python -m bench.chaos $(ARGS_CHAOS)

docs: .venv/dev ## Build the docs as a site, into site/; every link and anchor is checked.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

release: .venv/dev ## Build, check and try a release, into dist/; ARGS_RELEASE=--dirty takes what isn't committed.
	$(BIN)/python -m scripts.release $(ARGS_RELEASE)

dashboards: .venv/dev ## Write Grafana's dashboards anew, from deploy/dashboards.
	$(BIN)/python -m deploy.dashboards

lock: .venv/dev ## Make the lock files anew; UPGRADE=--upgrade takes the newest versions.
	$(COMPILE) requirements-bootstrap.in -o requirements-bootstrap.lock
	$(COMPILE) -c requirements-bootstrap.lock requirements-bootstrap.in pyproject.toml --extra postgres -o requirements.lock
	$(COMPILE) -c requirements.lock requirements-bootstrap.in pyproject.toml --extra postgres --extra fast --group dev -o requirements-dev.lock
	$(COMPILE) -c requirements-dev.lock requirements-bootstrap.in pyproject.toml --extra postgres --extra fast --extra ml --group dev -o requirements-ml.lock
	$(COMPILE) -c requirements-ml.lock pyproject.toml --extra ml -o requirements-image-ml.lock
	$(BIN)/jgo --resolver python --timeout 60 --quiet lock

clean: ## Remove the environment, the local stack's state and all caches.
	rm -rf .venv .klinestream .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist site .tools
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/uv: requirements-bootstrap.lock
	@scripts/bootstrap.sh $(PYTHONS)
	@touch $@

.venv/run: .venv/bin/uv requirements.lock pyproject.toml jgo.lock.toml
	@rm -f .venv/dev .venv/ml
	@scripts/install.sh requirements.lock
	@touch $@

.venv/dev: .venv/bin/uv requirements-dev.lock pyproject.toml jgo.lock.toml
	@rm -f .venv/ml
	@scripts/install.sh requirements-dev.lock
	@touch .venv/run $@

# All of .venv/dev, and what models are trained with.
.venv/ml: .venv/dev requirements-ml.lock
	@scripts/install.sh requirements-ml.lock
	@touch .venv/run .venv/dev $@
