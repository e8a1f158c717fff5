# make run     set up and start the server          make test   set up and run every test
# make setup   .venv with everything                make check  ruff, mypy, import-linter
# make dev     start with reload on change          make bench  measure (QUICK=1: within minutes)
# make dist    a wheel to install elsewhere           make growth measure how cost grows (docs/growth.md)
# make lock    renew docker/requirements.lock         make audit  known weaknesses of what the lock names
# make desktop the app in a window of its own      make screenshots  pictures of every screen

PYTHON ?= python3
BIN := .venv/bin
HOST ?= 127.0.0.1
export HOST

.PHONY: lock audit desktop screenshots run test setup check dev bench growth clean parts dist

run: .venv/.run
	@# On loopback nobody else can come in, so anybody may register; elsewhere the setting's own default holds.
	@case "$$HOST" in 127.*|localhost|::1) export REGISTRATION="$${REGISTRATION:-open}";; esac; \
	  WEB_CLIENT="$${WEB_CLIENT:-on}" exec $(BIN)/hypersend-server serve

# ARGS="--server https://chat.example.org" opens that server.
desktop: .venv/.run
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[client,desktop]'
	@$(BIN)/hypersend app $(ARGS)

dev: .venv/.setup
	@$(BIN)/adev runserver --app-factory dev_app --port $${PORT:-8000} --livereload-port 0 hypersend_server/dev.py

setup: .venv/.setup

# Most tests wait for something most of the time, so two run at once; JOBS=0 runs one after another, as a debugger wants.
JOBS ?= 2
test: .venv/.setup parts
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: .venv/.setup
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: .venv/.setup parts
	@$(BIN)/python -m benchmarks.run $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY))

growth: .venv/.setup
	@$(BIN)/python -m benchmarks.growth $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY))

screenshots: .venv/.setup
	@$(BIN)/python -m tests.gallery $(or $(TO),build/screenshots) docs/images

# What the images install, with the digest of every file. setuptools builds our own package there.
EXTRAS := client mongo s3 redis
TOOLS := build/tools
lock: $(TOOLS)/.made
	@echo 'setuptools>=77' | $(TOOLS)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  $(EXTRAS:%=--extra %) --no-emit-index-url --no-header --no-annotate --system-certs --upgrade \
	  setup.cfg - -o docker/requirements.lock

# Asks the vulnerability database of the Python package index; fails where one is known, and where it cannot ask.
audit: $(TOOLS)/.made
	@$(TOOLS)/bin/pip-audit --strict --require-hashes --disable-pip -r docker/requirements.lock

$(TOOLS)/.made: .venv/bin/python
	@$(BIN)/python -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8' 'pip-audit>=2.9'
	@touch $@

# The real servers that the tests use, where this machine lets us install them.
parts:
	@sh tests/install-parts.sh

# A wheel with the built web app in it; DIST says where it goes.
DIST ?= dist
dist: .venv/.run
	@rm -rf build/lib build/bdist.*
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(DIST) .
	@ls $(DIST)/*.whl

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "HyperSend needs Python 3.11 or later; name one with: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
	  || { echo "Python's venv module is missing: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/.run: .venv/bin/python setup.cfg pyproject.toml
	@echo "Setting up .venv ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[client]'
	@$(BIN)/python -m hypersend_client.web.build
	@touch $@

.venv/.setup: .venv/bin/python setup.cfg pyproject.toml
	@echo "Setting up .venv with the development tools ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[client,dev]'
	@$(BIN)/python -m hypersend_client.web.build
	@touch .venv/.run $@

clean:
	rm -rf .venv build *.egg-info
