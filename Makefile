# Every target sets up what it needs: `make run` and `make test` work on a fresh clone with Python >= 3.11.
# PYTHON: the Python .venv is made from.  DATA: a file of ratings for run.  CONF: a configuration for run.
# ARGS: further arguments, for example ARGS="--set als.rank=64".

SHELL := bash
.DEFAULT_GOAL := help
export PYTHON

DATA ?=
CONF ?= $(if $(DATA),conf/movielens.yaml,conf/local.yaml)
ARGS ?=
BIN := .venv/bin
READY := .venv/ready
SOURCE := $(if $(DATA),--set "source.path=$(DATA)")

.PHONY: help setup run test test-programs test-fast test-matrix check bench dist cluster-test airflow-test notebooks clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Create .venv with pinned packages, find Java, fetch the Delta JARs (once)

$(READY): pyproject.toml conf/constraints.txt conf/setup.sh
	@conf/setup.sh

run: $(READY) ## Ratings to a published model and a summary (DATA=file CONF=file ARGS="--set als.rank=64")
	@$(BIN)/python -m jobs.run --config "$(CONF)" $(SOURCE) $(ARGS)

# Two processes with a session each: a Spark test keeps one core busy, not two. A file stays in one process; files come
# in the order of tests/conftest.py, the longest first.
test: $(READY) ## Run the test suite (ARGS="-k store")
	@$(BIN)/python -m pytest -m "not programs" -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-programs: $(READY) ## Run its tests that start programs: cluster, Connect, spark-submit, killed jobs (ARGS)
	@$(BIN)/python -m pytest -m programs -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# Without a usable JAVA_HOME a test that starts Java unmarked fails.
test-fast: $(READY) ## Run the tests that need no Java (ARGS="-k kernels")
	@JAVA_HOME=/dev/null $(BIN)/python -m pytest -m "not java" -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-matrix: $(READY) ## Run the core suite on Spark 4.0 and 4.1, too (MATRIX="4.2.0:4.4.0:python3.13", ARGS)
	@conf/matrix.sh $(ARGS)

check: $(READY) ## Lint, types and the import directions
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest tests/test_architecture.py

bench: $(READY) ## Measure against the peers (installs them once)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c conf/constraints.txt -e '.[bench]'
	@$(BIN)/python tests/bench/run.py $(ARGS)

dist: $(READY) ## The wheel, dist/mfspark.zip for --py-files, dist/environment.tar.gz for --archives
	@conf/dist.sh

# Every fault has a cluster of its own, which has two workers of one core. FAULTS=short is what CI runs.
cluster-test: dist ## Faults and shipping on a standalone cluster (FAULTS=short ARGS="-k barrier")
	@MFSPARK_FAULTS=$(FAULTS) $(BIN)/python -m pytest -s tests/cluster/test_*.py $(ARGS)

# Airflow has many packages of its own, which are kept apart from ours in .venv-airflow.
airflow-test: $(READY) .venv-airflow/ready ## The DAG files in a real Airflow, through real spark-submit
	@$(BIN)/python -m pytest tests/airflow/test_*.py $(ARGS)

.venv-airflow/ready: conf/airflow_constraints.txt conf/airflow.sh | $(READY)
	@conf/airflow.sh

notebooks: $(READY) ## Execute every notebook with the Python of .venv
	@$(BIN)/python notebooks/run.py $(ARGS)

clean: ## Remove everything that was made (.venv, out, caches)
	@rm -rf .venv .venv-airflow .venv-spark-* out build dist spark-warehouse metastore_db derby.log artifacts ./*.egg-info
	@rm -rf .pytest_cache .mypy_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
