# What people type. `make` alone explains itself.
.DEFAULT_GOAL := help
SHELL := /bin/bash

# local: a real Kubernetes that this repository brings; kind: Docker and kind are yours; current: your kubeconfig's context.
CLUSTER ?= local
export CLUSTER

CACHE := $(or $(AIOPS_QUALITY_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/aiops-quality)
UV_VERSION := 0.13.9
UV := $(CACHE)/uv-$(UV_VERSION)/bin/uv
RUN := $(UV) run --locked --no-sync
# The Python that is there is used; none is downloaded.
export UV_PYTHON_PREFERENCE := only-system
# Tests and benchmarks start many processes: what they import is compiled once.
export UV_COMPILE_BYTECODE := 1

.PHONY: help
help: ## Show this help
	@echo "AIOps Quality: a model served on Kubernetes that tells whether it still sees the data it was trained on."
	@echo
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  CLUSTER=local (default) | kind | current chooses the Kubernetes; AIOPS_QUALITY_CACHE moves the cache ($(CACHE))."

$(UV):
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or later is needed; python3 is $$(python3 --version 2>&1)" >&2; exit 1; }
	@python3 -c 'import ensurepip' 2>/dev/null || { echo "· installing Debian package python3-venv"; apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null; }
	@echo "· installing uv $(UV_VERSION) in $(CACHE)"
	@mkdir -p $(CACHE) && rm -rf $(CACHE)/uv-$(UV_VERSION).$$PPID && python3 -m venv $(CACHE)/uv-$(UV_VERSION).$$PPID \
	  && $(CACHE)/uv-$(UV_VERSION).$$PPID/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION) \
	  && { mv -T $(CACHE)/uv-$(UV_VERSION).$$PPID $(CACHE)/uv-$(UV_VERSION) 2>/dev/null || rm -rf $(CACHE)/uv-$(UV_VERSION).$$PPID; } # another clone may have been first

.PHONY: env
env: $(UV) ## Install the Python environment (.venv) from uv.lock
	@$(UV) sync --locked --quiet

.PHONY: train
train: env ## Train the iris model into model_artifacts/
	@$(RUN) python training/train.py

.PHONY: demo
demo: env ## Watch the main job on a real Kubernetes: served, drift seen, drift cleared
	@$(RUN) python demo/demo.py

.PHONY: demo-down
demo-down: env ## Remove what the demo made, the local cluster too
	@$(RUN) python demo/demo.py --down

.PHONY: demo-gitops
demo-gitops: env ## Watch the whole circle with a real Argo CD: drift, a Job trains again, a commit, a rollout, drift is over
	@$(RUN) python demo/gitops.py

.PHONY: demo-gitops-down
demo-gitops-down: env ## Remove what it made
	@$(RUN) python demo/gitops.py --down

.PHONY: cluster-up
cluster-up: env ## Start a Kubernetes on this machine (CLUSTER=kind|current uses yours)
	@$(RUN) python -m aiops_localcluster up --cluster $(CLUSTER)

.PHONY: cluster-down
cluster-down: env ## Stop it and leave nothing behind
	@$(RUN) python -m aiops_localcluster down --cluster $(CLUSTER)

.PHONY: cluster-status
cluster-status: env ## Say what runs, and how to reach it
	@$(RUN) python -m aiops_localcluster status --cluster $(CLUSTER)

.PHONY: bench-drift
bench-drift: env ## Measure run length without drift and delay of detection, beside others (a quarter of an hour)
	@[ -x $(CACHE)/bench-drift/bin/python ] || { echo "· installing the peers in $(CACHE)/bench-drift"; $(UV) venv --quiet $(CACHE)/bench-drift; }
	@$(UV) pip install --quiet --python $(CACHE)/bench-drift/bin/python --requirement bench/drift/requirements.txt
	@$(RUN) python bench/bench_drift.py --peers $(CACHE)/bench-drift/bin/python $(BENCH_ARGS)

.PHONY: bench-serving
bench-serving: env ## Measure requests a second, latency, memory and start, beside other servers (a quarter of an hour)
	@command -v wrk >/dev/null || { echo "· installing Debian package wrk"; apt-get update -qq && apt-get install -y -qq --no-install-recommends wrk >/dev/null; }
	@for peer in kserve mlserver litserve bentoml; do \
	  [ -x $(CACHE)/bench-serving/$$peer/bin/python ] || { echo "· installing $$peer in $(CACHE)/bench-serving"; $(UV) venv --quiet $(CACHE)/bench-serving/$$peer; }; \
	  $(UV) pip install --quiet --python $(CACHE)/bench-serving/$$peer/bin/python --requirement bench/serving/$$peer/requirements.txt || exit 1; done
	@BENCH_ENVIRONMENTS=$(CACHE)/bench-serving $(RUN) python bench/bench_serving.py $(BENCH_ARGS)

.PHONY: bench-operator
bench-operator: env ## Measure 500 services, beside KServe's controller (ten minutes; the first time as long again to build it)
	@mkdir -p $(CACHE)/bench-operator && cp bench/operator/go.mod $(CACHE)/bench-operator/
	@cd $(CACHE)/bench-operator && { [ -x manager ] || echo "· building KServe's controller in $(CACHE)/bench-operator"; } \
	  && GOFLAGS=-mod=mod go build -o manager github.com/kserve/kserve/cmd/manager
	@KSERVE_MANAGER=$(CACHE)/bench-operator/manager \
	  KSERVE_SOURCE=$$(cd $(CACHE)/bench-operator && GOFLAGS=-mod=mod go list -m -f '{{.Dir}}' github.com/kserve/kserve) \
	  $(RUN) python bench/bench_operator.py $(BENCH_ARGS)

.PHONY: images
images: env ## Build the images from the Dockerfiles
	@$(RUN) python -m aiops_localcluster build-images

.PHONY: lint
lint: env ## ruff, mypy --strict, import-linter
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy
	@$(RUN) lint-imports --no-logo

.PHONY: format
format: env ## Let ruff mend what it can
	@$(RUN) ruff check --fix . ; $(RUN) ruff format .

.PHONY: renders
renders: env ## Write anew what tests hold the chart's output against; git shows what has changed
	@WRITE_RENDERS=1 $(RUN) pytest --quiet tests/integration/chart/test_chart_golden.py

.PHONY: test-unit
test-unit: env ## Tests without I/O
	@$(RUN) pytest tests/unit

.PHONY: test-integration
test-integration: env ## Tests on a real API server
	@$(RUN) pytest tests/integration

.PHONY: test-e2e
test-e2e: env ## Tests on real pods of our images
	@$(RUN) pytest tests/e2e

.PHONY: test-faults
test-faults: env ## Tests of what goes wrong: slow clients, full disks, hanging webhooks, killed children
	@$(RUN) pytest tests/faults

.PHONY: test-scale
test-scale: env ## Whether the operator grows while many services change (SOAK_SECONDS=3600 for an hour of it)
	@$(RUN) pytest tests/scale

.PHONY: test
test: lint ## Everything: lint, unit, integration, faults, scale and e2e tests
	@$(RUN) pytest tests/unit tests/integration tests/faults tests/scale tests/e2e

.PHONY: clean
clean: ## Remove what builds and tests left in the tree (not the cache)
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache model_artifacts helm/model_artifacts
