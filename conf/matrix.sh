#!/usr/bin/env bash
# The core suite on other Sparks and Pythons, each in an environment of its own. Called by make test-matrix.
# MATRIX: pyspark:delta-spark, or pyspark:delta-spark:python, by name or path.  Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
core="tests/test_session.py tests/blocks tests/data/test_quality.py tests/data/test_splits.py tests/store/test_tables.py
      tests/store/test_registry.py tests/transport/test_broadcast.py tests/training/test_als_training.py
      tests/training/test_als_exchange.py tests/estimators/test_als.py tests/estimators/test_sgd_estimator.py
      tests/model/test_persistence.py tests/model/test_questions.py tests/model/test_rules.py tests/jobs/test_pipeline.py"
failed=""
for pair in ${MATRIX:-4.0.2:4.0.1 4.1.4:4.1.0}; do
    IFS=: read -r spark delta python <<<"$pair"
    python=${python:-.venv/bin/python}
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    venv=.venv-spark-$spark-python-$version
    if [ ! -e "$venv/ready" ]; then
        echo "installing pyspark $spark and delta-spark $delta"
        rm -rf "$venv"
        "$python" -m venv "$venv"
        grep -viE '^(pyspark|delta[-_]spark|py4j|importlib)' conf/constraints.txt >"$venv/constraints.txt"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c "$venv/constraints.txt" -e '.[test]' \
            "pyspark[connect]==$spark" "delta-spark==$delta"
        "$venv/bin/python" -m mfspark.session
        touch "$venv/ready"
    fi
    echo "pyspark $spark, delta-spark $delta, $("$venv/bin/python" --version)"
    # shellcheck disable=SC2086
    "$venv/bin/python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder $core "$@" ||
        failed="$failed $spark (Python $version)"
done
[ -z "$failed" ] || { echo "mfspark: the core suite fails on pyspark$failed" >&2; exit 1; }
