# Gramophone: `make demo` paints, `make test` checks. `make help` lists the rest.
# On a fresh clone each target first makes .venv, which takes some minutes (it installs torch); afterwards it does not.

PYTHONS := python3.11 python3.12 python3.13 python3 python
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
UNFINISHED := $(VENV)/.unfinished
DEMO := demo
BUF := npx --yes @bufbuild/buf@1
BASELINE := proto/gramophone.binpb

# A .venv whose interpreter is gone, or that was moved here from elsewhere, is as bad as an unfinished one.
$(shell test ! -e $(READY) || { $(PY) -c "" && grep -qxF "$(CURDIR)" $(READY); } 2>/dev/null || mv $(READY) $(UNFINISHED))

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast slow faults fuzz lint baseline fmt bench proto sync reference

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## Make .venv and install everything (again when pyproject.toml changed)

# A .venv left unfinished by an interrupted setup is begun anew; one that somebody else made, and that works, is used.
$(READY): pyproject.toml
	@if test -e $(UNFINISHED) || ! $(PY) -m pip --version >/dev/null 2>&1; then \
	  for python in $(PYTHON) $(PYTHONS); do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then found=$$python; break; fi; \
	  done; \
	  test -n "$$found" || { echo "Gramophone needs Python 3.11 or newer, and none of these is: $(PYTHON) $(PYTHONS)." \
	    "Install one, or name it: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	  echo "Making $(VENV) with $$("$$found" --version)"; \
	  rm -rf $(VENV) && mkdir $(VENV) && touch $(UNFINISHED) && "$$found" -m venv $(VENV) || { \
	    echo "$$found made no virtual environment; its venv module may be a package of its own (python3-venv)" >&2; exit 1; }; \
	fi
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@rm -f $(UNFINISHED) && echo "$(CURDIR)" > $@

demo: setup ## Draw pictures, start a server, paint three pictures into demo/
	$(PY) examples/demo.py $(DEMO)

test: setup ## Run the tests; make test ARGS="-k gram" runs some
	$(PY) -m pytest --durations=10 $(ARGS)

test-fast: setup ## Run the tests that start no server: under three minutes
	$(PY) -m pytest -m "not slow and not service" $(ARGS)

slow: setup ## Run the tests that take long, and that no other is like: faults, the seed's experiment
	$(PY) -m pytest --durations=10 -m slow $(ARGS)

faults: setup ## Run the fault suite in its long form; make faults ARGS="--soak 30" soaks for 30 minutes
	$(PY) -m pytest -s tests/faults -m "" --long $(ARGS)

fuzz: setup ## Fuzz what reads the bytes of strangers; make fuzz ARGS="--seconds 600" does it for longer
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[fuzz]'
	$(PY) -m tests.fuzz $(ARGS)

lint: setup ## Check style, types and the contract
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	MYPYPATH=sdk:server:export:. $(PY) -m mypy --explicit-package-bases --exclude '(fixtures/make|peers/)' tests benchmarks
	$(PY) -m mypy --strict examples/pictures.py examples/demo.py
	$(VENV)/bin/lint-imports --no-logo
	@if command -v npx >/dev/null; then set -ex; $(BUF) lint proto; $(BUF) format --diff --exit-code proto; \
	  $(if $(wildcard $(BASELINE)),$(BUF) breaking proto --against $(BASELINE);) \
	  npx --yes pyright@1 --pythonpath $(PY); \
	else echo "buf and pyright are skipped: there is no npx (it comes with Node.js)"; fi

baseline: ## Write the contract as it is to the file that make lint compares it with, for incompatible changes
	$(BUF) build proto --exclude-source-info -o $(BASELINE)

fmt: setup ## Format the code
	$(PY) -m ruff check --fix --select I
	$(PY) -m ruff format

bench: setup ## Measure the numbers the design promises; make bench ARGS="memory" measures some
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(PY) -m benchmarks $(ARGS)

proto: setup ## Generate the Python stubs from proto/
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PY) proto/generate.py

sync: setup ## Make the synchronous client of the SDK from the asynchronous one
	$(PY) sdk/make_sync.py

reference: setup ## Generate docs/reference/settings.md from the settings
	$(PY) -m gramophone_server.settings docs/reference/settings.md
