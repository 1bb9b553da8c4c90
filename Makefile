# make demo: train the built-in model and report on it. make test: every check that takes seconds.

VENV := .venv
VERIFIERS := .venv-verifiers
VERL := .venv-verl
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# The first Python on the PATH that runs and is new enough; `make demo PYTHON=/path/to/python` takes another.
CANDIDATES := python3.11 python3.12 python3.13 python3.14 python3 python
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for each in $(CANDIDATES); do $$each -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$each && break; done)

# `make venv TORCH_INDEX=https://download.pytorch.org/whl/cpu` takes torch, and torch alone, from there.
TORCH_INDEX ?=

# One torch thread a process, idle threads asleep, nothing from the network.
QUIET := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
PYTEST := $(QUIET) $(BIN)/python -m pytest -n 2

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-all test-integrations test-verifiers test-verl system lint tiny

help:
	@echo 'make demo      train the built-in model with multiturn-aware rewards, and report'
	@echo 'make test      lint, types, order of modules, and every test that takes seconds'
	@echo 'make test-all  the tests that take minutes, too'
	@echo 'make test-integrations  verl and verifiers, each in an environment of its own'
	@echo 'make lint      ruff, pyright and import-linter alone'
	@echo 'make tiny      make the built-in model again, from scratch'
	@echo 'make venv      .venv with everything Python; the others call it'
	@echo 'make system    what the tests need from the system; `make test` calls it'

venv: $(INSTALLED)

$(BIN)/python:
	@'$(PYTHON)' -c '$(NEW_ENOUGH)' 2>/dev/null || { \
	    echo 'Duologue needs Python 3.11 or newer, and found none$(if $(PYTHON), in "$(PYTHON)").'; \
	    echo 'Install it, or say where it is: make venv PYTHON=/path/to/python3.11'; exit 1; }
	'$(PYTHON)' -m venv $(VENV)

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
ifneq ($(TORCH_INDEX),)
	$(BIN)/python -m pip install -c constraints.txt --index-url '$(TORCH_INDEX)' torch
endif
	$(BIN)/python -m pip install -c constraints.txt -e '.[train,ray,tasks,dev]'
	@touch $@

demo: venv
	$(BIN)/duologue train recipes/quickstart.toml
	@echo
	@echo 'The report:      runs/quickstart/report.html'
	@echo 'Be the user:     $(BIN)/duologue chat runs/quickstart --task groceries'

tiny: venv
	$(BIN)/duologue train recipes/tiny.toml
	rm -rf src/duologue/models/tiny && cp -R runs/tiny/models/trained src/duologue/models/tiny

# The tests of the report open it in a browser, those of the sandbox run programs in boxes of bubblewrap.
BROWSERS := chromium chromium-browser google-chrome
found = $(shell for each in $1; do command -v $$each; done; true)
MISSING := $(strip $(if $(call found,$(BROWSERS)),,chromium) $(if $(call found,bwrap),,bubblewrap))
APT := apt-get update && apt-get install -y --no-install-recommends $(MISSING)

system:
ifneq ($(MISSING),)
	@if ! command -v apt-get >/dev/null; then \
	    echo 'The tests need $(MISSING): install it, then call make again.'; exit 1; \
	elif [ "$$(id -u)" = 0 ]; then $(APT); \
	elif sudo -n true 2>/dev/null; then sudo sh -c '$(APT)'; \
	else echo "The tests need $(MISSING). Run: sudo sh -c '$(APT)'"; exit 1; fi
endif

lint: venv
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo

test: system lint
	$(PYTEST) -m 'not slow'

test-all: system lint
	$(PYTEST)

# The tests of libraries that pin other versions of what we use; tests/conftest.py needs what they do not have.
test-integrations: test-verifiers test-verl

VERIFIERS_TESTS := tests/integrations/verifiers_env

$(VERIFIERS)/.installed: $(VERIFIERS_TESTS)/requirements.txt examples/verifiers/pyproject.toml pyproject.toml
	'$(PYTHON)' -m venv $(VERIFIERS)
	$(VERIFIERS)/bin/python -m pip install -r $(VERIFIERS_TESTS)/requirements.txt -e . -e examples/verifiers
	@touch $@

test-verifiers: $(VERIFIERS)/.installed
	$(QUIET) $(VERIFIERS)/bin/python -m pytest --confcutdir=tests/integrations $(VERIFIERS_TESTS)

VERL_TESTS := tests/integrations/verl_env

$(VERL)/.installed: $(VERL_TESTS)/requirements.txt constraints.txt pyproject.toml
	'$(PYTHON)' -m venv $(VERL)
	$(VERL)/bin/python -m pip install -c constraints.txt $(if $(TORCH_INDEX),--index-url '$(TORCH_INDEX)') torch
	$(VERL)/bin/python -m pip install --no-deps -r $(VERL_TESTS)/requirements.txt -e .
	@touch $@

test-verl: $(VERL)/.installed
	$(QUIET) PYTHONPATH=tests $(VERL)/bin/python -m pytest --confcutdir=tests/integrations $(VERL_TESTS)
