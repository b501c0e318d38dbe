# Every target sets up what it needs. `make help` lists them.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# PYTHON=... chooses the interpreter; otherwise the first of these that is 3.11 to 3.13.
PYTHONS := $(if $(PYTHON),"$(PYTHON)",python3 python3.12 python3.11 python3.13)

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint docs pins presets clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*  ## /\1\t/' | expand -t 10

setup: $(INSTALLED)  ## create .venv and install the project with exact pins

$(INSTALLED): pyproject.toml constraints.txt
	@chosen=; for candidate in $(PYTHONS); do \
	  if "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; \
	  then chosen="$$candidate"; break; fi; done; \
	if [ -z "$$chosen" ]; then echo 'setup: no Python 3.11 to 3.13 among $(PYTHONS); install one or name it: make setup PYTHON=/path/to/python3.12' >&2; exit 1; fi; \
	"$$chosen" -m venv $(VENV) || { echo "setup: this Python cannot make virtual environments; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "setup: installing into $(VENV) with $$($(BIN)/python --version); this takes some minutes"
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[dev,docs,export,cluster,stream]'
	@touch $@

demo: setup  ## run the whole pipeline on the embedded default and print the results
	@$(BIN)/virtex run --preset demo

# The coverage is of the test processes, without the stages and flows they start. sys.monitoring makes it
# cheap from Python 3.12 on; `make test COVERAGE=` leaves it out.
COVERAGE := --cov --cov-report=
test: setup  ## run the unit and integration tests, print the coverage
	COVERAGE_CORE=$$($(BIN)/python -c 'import sys; print("sysmon" if hasattr(sys, "monitoring") else "ctrace")') \
	  OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(COVERAGE) $(ARGS)
	@$(if $(COVERAGE),echo "Coverage: $$($(BIN)/coverage report --format=total) % of the lines")

lint: setup  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup  ## build the guide into site/, strictly: a dead link is an error
	$(BIN)/mkdocs build --quiet --strict
	@echo "The guide: site/index.html"

pins: setup  ## write the versions installed in .venv to constraints.txt
	$(BIN)/python -m pip freeze --exclude-editable | grep -v -e '@' > constraints.txt.new
	mv constraints.txt.new constraints.txt

presets: setup  ## write presets/demo.yaml from params.yaml, which holds the default's values
	@$(BIN)/python -c 'from components.params.presets import write_default; write_default()'

clean:  ## remove results, caches of tools and the environment; DVC's cache stays
	rm -rf $(VENV) outputs data site .scratch .virtex .pytest_cache .mypy_cache .ruff_cache .coverage *.egg-info
