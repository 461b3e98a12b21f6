# dcsp: `make demo` and `make test` set everything up by themselves on a fresh machine.

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
STORE ?= ./demo-store
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# A cluster of this machine's tests and demo never asks for, or leaves, a shared token.
export RAY_USAGE_STATS_ENABLED ?= 0

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow chaos lint type bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## run the whole chain on generated scenes and print where the report is (STORE=DIR)
	$(BIN)/dcsp demo $(STORE)

test: $(READY) ## run the tests
	$(BIN)/python -m pytest -m "not slow" -n 2

test-slow: $(READY) ## run the tests that take minutes to hours as well
	$(BIN)/python -m pytest

chaos: $(READY) ## kill processes and nodes in every stage and count what is left: an hour
	$(BIN)/python -m tests.chaos

lint: $(READY) ## check style
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

type: $(READY) ## check types
	$(BIN)/mypy

bench: $(READY) ## measure speed side by side with peers
	$(BIN)/python -m tests.bench

clean: ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache

# The versions of constraints.txt are those the project is tested with; CONSTRAINTS=/dev/null
# installs whatever pyproject.toml allows, for instance beside another build of torch.
$(READY): pyproject.toml setup.py $(wildcard $(CONSTRAINTS))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dcsp needs Python 3.11 or newer, $(PYTHON) is older: make PYTHON=python3.12 …"; exit 1; }
	@command -v c++ >/dev/null || command -v g++ >/dev/null || \
	  { echo "dcsp needs a C++ compiler to build pydensecrf2: install g++ (apt-get install g++)."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -c $(CONSTRAINTS) -e '.[test,dev]'
	@touch $(READY)
