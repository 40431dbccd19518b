"""Machine code is kept where it can be, made once, and never used after any kernel's source has changed."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mfspark.kernels import compile as compiler

PACKAGE = Path(__file__).resolve().parent.parent.parent / "mfspark"
PROBE = """
from mfspark.kernels.compile import jit
from mfspark.kernels.losses import squared_value

@jit
def total(scores):
    sum = 0.0
    for score in scores:
        sum += squared_value(score, 1.0)
    return sum
"""
PROGRAM = """
import numpy as np
import mfspark.kernels.als.half_step
from mfspark.kernels import compile, probe

print(probe.total(np.array([3.0, 1.0])))
print(sum(probe.total.stats.cache_hits.values()), sum(probe.total.stats.cache_misses.values()))
print(compile.cache_folder("mfspark.kernels.probe"))
"""


@pytest.fixture
def copy(tmp_path):
    """Return a folder with a copy of the package, and one small kernel more that inlines a loss."""
    shutil.copytree(PACKAGE, tmp_path / "site" / "mfspark", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "site" / "mfspark" / "kernels" / "probe.py").write_text(PROBE)
    return tmp_path / "site"


def start(path, tmp_path, **variables):
    """Start the program with the package of a folder or zip file."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("CACHE_DIR")}
    kept.pop("XDG_CACHE_HOME", None)
    home = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path), "PYTHONPATH": str(path)}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={**kept, **home, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """Return the total, how many signatures came from disk and were compiled, and the folder."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    total, counts, folder = out.splitlines()
    return float(total), [int(count) for count in counts.split()], Path(folder)


def run(*args, **variables):
    return finish(start(*args, **variables))


def test_an_edited_loss_takes_effect(copy, tmp_path):
    first = run(copy, tmp_path)
    assert first[:2] == (2.0, [0, 1])
    assert run(copy, tmp_path) == (2.0, [1, 0], first[2])
    losses = copy / "mfspark" / "kernels" / "responses.py"  # where the constant 0.5 stands
    text = losses.read_text()
    assert "0.5" in text
    losses.write_text(text.replace("0.5", "1.5"))
    edited = run(copy, tmp_path)
    assert edited[:2] == (6.0, [0, 1])
    losses.write_text(text)
    assert run(copy, tmp_path) == (2.0, [1, 0], first[2])


def test_it_lies_beside_the_package(copy, tmp_path):
    assert run(copy, tmp_path)[2].parent == copy / "mfspark" / "kernels" / "__pycache__"


@pytest.mark.parametrize("variables,place", [({}, "home/.cache/mfspark"), ({"HOME": "/dev/null"}, None)])
def test_a_package_that_cannot_be_written(copy, tmp_path, variables, place):
    # A file of the folder's name refuses root, too, who may write into any read-only folder.
    (copy / "mfspark" / "kernels" / "__pycache__").write_text("")
    first = run(copy, tmp_path, **variables)
    assert first[2].parent == tmp_path / (place or f"mfspark-{os.getuid()}")
    assert run(copy, tmp_path, **variables)[1] == [1, 0]


def test_a_package_in_a_zip_file(copy, tmp_path):
    archive = tmp_path / "mfspark.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for path in sorted(copy.rglob("*.py")):
            target.write(path, path.relative_to(copy))
    shutil.rmtree(copy)
    first = run(archive, tmp_path)
    assert first[:2] == (2.0, [0, 1])
    assert first[2].parent == tmp_path / "home/.cache/mfspark"
    assert run(archive, tmp_path)[1] == [1, 0]


def test_a_folder_that_is_named_comes_first(copy, tmp_path):
    numba, own = str(tmp_path / "numba"), str(tmp_path / "own")
    assert run(copy, tmp_path, NUMBA_CACHE_DIR=numba)[2].parent == tmp_path / "numba" / "mfspark"
    assert run(copy, tmp_path, NUMBA_CACHE_DIR=numba, MFSPARK_CACHE_DIR=own)[2].parent == tmp_path / "own" / "mfspark"


def test_processes_that_need_it_at_once_compile_it_once(copy, tmp_path):
    counts = [finish(process)[1] for process in [start(copy, tmp_path) for _ in range(4)]]
    assert sorted(counts) == [[0, 1], [1, 0], [1, 0], [1, 0]]


def test_machine_code_of_other_sources_goes(copy, tmp_path):
    for age in range(6):
        old = tmp_path / "own" / "mfspark" / f"mfspark.kernels.probe-{age}"
        old.mkdir(parents=True)
        os.utime(old, (1_000_000 - age, 1_000_000 - age))
    current = run(copy, tmp_path, MFSPARK_CACHE_DIR=str(tmp_path / "own"))[2]
    left = {folder.name.rpartition("-")[2] for folder in current.parent.glob("mfspark.kernels.probe-*")}
    assert left == {current.name.rpartition("-")[2], "0", "1", "2"}


def test_somebody_elses_machine_code_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(compiler.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(compiler, "_bases", lambda: iter([tmp_path / "mfspark-0"]))
    assert compiler.cache_base.__wrapped__() == tmp_path / "mfspark-0"
    monkeypatch.setattr(compiler, "_owner", lambda _: os.getuid() + 1)
    assert compiler.cache_base.__wrapped__() is None


def test_a_module_depends_on_what_it_imports_and_on_nothing_else():
    used = compiler._used_by("mfspark.kernels.als.half_step")
    assert {"mfspark.kernels.als.half_step", "mfspark.kernels.cholesky", "mfspark.kernels.simd"} < used
    assert not {"mfspark.kernels.topk", "mfspark.kernels.sgd.update"} & used
    assert compiler._used_by("elsewhere") == set(compiler._sources())
