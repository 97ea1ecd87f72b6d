# Gramophone: `make demo` paints pictures, `make test` runs the tests, `make help` lists all targets.
# On a fresh clone, the first target that needs .venv creates it, which takes some minutes (it installs torch).

PYTHONS := python3.11 python3.12 python3.13 python3 python
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
UNFINISHED := $(VENV)/.unfinished
DEMO := demo
BUF := npx --yes @bufbuild/buf@1
BASELINE := proto/gramophone.binpb
# The built web page, which is part of the Python package.
PAGE := server/gramophone_server/http/page
NODE_MODULES := web/node_modules/.package-lock.json
MESSAGES := $(wildcard proto/gramophone/v1/*.proto)
ES = $(PY) -m grpc_tools.protoc -Iproto --plugin=protoc-gen-es=web/node_modules/.bin/protoc-gen-es --es_opt=target=ts,import_extension=js

# Treat a .venv as unfinished if its interpreter does not run, or if the folder was moved or copied.
$(shell test ! -e $(READY) || { $(PY) -c "" && grep -qxF "$(CURDIR)" $(READY); } 2>/dev/null || mv $(READY) $(UNFINISHED))

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast slow faults fuzz cluster web web-test web-fresh lint baseline fmt bench helm gpu-check proto sync reference

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## Create .venv and install everything (again after a change of pyproject.toml)

# Recreate a .venv that an interrupted setup left unfinished; use an existing .venv that works.
$(READY): pyproject.toml
	@if test -e $(UNFINISHED) || ! $(PY) -m pip --version >/dev/null 2>&1; then \
	  for python in $(PYTHON) $(PYTHONS); do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then found=$$python; break; fi; \
	  done; \
	  test -n "$$found" || { echo "Gramophone needs Python 3.11 or newer, but found none of: $(PYTHON) $(PYTHONS)." \
	    "Install it, or give its path: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	  echo "Creating $(VENV) with $$("$$found" --version)"; \
	  rm -rf $(VENV) && mkdir $(VENV) && touch $(UNFINISHED) && "$$found" -m venv $(VENV) || { \
	    echo "$$found could not create a virtual environment; its venv module may be a separate package (python3-venv)" >&2; \
	    exit 1; }; \
	fi
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@rm -f $(UNFINISHED) && echo "$(CURDIR)" > $@

demo: setup ## Draw three pictures, start a server, and paint three more into demo/
	$(PY) examples/demo.py $(DEMO)

test: setup ## Run the tests; make test ARGS="-k gram" runs some
	$(PY) -m pytest --numprocesses=2 --dist=loadfile --durations=10 $(ARGS)

test-fast: setup ## Run the tests that start no server: under three minutes
	$(PY) -m pytest -m "not slow and not service" $(ARGS)

slow: setup ## Run the slow tests: faults, the original experiment
	@# pytest ends with 5 if it finds no test: ARGS may choose tests of one kind only.
	$(PY) -m pytest --numprocesses=2 --dist=loadfile --durations=10 -m "slow and not alone" $(ARGS) || test $$? -eq 5
	$(PY) -m pytest --durations=10 -m "slow and alone" $(ARGS) || test $$? -eq 5

faults: setup ## Run the fault tests in their long form; make faults ARGS="--soak 30" runs the soak test for 30 minutes
	$(PY) -m pytest -s tests/faults -m "" --long $(ARGS)

fuzz: setup ## Fuzz the code that reads untrusted bytes; make fuzz ARGS="--seconds 600" runs longer
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[fuzz]'
	$(PY) -m tests.fuzz $(ARGS)

web: setup $(NODE_MODULES) ## Build the web page and the TypeScript client (needs Node.js)
	$(ES) --es_out=web/client/src/gen $(MESSAGES)
	npm run build --prefix web

$(NODE_MODULES): web/package-lock.json web/package.json web/client/package.json web/page/package.json
	npm ci --prefix web
	@touch $@

web-test: setup ## Check and test web/, and whether what is built from it is up to date (needs Node.js)
	@if node -e 'const [a, b] = process.versions.node.split("."); process.exit(+(100 * a + +b < 2019))' 2>/dev/null && npm -v >/dev/null; then set -ex; $(MAKE) $(NODE_MODULES); $(MAKE) web-fresh; npm test --prefix web; \
	else echo "skipping web/: Node.js 20.19 or newer with npm is not installed"; fi

web-fresh:
	@new=$$(mktemp -d) && mkdir $$new/gen && $(ES) --es_out=$$new/gen $(MESSAGES) && \
	  npm run build --prefix web/page -- --outDir $$new/page --emptyOutDir --logLevel error && \
	  { diff -r $$new/gen web/client/src/gen && diff -r $$new/page $(PAGE) || \
	    { echo "run make web and commit what it changes" >&2; false; }; }; \
	  status=$$?; rm -r $$new; exit $$status

lint: setup ## Check style, types and the contract
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	MYPYPATH=sdk:server:export:. $(PY) -m mypy --explicit-package-bases --exclude '(fixtures/make|peers/|fake_cuda/selftest)' tests benchmarks
	$(PY) -m mypy --strict examples/pictures.py examples/demo.py examples/cluster.py examples/programs/fastapi_relay.py
	$(VENV)/bin/lint-imports --no-logo
	@if command -v npx >/dev/null; then set -ex; $(BUF) lint proto; $(BUF) format --diff --exit-code proto; \
	  $(BUF) breaking proto --against $(BASELINE); \
	  npx --yes pyright@1 --pythonpath $(PY); \
	else echo "skipping buf and pyright: npx is not installed (it is part of Node.js)"; fi

baseline: ## Write the current contract to the file against which make lint checks for incompatible changes
	$(BUF) build proto --exclude-source-info -o $(BASELINE)

fmt: setup ## Format the code
	$(PY) -m ruff check --fix --select I
	$(PY) -m ruff format

cluster: setup ## Start a Ray cluster on this machine, paint four pictures on its nodes into cluster/, and stop it
	$(PY) examples/cluster.py cluster

bench: setup ## Run the benchmarks; make bench ARGS="memory" runs some
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(PY) -m benchmarks $(ARGS)

helm: setup ## Render and check the Helm chart
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[helm]'
	$(PY) -m pytest tests/deploy/test_helm.py $(ARGS)

gpu-check: setup ## Check and time everything on a GPU; the results are in gpu-check/
	$(PY) -m benchmarks.gpu --out gpu-check $(ARGS)

proto: setup ## Generate the stubs, the options and their reference page from proto/
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PY) proto/generate.py

sync: setup ## Generate the synchronous client from the asynchronous client
	$(PY) sdk/make_sync.py

reference: setup ## Generate docs/reference/settings.md from the settings
	$(PY) -m gramophone_server.settings docs/reference/settings.md
