# Two commands set everything up on a fresh machine: make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test units commands lint bench

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

$(VENV)/runtime: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; choose one with: make PYTHON=python3.12 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked packages into $(VENV) (about two minutes and 6 GB the first time)"
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

$(VENV)/dev: $(VENV)/runtime requirements-dev.lock
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.lock
	@touch $@

demo: $(VENV)/runtime ## train on generated phantom images, no data needed, and show where the report is
	$(BIN)/python train.py task=pneumonia model=simple_cnn data.source=phantom

test: $(VENV)/dev ## run the whole test suite, in two halves side by side
	$(MAKE) --jobs 2 --keep-going units commands

# Tensors of tests are tiny: a second thread only waits, and long on a busy machine.
# The tests of workflow/ run with the command lines so that both halves take about as long.
units: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --ignore=tests/end_to_end --ignore=tests/workflow $(PYTEST)

commands: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p no:cacheprovider tests/end_to_end tests/workflow $(PYTEST)

lint: $(VENV)/dev ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# More of it: make bench BENCH="--keras-python /opt/tf/bin/python --auroc"
bench: $(VENV)/runtime ## measure training speed beside the network alone and beside plain scripts
	$(BIN)/python -m benchmarks.speed $(BENCH)
