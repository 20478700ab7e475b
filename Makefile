# make train: from a fresh checkout to a finished run. Everything goes into .venv; `make clean` takes it away.

# The first Python that can make a virtual environment; a shim that leads nowhere does not count.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	if "$$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; \
	then echo "$$python"; exit; fi; done; echo python3)
VENV_PYTHON = .venv/bin/python
PACKAGES = actors benchmarks buffer cluster executor learner
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install install-dev train test chaos check format clean

help:
	@echo "make train [ARGS=\"run.steps=2\"]  install what is missing and train the default"
	@echo "make test  [ARGS=\"-k report\"]    install what is missing and run the tests"
	@echo "make chaos                       kill processes and nodes under runs, and see that these go on"
	@echo "make check                       lint, formatting, types"
	@echo "make format                      format the code"
	@echo "make clean                       remove .venv and what the tools left"

install:
	@$(PYTHON) cluster/install.py

install-dev:
	@$(PYTHON) cluster/install.py --dev

train: install
	@$(VENV_PYTHON) -m cluster train $(ARGS)

# Unit tests come first: they take a minute and say most. They share nothing, so several processes run them; integration tests take the machine one by one.
# Where ARGS leaves none of a suite's tests over, pytest ends with 5.
test: install-dev
	@$(VENV_PYTHON) -m pytest tests/unit --numprocesses auto --maxprocesses 4 --dist loadfile $(ARGS) || [ $$? -eq 5 ]
	@$(VENV_PYTHON) -m pytest tests/integration $(ARGS) || [ $$? -eq 5 ]

# Processes and nodes are killed under runs: some ten minutes.
chaos: install-dev
	@$(VENV_PYTHON) -m pytest tests/chaos $(ARGS)

check: install-dev
	@$(VENV_PYTHON) -m ruff check $(PACKAGES) tests
	@$(VENV_PYTHON) -m ruff format --check $(PACKAGES) tests
	@$(VENV_PYTHON) -m pyright

format: install-dev
	@$(VENV_PYTHON) -m ruff check --fix $(PACKAGES) tests
	@$(VENV_PYTHON) -m ruff format $(PACKAGES) tests

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find $(PACKAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +
