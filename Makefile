# Everything runs from .venv, which the first target that needs it makes. `make` alone lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS ?= sample,openvino,dev
# The venv's programs come first, so that a DVC stage finds `goulot` and its interpreter.
export PATH := $(CURDIR)/$(BIN):$(PATH)
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help install repro score test test-slow check format constraints flow serve clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(STAMP) ## make .venv and install goulot with all that the sample and the tests need

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "goulot needs Python 3.11 or newer; make PYTHON=python3.11 install")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$(EXTRAS)]"
	@touch $@

repro: $(STAMP) ## run the pipeline: from the sample's images to data/submit/submission.csv
	dvc repro

score: $(STAMP) ## score the submission against the sample's hidden answers
	goulot score

test: $(STAMP) ## the tests (under 12 minutes on two cores)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test-slow: $(STAMP) ## the tests that take minutes each
	$(BIN)/python -m pytest -m slow --numprocesses 2 --dist loadfile

check: $(STAMP) ## what CI runs before the tests: ruff, mypy, import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

constraints: $(STAMP) ## renew constraints.txt to the newest versions that pyproject.toml allows
	$(BIN)/pip-compile --quiet --upgrade --all-extras --strip-extras --no-header --no-emit-index-url \
		--no-emit-find-links --no-emit-trusted-host --annotation-style=line --output-file constraints.txt pyproject.toml

flow: $(STAMP) ## run the pipeline as a Prefect flow
	$(BIN)/python -m pipelines.flows

serve: $(STAMP) ## serve the flow on a Prefect page
	$(BIN)/python -m pipelines.serve

clean: ## remove .venv and caches of tools; data and runs stay
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
