PYTHON ?= python3
UV_VERSION := 0.13.9

# uv from PATH, or one of our own in .tools.
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
RUN := .venv/bin/

# What builds an image and puts it where the cluster finds it: PROGRAM IMAGE CONTEXT [-f DOCKERFILE] [--build-arg K=V]
BUILD ?= k8s/build
VERSION := 0.1.0

# Tests mostly wait, so there are more processes than cores; each has servers of its own. They take tests one by one, in
# their order, so that none is left with the long ones.
TEST_PROCESSES ?= 4
PYTEST := $(RUN)python -m pytest --numprocesses $(TEST_PROCESSES) --dist load --maxschedchunk 1

.DEFAULT_GOAL := help
.PHONY: help setup run test lint format docs bench celery-suite soak images chart e2e lock clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready ## Make .venv from uv.lock; what run and test call first

run: .venv/.ready ## Start the whole platform on this machine; Ctrl-C stops it
	@exec $(RUN)celeriac up

test: .venv/.ready ## Run all tests that this machine can run, and say what was left out and why
	$(PYTEST)
	@echo "left out: tests/e2e, which needs a Kubernetes cluster; see k8s/README.md and make e2e"

lint: .venv/.ready ## Check style, types and formatting
	$(RUN)ruff check .
	$(RUN)ruff format --check .
	$(RUN)mypy
	$(RUN)lint-imports

format: .venv/.ready ## Put code into the one form
	$(RUN)ruff check --fix-only .
	$(RUN)ruff format .

docs: .venv/.ready ## Write the reference pages from the code
	$(RUN)python -m tools.reference
	$(RUN)python -m tools.chart_readme

bench: .venv/.ready ## Run the benchmarks; each prints a table beside its peers
	$(RUN)python -m benchmarks.data_sync
	$(RUN)python -m benchmarks.broker
	$(RUN)python -m benchmarks.queues
	$(RUN)python -m benchmarks.persistence
	$(RUN)python -m benchmarks.submit
	$(RUN)python -m benchmarks.execution
	$(RUN)python -m benchmarks.records

celery-suite: .venv/.ready ## Run Celery's own integration suite on stock Redis and on ours, 50 minutes
	$(RUN)python -m tests.celery_suite

soak: .venv/.ready ## Run the long trials, two hours: kills, pauses, outages; the kills beside Celery's rivals
	$(UV) sync --quiet --frozen --group rivals
	$(RUN)python -m tests.soak chaos --write
	$(RUN)python -m tests.soak recovery --write
	$(RUN)python -m tests.soak long --write
	$(RUN)python -m tests.soak pause --write
	$(RUN)python -m tests.soak liveness --write
	$(RUN)python -m tests.soak contract --write
	$(RUN)python -m benchmarks.sse --write
	$(MAKE) celery-suite
	$(RUN)python -m benchmarks.kills --write

images: ## Build the images of API, worker and Beat with BUILD, by default Docker
	for service in api worker beat; do \
	  $(BUILD) celeriac/$$service:$(VERSION) . -f services/$$service/Dockerfile || exit; \
	done

chart: .venv/.ready ## Test the chart: renders, schemas, refusals
	$(PYTEST) tests/chart

e2e: .venv/.ready images ## Run the end-to-end tests in the cluster that KUBECONFIG names
	CELERIAC_E2E_BUILD=$(abspath $(BUILD)) $(RUN)python -m pytest tests/e2e --timeout=1200

lock: $(UV) ## Bring uv.lock up to date
	$(UV) lock

clean: ## Remove what setup made; data under .celeriac stays
	rm -rf .venv .tools

.venv/.ready: uv.lock pyproject.toml $(wildcard libs/*/pyproject.toml services/*/pyproject.toml workloads/pyproject.toml) | $(UV)
	$(UV) sync --quiet --frozen --compile-bytecode --python $(PYTHON)
	@touch $@

.tools/bin/uv:
	$(PYTHON) -m venv .tools
	.tools/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
