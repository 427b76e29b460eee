# Every chore has a target here, and each does its own set-up: nothing but make and Python >= 3.9 has to be there.
#   make PYTHON=python3.12 test             another interpreter (after `make clean`)
#   make test ARGUMENTS='-k docker -x'      further words for pytest
#   make test MLCUBE_TEST_ENGINES=docker    demand real engines: an absent one is a failure, not left out

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test cover check fmt golden pyz engines bench stress clean again

python := .venv/bin/python
sources := LICENSE $(shell find mlcube_cli runners mlbox schemas packaging -type f ! -name '*.pyc' 2>/dev/null)
set_up := PYTHON='$(PYTHON)' scripts/venv

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s  %s\n", $$1, $$2 }' Makefile

demo: mlcube.pyz ## build mlcube.pyz and train the MNIST example through it (platform local: no docker, no root)
	@scripts/demo

test: .venv/dev-ready mlcube.pyz ## run the tests; engines that are absent are left out by name
	@$(python) -m pytest --numprocesses=auto --maxprocesses=8 $(ARGUMENTS)

cover: override ARGUMENTS += --cov --cov-report=term:skip-covered
cover: test ## the tests, and which lines they did not reach

check: .venv/dev-ready ## ruff, mypy strict, import-linter
	@$(python) -m ruff check .
	@$(python) -m mypy
	@.venv/bin/lint-imports --no-cache

fmt: .venv/dev-ready ## repair what ruff can repair
	@$(python) -m ruff check --fix .

golden: .venv/dev-ready ## write the expected plans again (look at the diff)
	@MLCUBE_GOLDEN=write $(python) -m pytest -q tests/golden tests/unit/test_conformance.py tests/package/test_wheel.py

pyz: mlcube.pyz ## build mlcube.pyz and its sha256 file
	@cat mlcube.pyz.sha256

engines: ## install, start and fill the real engines for the tests (root, on Debian)
	@scripts/engines

bench: .venv/dev-ready mlcube.pyz ## measure start-up, validation and runs side by side; a table and JSON
	@$(python) benchmarks/bench.py $(ARGUMENTS)

stress: .venv/dev-ready mlcube.pyz ## the stress-sized tests
	@$(python) -m pytest -m stress $(ARGUMENTS)

clean: ## remove everything that was made here
	rm -rf .venv .demo build-pyz dist mlcube.pyz mlcube.pyz.sha256 benchmarks/results.json .coverage .coverage.* .pytest_cache .mypy_cache \
	    .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

mlcube.pyz: .venv/pyz-ready $(sources)
	@$(python) packaging/build_pyz.py -o $@

# Stamps: the light one is all that the demo needs, the other one holds the development tools.
.venv/pyz-ready: scripts/venv
	@$(set_up) 'shiv>=1.0.8'
	@touch $@

.venv/dev-ready: scripts/venv pyproject.toml
	@$(set_up) --editable '.[dev]'
	@touch $@ .venv/pyz-ready

# An environment whose interpreter is gone (a newer Python, a moved checkout) is made again.
ifneq ($(shell .venv/bin/python -c 'print(1)' 2>/dev/null),1)
.venv/pyz-ready .venv/dev-ready: again
endif
