# Two commands do everything: `make demo` and `make test`. Both build .venv first when it is not there.
SHELL := /bin/sh
.DEFAULT_GOAL := help

# The first interpreter that answers as 3.11 or newer; name another with `make PYTHON=... demo`.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo

.PHONY: help install demo demo-large test check format docs lock bench fuzz kills pictures clean audit-lock licenses sbom

help:
	@echo "make demo    synthetic studies -> both stages trained -> unseen studies graded, in ./$(DEMO) (about 7 minutes on 2 idle cores)"
	@echo "make demo-large  the same on more studies and for longer, in ./$(DEMO)-large (about 13 minutes)"
	@echo "make test    the tests (some minutes on 2 cores)"
	@echo "make check   format, lint, spelling, types, import layers, Dockerfile"
	@echo "make format  rewrite the sources in the house format"
	@echo "make docs    build the documentation site in ./site"
	@echo "make lock    compile requirements.lock anew from pyproject.toml"
	@echo "make audit-lock  ask a vulnerability service about every package of the lock (needs the network)"
	@echo "make licenses    the lock's digests and licences, into results/licenses.json"
	@echo "make sbom    a CycloneDX bill of materials of $(VENV), in build/sbom.json (fetches its tool)"
	@echo "make bench   speed beside references, after make demo: results/bench.json"
	@echo "make fuzz    damaged inputs of every kind are read, results/fuzz.json; CASES=N SEED=S (some minutes)"
	@echo "make kills   commands are killed, resumed and compared, results/kills.json; KILLS=N SEED=S (about 40 minutes)"
	@echo "make pictures  the pictures of docs/synthetic.md (some minutes)"
	@echo "make install build $(VENV) from requirements.lock, if it is not there"
	@echo "make clean   remove the environment, caches, the site and the demo"

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(if $(PYTHON),$(PYTHON),python3) pipelines/preflight.py before-install
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python pipelines/preflight.py after-install
	@touch $@

install: $(VENV)/.installed

demo: $(VENV)/.installed
	$(BIN)/lumbar demo $(DEMO) --overwrite

demo-large: $(VENV)/.installed
	$(BIN)/lumbar demo $(DEMO)-large --studies 240 --localize-config configs/localize/demo_large.toml \
		--classify-config configs/classify/demo_large.toml --overwrite

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

check: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# NO_MKDOCS_2_WARNING: the theme's advertisement of its successor.
docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lock: $(VENV)/.installed
	$(BIN)/uv pip compile --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 \
		--extra dev pyproject.toml -o requirements.lock

# The two tools below would bring 40 packages into the lock, so they run in environments of their own. --strict: a
# package that the service does not know fails, as does a service that does not answer.
audit-lock: $(VENV)/.installed
	$(BIN)/uv tool run pip-audit==2.10.1 --strict --require-hashes --disable-pip -r requirements.lock

sbom: $(VENV)/.installed
	@mkdir -p build
	$(BIN)/uv tool run --from cyclonedx-bom==7.5.0 cyclonedx-py environment --pyproject pyproject.toml --sv 1.6 --of JSON \
		--output-reproducible --validate -o build/sbom.json $(BIN)/python

licenses: $(VENV)/.installed
	$(BIN)/python -m benchmarks.supply_chain

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks.bench

CASES := 12000
SEED := 0
fuzz: $(VENV)/.installed
	$(BIN)/python -m benchmarks.fuzz --cases $(CASES) --seed $(SEED)

KILLS := 50
kills: $(VENV)/.installed
	$(BIN)/python -m benchmarks.kills --kills $(KILLS) --seed $(SEED)

pictures: $(VENV)/.installed
	$(BIN)/python -m benchmarks.atlas docs/images

clean:
	rm -rf $(VENV) $(DEMO) $(DEMO)-large site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
