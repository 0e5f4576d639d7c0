# Two commands do everything: `make demo` and `make test`. Both build .venv first when it is not there.
SHELL := /bin/sh
.DEFAULT_GOAL := help

# The first interpreter that answers as 3.11 or newer; name another with `make PYTHON=... demo`.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo

.PHONY: help demo test check format lock bench pictures clean

help:
	@echo "make demo    synthetic studies -> both stages trained -> unseen studies graded, in ./$(DEMO) (about 15 minutes)"
	@echo "make test    the tests (some minutes on 2 cores)"
	@echo "make check   format, lint, types, import layers"
	@echo "make format  rewrite the sources in the house format"
	@echo "make lock    compile requirements.lock anew from pyproject.toml"
	@echo "make bench   the timings of benchmarks/"
	@echo "make pictures  the pictures of docs/synthetic.md (some minutes)"
	@echo "make clean   remove the environment, caches and the demo"

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(if $(PYTHON),$(PYTHON),python3) pipelines/preflight.py before-install
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python pipelines/preflight.py after-install
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/lumbar demo $(DEMO) --overwrite

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

check: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(VENV)/.installed
	$(BIN)/uv pip compile --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 \
		--extra dev pyproject.toml -o requirements.lock

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/timings.py

pictures: $(VENV)/.installed
	$(BIN)/python -m benchmarks.atlas docs/images

clean:
	rm -rf $(VENV) $(DEMO) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
