# Every target makes or renews .venv first, when it is missing or the pinned packages changed.
# PYTHON chooses the interpreter: make demo PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
UV := $(or $(shell command -v uv 2>/dev/null),$(VENV)/bin/uv)
INSTALLED := $(VENV)/.installed
install = $(1) --requirement requirements-dev.txt && $(1) --no-deps --no-build-isolation --editable .
COMPILE := pip compile --quiet --universal --python-version 3.11 --no-emit-index-url \
	--custom-compile-command "make compile"

.DEFAULT_GOAL := help
.PHONY: help docs demo up down test check types unit format soak mutants reference audit bench bench-memory bench-policy bench-gate bench-parse \
	bench-scale bench-history bench-past bench-factory bench-decide bench-tune bench-lookups bench-web screenshots compile clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(INSTALLED)  ## Everything on real flights: databases, history, Airflow, one whole cycle
	$(VENV)/bin/nightshift demo

up: $(INSTALLED)  ## Start Postgres and Airflow on this machine
	$(VENV)/bin/nightshift up

down: $(INSTALLED)  ## Stop what was started; the data stays
	$(VENV)/bin/nightshift down

test: $(INSTALLED)  ## Every test, real Postgres and real Airflow included
	$(PY) -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder --durations 20

check: $(INSTALLED)  ## Lint, format, types, import direction and unit tests, in under 60 seconds
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
	@$(MAKE) --no-print-directory --jobs 2 types unit

types: $(INSTALLED)
	$(VENV)/bin/mypy

unit: $(INSTALLED)
	$(PY) -m pytest -q --numprocesses 2 --dist worksteal tests/unit

format: $(INSTALLED)  ## Format the code and fix what can be fixed
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

soak: $(INSTALLED)  ## 20 minutes of nights under kills and restarts, twenty times the random tests, and sixty nights in Airflow
	$(PY) -m tests.faults.soak
	SOAK=1 $(PY) -m pytest -q --numprocesses 2 tests/faults/test_machine.py tests/faults/test_fuzz.py \
		tests/faults/test_windows.py tests/faults/test_fuzz_queries.py tests/faults/test_label_streams.py \
		tests/integration/steps/test_sixty_nights.py

mutants: $(INSTALLED)  ## Take away one safeguard at a time: a test must fail for each
	$(PY) -m tests.faults.mutants

docs: $(INSTALLED)  ## Build the documentation as a site, searched offline, in build/site
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet --strict

reference: $(INSTALLED)  ## Renew what the docs say of keys, commands and REST from the code's own descriptions
	$(PY) -m docs.reference

audit: $(INSTALLED)  ## Known vulnerabilities of pinned packages (needs the internet), and their licences
	$(PY) -m audit

bench: $(INSTALLED)  ## Measure a night against the library calls that it is made of
	$(PY) -m bench

bench-memory: $(INSTALLED)  ## Measure the memory of a night of ten million rows against one million
	$(PY) -m bench --memory

bench-policy: $(INSTALLED)  ## Measure how soon the default rule finds a drop, and how often it is wrong
	$(PY) -m bench.policy

bench-parse: $(INSTALLED)  ## Measure what 200 families cost the process that parses DAGs
	$(PY) -m bench.parse

bench-scale: $(INSTALLED)  ## Measure what one more model, row and task cost a night
	$(PY) -m bench.scale

bench-history: $(INSTALLED)  ## Measure what a night costs after a year of nights
	$(PY) -m bench.history

bench-past: $(INSTALLED)  ## Measure how long a year of past nights takes under several policies
	$(PY) -m bench.past

bench-factory: $(INSTALLED)  ## Run a night of 1,000 models through Airflow, which takes minutes
	$(PY) -m bench.factory

bench-gate: $(INSTALLED)  ## Measure how often an equal challenger gets through, and a better one does not
	$(PY) -m bench.gate

bench-decide: $(INSTALLED)  ## Measure what the trigger and the gate promise on data that nobody tuned for
	$(PY) -m bench.decide

bench-tune: $(INSTALLED)  ## Measure what a tuning takes, and what its lines win on nights it has not seen
	$(PY) -m bench.tune

bench-lookups: $(INSTALLED)  ## Measure what readers wait for with 20 million predictions
	$(PY) -m bench.lookups

bench-web: $(INSTALLED)  ## Measure how fast the page of 5,000 models opens (needs Chromium)
	$(PY) -m bench.web

screenshots: $(INSTALLED)  ## Take the pictures of docs/images from the running demo (needs Chromium)
	$(PY) -m bench.screenshots

compile: $(INSTALLED)  ## Pin the packages anew from pyproject.toml: the image's, and all
	$(UV) $(COMPILE) --extra celery --extra s3 pyproject.toml -o requirements.txt
	$(UV) $(COMPILE) --all-extras -c requirements.txt --no-annotate pyproject.toml -o requirements-dev.txt

clean:  ## Remove .venv and caches; .nightshift, with the data, stays
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

$(INSTALLED): requirements.txt requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
		echo "Nightshift needs Python 3.11, 3.12 or 3.13; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
			"Choose another: make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv --clear $(VENV)
	@test -x $(UV) || $(PY) -m pip install --quiet --disable-pip-version-check uv || true
	@$(call install,$(UV) pip install --quiet --compile-bytecode --python $(PY)) || { \
		echo "uv could not install the packages; pip, which knows pip's settings, tries, and is slower" >&2; \
		$(call install,$(PY) -m pip install --quiet --disable-pip-version-check); }
	@touch $@
