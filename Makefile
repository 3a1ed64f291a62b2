# The two commands: `make nightly` (environment, data, one night) and `make test`. `make help` lists the others.
#
# .venv is made from requirements.lock (hashes, exact versions). Its stamp is written last, so that an environment
# whose making was interrupted is noticed, removed and made again.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
BENCH_STAMP := $(VENV)/.complete-bench
DATA := data/movielens-100k
CONFIG := jobs/configs/movielens-100k.toml
CHECKED := jobs lime_model schemas
INSTALL := $(CURDIR)/$(BIN)/python -m jobs.doctor install

# first one that is Python 3.11; `make PYTHON=/path/to/python3.11 nightly` names another
PYTHON := python3.11 python3 python

.PHONY: help nightly test lint bench lock wheel zip clean

help:
	@echo "make nightly   make the environment, fetch data and jars, run the next night"
	@echo "make test      lint, type-check and test"
	@echo "make bench     add the benchmarks' peers to the environment"
	@echo "make wheel     dist/*.whl with jobs, lime_model and schemas"
	@echo "make zip       lime.zip for spark-submit --py-files"
	@echo "make lock      resolve setup.cfg again into requirements.lock and requirements-bench.lock"
	@echo "make clean     remove the environment and what was built; data/ and lake/ stay"

nightly: $(STAMP)
	@$(BIN)/lime fetch-movielens --into $(DATA)
	$(BIN)/lime nightly --config $(CONFIG)

# Two files at a time, a Spark session each: a single one leaves two fifths of two cores idle. Files are begun in
# their order, since a later file may go on from the nights that an earlier one published.
test: lint
	@echo "== pytest, two files at a time"
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder --durations=15

lint: $(STAMP)
	@echo "== ruff"
	$(BIN)/ruff check .
	echo "== mypy --strict $(CHECKED)"
	$(BIN)/mypy --strict $(CHECKED)

bench: $(BENCH_STAMP)
	@echo "The benchmarks' peers are in $(VENV): run python -m benchmarks.NAME with $(BIN)/python."

# the kernels too, or tests of a changed source would run what was compiled before
$(STAMP): requirements.lock setup.cfg pyproject.toml setup.py $(wildcard lime_model/scoring/native/*)
	@python=""
	for name in $(PYTHON); do
	    if "$$name" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2> /dev/null; then python=$$name; break; fi
	done
	if [ -z "$$python" ]; then
	    echo "lime needs Python 3.11, and none of these is one: $(PYTHON). Install it, or name it: make PYTHON=PATH." >&2
	    exit 5
	fi
	"$$python" -m jobs.doctor java
	if [ -e $(VENV) ] && [ ! -e $@ ]; then
	    echo "$(VENV) was left half-made: it is removed and made again."
	    rm -rf $(VENV)
	fi
	rm -f $@
	[ -e $(VENV) ] || "$$python" -m jobs.doctor venv $(VENV)
	$(INSTALL) requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	echo "Fetching Delta's jars and keeping Spark's classes, so that every later start is quick."
	$(BIN)/lime jars > /dev/null
	$(BIN)/python -m jobs.class_archive 2> /dev/null || echo "Spark's classes could not be kept: starts take longer."
	touch $@

$(BENCH_STAMP): $(STAMP) requirements-bench.lock
	@$(INSTALL) requirements-bench.lock
	touch $@

# uv is a tool of this target only: it has an environment of its own and resolves for the Python of .venv
lock: $(STAMP)
	@$(BIN)/python -m venv build/lock
	build/lock/bin/python -m pip install --quiet uv
	resolve="build/lock/bin/uv pip compile --quiet --python $(BIN)/python --generate-hashes --no-annotate"
	export UV_CUSTOM_COMPILE_COMMAND="make lock"
	$$resolve --extra test setup.cfg --output-file requirements.lock
	$$resolve --extra bench --constraints requirements.lock setup.cfg --output-file requirements-bench.lock

# setuptools copies into build/lib and never removes: a module deleted here would stay in the wheel
wheel: $(STAMP)
	@rm -rf build/lib build/bdist.* dist
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	echo "$$(ls dist/*.whl)"

# a wheel is a zip: under this name PySpark puts it on the path of the executors too
zip: wheel
	@cp dist/*.whl lime.zip
	echo "lime.zip"

clean:
	rm -rf $(VENV) build dist lime.zip *.egg-info .pytest_cache .mypy_cache .ruff_cache
