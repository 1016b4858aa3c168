# Every target does the set-up it needs; a second call does none. Another interpreter: make PYTHON=python3.12 TARGET
PYTHON ?=
INPUT ?=
BENCH_ARGS ?=
# One more than cores: many tests wait for nodes.
WORKERS ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1); echo $$((cores + 1)))
VENV := .venv/bin
# Modules are compiled once, not in each of the hundreds of processes that the tests start.
export PYTHONDONTWRITEBYTECODE :=
PARALLEL := --numprocesses $(WORKERS) --maxprocesses 8 --dist loadscope --no-loadscope-reorder
RUNNER := $(firstword $(shell command -v python3 2>/dev/null) $(shell command -v $(firstword $(PYTHON) python3) 2>/dev/null))

.DEFAULT_GOAL := help
.PHONY: help setup demo check test test-ros bench lint dist docs clean clean-all

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup:  ## make .venv, install the requirements and ROS 2, build the ROS 2 packages
	@test -n "$(RUNNER)" || { echo "setup: python3 is not installed: 'sudo apt install python3 python3-venv', and run make again." >&2; exit 2; }
	@"$(RUNNER)" tools/setup_env.py $(if $(PYTHON),--python "$(PYTHON)")

demo: setup  ## track instruments with a real node; INPUT=PATH takes your video, bag or sequence folder
	@$(VENV)/csl-tracker demo $(if $(INPUT),--input "$(INPUT)")

lint: setup  ## ruff, mypy, and a search for copied code
	@status=0; \
	$(VENV)/mypy & mypy=$$!; \
	$(VENV)/pylint --score=no csl_tracker benchmark tools launch examples & pylint=$$!; \
	$(VENV)/ruff check . || status=$$?; \
	$(VENV)/ruff format --check . || status=$$?; \
	wait $$mypy || status=$$?; \
	wait $$pylint || status=$$?; \
	exit $$status

check: setup  ## lint, and the quick tests of the core, without ROS
	@status=0; \
	$(MAKE) --no-print-directory lint & lint=$$!; \
	$(VENV)/python -m pytest $(PARALLEL) -q -m "core" $(PYTEST_ARGS) || status=$$?; \
	wait $$lint || status=$$?; \
	exit $$status

test: setup  ## lint, and all the tests that can run here, in WORKERS processes side by side
	@status=0; \
	$(MAKE) --no-print-directory lint || status=$$?; \
	$(VENV)/python -m pytest $(PARALLEL) $(PYTEST_ARGS) || status=$$?; \
	exit $$status

test-ros: setup  ## the tests that need launch, launch_ros, ros2cli or cv_bridge: in a sourced ROS 2
	@$(VENV)/python -m pytest -m upstream $(PYTEST_ARGS)

bench: setup  ## latency, drops and rates of the node, and of others' networks on the same frames; BENCH_ARGS=--quick
	@$(VENV)/python -c "import monai" 2>/dev/null || \
	  $(VENV)/python -m pip install -q -r requirements/bench.txt -c requirements/constraints.txt
	@$(VENV)/python -m benchmark.bench $(BENCH_ARGS)

dist: setup  ## build wheel and sdist into dist/
	@rm -rf dist && $(VENV)/python -m build --no-isolation --outdir dist . > /dev/null && ls -l dist

docs: setup  ## build these pages and the API reference into site/; warnings are errors
	@$(VENV)/python -c "import mkdocs, material, mkdocstrings" 2>/dev/null || \
	  $(VENV)/python -m pip install -q -r requirements/docs.txt -c requirements/constraints.txt
	@NO_MKDOCS_2_WARNING=1 $(VENV)/python -m mkdocs build --strict && echo "site/index.html"

clean:  ## remove what was built and written, not the environment
	@rm -rf build dist install log output site .pytest_cache .mypy_cache .ruff_cache csl_tracker.egg-info
	@find csl_tracker test tools -name __pycache__ -type d -prune -exec rm -rf {} +

clean-all: clean  ## remove the environment too
	@rm -rf .venv
