# The two commands of a newcomer: `make demo` and `make test`. Both set up what they need.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := constraints/ci.txt

.PHONY: help setup demo test check format clean

help:
	@echo "make demo    set up, run studies/quickstart.yaml and show its table"
	@echo "make test    set up and run the tests"
	@echo "make check   format, lint and type checks"

setup: $(VENV)/.ready

# torch first and by its exact version: on a machine with a CPU build at hand nothing larger is fetched.
$(VENV)/.ready: pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[dev]"
	touch $@

demo: setup
	$(BIN)/cdkd run studies/quickstart.yaml

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not gpu" -n 2 --dist loadfile

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) results
