# Everything a developer or a new user runs. `make help` lists it.
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=
# One process a core, one thread each: threads of several processes would only wait for one another.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help install train test test-all lint type fmt check bench sample wheel clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

# Installed once, and again when what is to be installed changes.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

install: $(VENV)/.installed ## Create .venv with everything, in the tested versions

train: install ## Install, then train on the embedded defaults (ARGS="…" for overrides)
	$(BIN)/dlgsum train $(ARGS)

test: install ## Install, then run the tests (without the long ones)
	$(PYTEST) -m "not slow" $(ARGS)

test-all: install ## Run all tests, the long ones too
	$(PYTEST) $(ARGS)

lint: install ## Style, and the rules on which part may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

type: install ## Types
	$(BIN)/mypy

fmt: install ## Format, and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint type test ## What CI runs

bench: install ## Benchmarks: ratios against the obvious alternative, in one run
	$(BIN)/python scripts/benchmarks/training.py
	$(BIN)/python scripts/benchmarks/tokenizing.py
	$(BIN)/python scripts/benchmarks/completion.py
	$(BIN)/python scripts/benchmarks/batch_size.py
	$(BIN)/python scripts/benchmarks/monitoring.py
	$(BIN)/python scripts/benchmarks/index.py

sample: install ## Make the bundled dialogues again (same seed, same bytes)
	$(BIN)/python scripts/make_sample_data.py

wheel: install ## Build the wheel into dist/
	$(BIN)/python -m build --wheel --no-isolation

clean: ## Remove what the commands above made, except outputs/
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
