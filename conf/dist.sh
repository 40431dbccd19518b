#!/usr/bin/env bash
# make dist: what clusters take. mfspark.zip is the wheel under the name that --py-files takes; environment.tar.gz is a
# Python environment for --archives, with all that the workers import but Spark. Its bin/python is a link: the nodes need
# the same Python at the same path (where they have none, pack a conda environment by conda-pack).
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python
made=build/environment
rm -rf dist build
mkdir -p dist build
"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
cp dist/mfspark-*.whl dist/mfspark.zip
"$python" -c 'import sys, venv; venv.EnvBuilder(symlinks=True).create(sys.argv[1])' "$made"
install() {
    "$python" -m pip --disable-pip-version-check --python "$made/bin/python" install --quiet "$@"
}
needed=$("$python" -c 'from mfspark.transport.workers import NEEDED; print(*(set(NEEDED) - {"mfspark"}))')
# shellcheck disable=SC2086 - several words
install -c conf/constraints.txt $needed
install --no-deps dist/mfspark-*.whl
tar -C "$made" --exclude __pycache__ --exclude tests -czf dist/environment.tar.gz .
ls -lh dist
