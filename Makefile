SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
# Newer than the lock and pyproject.toml when the environment holds what they ask for.
STAMP := $(VENV)/.installed
# The first interpreter that really runs and is new enough (`make setup PYTHON=…` chooses another).
ifndef PYTHON
PYTHON := $(shell for name in python3.11 python3.12 python3.13 python3; do \
  "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$name"; break; }; done)
endif

# Nothing that the lock does not name and whose bytes it does not know gets in.
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps
LOCKED := --require-hashes --only-binary :all:

.PHONY: help setup demo test crash crash-safeguards batch memory bench bench-scale soak alerts lint certs lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv and install the locked dependencies and the package

demo: setup ## run the gateway with a simulated e-Box and print house
	$(BIN)/gateway demo

test: setup ## run every test, in parallel
	$(BIN)/python -m pytest -n auto

crash: setup ## kill the gateway at every point of its work, with both ledgers, and see that each letter arrives once (some 40 minutes each)
	$(BIN)/python -m tests.crash $(CRASH_OPTIONS)

crash-safeguards: setup ## take each safeguard away, with both ledgers, and see that the crash harness notices
	$(BIN)/python -m tests.crash --without $(CRASH_OPTIONS)

batch: setup ## hand over batches of 500 messages, and cut and repeat them
	BATCH_SIZE=500 $(BIN)/python -m pytest tests/intake/test_batches.py

memory: setup ## measure by how much memory grows while a 30 MB document is accepted
	$(BIN)/python -m load memory

bench: setup ## measure what the gateway does against its limits, as ratios (BENCH_OPTIONS=--quick: in a minute)
	$(BIN)/python -m load bench $(BENCH_OPTIONS)

bench-scale: setup ## compare a ledger of ten years with an empty one (BENCH_OPTIONS="--messages N --server postgresql")
	$(BIN)/python -m load scale $(BENCH_OPTIONS)

soak: setup ## hand over and deliver 50,000 messages, and verify that all is well afterwards
	$(BIN)/python -m load soak $(SOAK_OPTIONS)

alerts: ## check the alert rules and run their tests (needs promtool)
	cd deploy/prometheus && promtool check rules alerts.yml && promtool test rules alerts_test.yml

lint: setup ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict

certs: setup ## make throwaway certificates for development in state/certs
	$(BIN)/python certs-dev/make.py state/certs

# One resolution for run time, tests and the build back end, valid for every CPython and platform we support.
# Pins that still fit stay as they are; `make lock LOCK_OPTIONS=--upgrade` moves them all.
lock: ## resolve pyproject.toml again into requirements.lock, with hashes
	@uv=$$(command -v uv || echo $(BIN)/uv); \
	if [ ! -x "$$uv" ]; then $(MAKE) --no-print-directory setup && $(BIN)/python -m pip install --quiet uv; fi; \
	"$(PYTHON)" -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	| "$$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	    --no-emit-index-url --extra dev $(LOCK_OPTIONS) --output-file requirements.lock pyproject.toml -

clean: ## remove the environment, caches and build results (state/ stays)
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): requirements.lock pyproject.toml
	@[ -n "$(PYTHON)" ] || { echo 'make: Python 3.11 or newer is needed: apt-get install python3' >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	|| { echo 'make: $(PYTHON) is not Python 3.11 or newer' >&2; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null \
	|| { echo 'make: the venv module of $(PYTHON) is missing: apt-get install python3-venv' >&2; exit 1; }
	$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
	@# The build back end goes in first: one development dependency has no wheel, and our own package is built too.
	awk '/^[^ ]/ { wanted = /^setuptools==/ } wanted' requirements.lock | $(INSTALL) $(LOCKED) -r /dev/stdin
	$(INSTALL) $(LOCKED) --no-binary forbiddenfruit --use-pep517 --no-build-isolation -r requirements.lock
	$(INSTALL) --no-build-isolation --editable .
	@touch $@
