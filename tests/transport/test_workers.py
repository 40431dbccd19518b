"""Sessions whose workers cannot run mfspark end in one line before the first job of a fit."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from mfspark.errors import SetupError
from mfspark.transport import workers
from mfspark.transport.workers import _advice, _probe, _reason, check_workers

PROGRAM = Path(__file__).with_name("plain_session_program.py")
ROOT = PROGRAM.parents[2]


def bare_python(folder, *paths):
    """A Python with nothing installed but what lies in these folders."""
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    packages = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (packages / "more.pth").write_text("\n".join(map(str, paths)))
    return str(folder / "bin" / "python")


@pytest.mark.java
def test_plain_sessions_say_what_their_workers_lack(tmp_path):
    full = [path for path in sys.path if path.endswith("site-packages")]
    pythons = [
        bare_python(tmp_path / "without_mfspark", *full),
        bare_python(tmp_path / "without_anything", ROOT),
        str(tmp_path / "absent" / "python"),
        bare_python(tmp_path / "whole", ROOT, *full),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "PYSPARK"))}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(ROOT), *pythons],
        capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=600, check=False,
    )  # fmt: skip
    lines = [line.removeprefix("RESULT ") for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert len(lines) == 4, done.stderr[-4000:]
    assert lines[0].startswith(f"SetupError 1 the workers' Python {pythons[0]} lacks mfspark: start the session by")
    assert "spark.pyspark.python" in lines[0] and "--py-files" in lines[0] and sys.executable in lines[0]
    assert lines[1].startswith("SetupError 1 the workers' Python") and "lacks" in lines[1]
    assert lines[2].startswith(f"SetupError 1 the workers' Python {pythons[2]} does not start: ")
    assert lines[3] == "12"
    assert "type hints" not in done.stderr


MESSAGES = {
    "Python in worker has different version: 3.12 than that in driver: 3.11, so":
        "the workers run Python 3.12, the driver 3.11",
    "Python in worker has different version: (3, 9) than that in driver: 3.11, so":
        "the workers run Python 3.9, the driver 3.11",
    "java.io.IOException: Cannot run program \"python3.9\": error=2, No such file":
        "the workers' Python python3.9 does not start",
    "  File \"<frozen importlib._bootstrap>\"\nModuleNotFoundError: No module named 'pyarrow'":
        "the workers' Python lacks pyarrow",
    "java.lang.OutOfMemoryError": None,
}  # fmt: skip


@pytest.mark.parametrize(("message", "reason"), MESSAGES.items())
def test_what_a_failed_job_says_of_the_workers(message, reason):
    assert _reason(message) == reason


def test_advice_is_one_line_for_each_kind_of_session():
    for connect in (False, True):
        line = _advice("the workers' Python lacks numba", connect)
        assert line.startswith("the workers' Python lacks numba: ") and "\n" not in line
    assert "Connect server" in _advice("x", True) and "--py-files" not in _advice("x", True)
    assert "--py-files dist/mfspark.zip" in _advice("the workers' Python lacks mfspark", False)
    assert "--archives dist/environment.tar.gz#environment" in _advice("the workers' Python lacks numba", False)


def test_the_probe_names_every_lacking_module():
    executable, missing, _host = _probe(("numpy", "no_such_module", "nor_this"))(0).split("\n")
    assert executable == sys.executable and missing == "no_such_module, nor_this"


def test_one_lacking_executor_among_others_is_named(spark, monkeypatch):
    def probe(_):
        return lambda n: "\n".join(("python", "numba" if n == 1 else "", f"host{n}"))

    monkeypatch.setattr(workers, "_probe", probe)
    workers._checked.discard(spark)
    with pytest.raises(SetupError, match=r"Python python on host1 \(not on all of them\) lacks numba: .*--archives"):
        check_workers(spark)


def test_a_session_is_asked_once(spark, monkeypatch):
    asked = []
    monkeypatch.setattr(workers, "_probe", lambda needed: asked.append(needed) or _probe(("no_such_module",)))
    workers._checked.discard(spark)
    with pytest.raises(SetupError, match="lacks no_such_module"):
        check_workers(spark)
    monkeypatch.setattr(workers, "_probe", lambda needed: asked.append(needed) or _probe(needed))
    for _ in range(3):
        check_workers(spark)
    assert len(asked) == 2
