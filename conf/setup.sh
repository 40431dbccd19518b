#!/usr/bin/env bash
# Set up .venv once: pinned packages, a fitting Java, the Delta JARs. Called by make; an interrupted set-up is redone.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv
stamp=$venv/ready
busy=$venv/installing

fail() {
    echo "mfspark: $*" >&2
    exit 2
}

is_debian_root() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1
}

apt_install() {
    is_debian_root || return 1
    echo "installing $1 with apt-get" >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$1" >/dev/null 2>&1 && return 0
    apt-get update -qq >/dev/null 2>&1 || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$1" >/dev/null
}

fits() {
    command -v "$1" >/dev/null 2>&1 && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        fits "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.11 or newer"
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11 python; do
        if fits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "no Python 3.11 or newer in PATH: install one, or name it (make setup PYTHON=/path/to/python3.12)"
}

make_venv() {
    local python
    python=$(find_python)
    rm -rf "$venv"
    echo "creating $venv with $("$python" --version)"
    "$python" -m venv "$venv" >/dev/null 2>&1 && return
    # Debian ships Python without ensurepip.
    rm -rf "$venv"
    apt_install "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv" || true
    "$python" -m venv "$venv" || fail "$python cannot create a virtual environment: install its venv module (python3-venv)"
}

# A set-up that was interrupted leaves its mark, or a Python without pip: start again.
if [ -e "$busy" ] || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    make_venv
fi
touch "$busy"
echo "installing the pinned packages (conf/constraints.txt)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c conf/constraints.txt -e '.[test,notebook]'
# What the tests compare ranking metrics with: its requirements exclude numpy 2 below Python 3.13, its metrics do not.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c conf/constraints.txt --no-deps rectools typeguard ||
    echo "RecTools cannot be installed: its tests will be skipped" >&2
rm -f "$busy"

# Spark's resolver is talkative: its output is shown only when it fails for another reason than a missing Java.
log=$venv/session.log
resolve() {
    code=0
    "$venv/bin/python" -m mfspark.session 2>"$log" || code=$?
}
echo "finding Java and the Delta JARs"
resolve
if [ "$code" = 2 ] && apt_install openjdk-17-jre-headless; then
    resolve
fi
if [ "$code" = 2 ]; then
    grep '^mfspark' "$log" >&2 || cat "$log" >&2
    exit 2
elif [ "$code" != 0 ]; then
    cat "$log" >&2
    fail "the Delta JARs could not be resolved (see above); run make setup again"
fi
touch "$stamp"
