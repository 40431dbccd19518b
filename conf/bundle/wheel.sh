#!/usr/bin/env bash
# The wheel that the bundle deploys: without Spark and Delta among its requirements. Databricks has its own, and a session
# on serverless compute ends where another pyspark is installed over them.
set -euo pipefail
cd "$(dirname "$0")/../.."
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
cp -r README.md mfspark jobs "$made"
grep -vE '^  "(pyspark|delta-spark)[<>=]' pyproject.toml >"$made/pyproject.toml"
rm -f dist/mfspark-*.whl
"${PYTHON:-python3}" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist "$made"
