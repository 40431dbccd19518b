#!/usr/bin/env bash
# Called by make airflow-test: a real Airflow in an environment of its own, .venv-airflow, with its own pinned packages.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv-airflow
rm -rf "$venv"
echo "installing Airflow (conf/airflow_constraints.txt)"
.venv/bin/python -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c conf/airflow_constraints.txt \
    apache-airflow apache-airflow-providers-apache-spark apache-airflow-providers-databricks databricks-bundles
touch "$venv/ready"
