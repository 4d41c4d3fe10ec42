# `make test` and `make demo` are all that a fresh machine needs: Python 3.11 or newer, make, a package index.
# The environment is made once; it is renewed when pyproject.toml or constraints.txt change.

VENV    := .venv
BIN     := $(VENV)/bin
READY   := $(VENV)/.ready
WORKERS ?= 2

# The first of these that is Python 3.11 or newer (a version manager's shim may exist and still not run).
PYTHON  ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)

# One thread per process: the parallelism is over test workers, and results do not hang on a thread count.
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONUTF8 := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install test demo lint format types check-tests clean distclean

help:
	@echo 'make test      ruff, mypy and the test suite'
	@echo 'make demo      train, sample and evaluate on real data; prints where the report lies'
	@echo 'make lint      ruff and mypy only'
	@echo 'make format    let ruff rewrite the layout'
	@echo 'make clean     remove caches and builds; make distclean also removes $(VENV)'

# torch comes first and exactly pinned: where a machine's index offers a CPU build of that very version
# it is taken, and a looser request would fetch gigabytes of another one.
$(READY): pyproject.toml constraints.txt
	@$(BIN)/python -c 'import pip' >/dev/null 2>&1 || test -n '$(PYTHON)' || \
		{ echo 'Kuosan needs Python 3.11 or newer on the PATH (or make PYTHON=/path/to/python3).' >&2; exit 2; }
	@$(BIN)/python -c 'import pip' >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt setuptools
	$(BIN)/python -m pip install --quiet $$(grep -E '^torch==' constraints.txt)
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

install: $(READY)

lint: $(READY)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

format: $(READY)
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

check-tests: $(READY)
	$(BIN)/python -m pytest -q -n $(WORKERS)

# In this order: what takes seconds speaks before what takes minutes.
test: lint
	@$(MAKE) --no-print-directory check-tests

demo: $(READY)
	OMP_NUM_THREADS=$${KUOSAN_THREADS:-2} $(BIN)/kuosan demo

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find kuosan tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
