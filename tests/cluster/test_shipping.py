"""Workers whose Python lacks mfspark, or everything: what `make dist` gives brings it to them."""

import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import program
import pytest
from standalone import ROOT, SPARK_HOME, cluster

pytestmark = [pytest.mark.cluster, pytest.mark.java]
ZIP, ENVIRONMENT = ROOT / "dist" / "mfspark.zip", ROOT / "dist" / "environment.tar.gz"


def bare_python(folder, *paths):
    """A Python with nothing installed but what lies in these folders."""
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    packages = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (packages / "more.pth").write_text("\n".join(map(str, paths)))
    return str(folder / "bin" / "python")


def submit(running, *options):
    """Submit the program with spark-submit; return it ended."""
    command = [SPARK_HOME / "bin" / "spark-submit", "--master", running.address, *options]
    command += [Path(program.__file__), running.address, running.folder, "jobs"]
    return subprocess.run(
        [str(word) for word in command], env=running.submit_environment(), capture_output=True, text=True,
        timeout=400, check=False,
    )  # fmt: skip


def jars():
    from mfspark.session import delta_jars

    return ["--jars", ",".join(str(jar) for jar in delta_jars())]


def test_py_files_and_archives(tmp_path):
    for file in (ZIP, ENVIRONMENT):
        assert file.exists(), f"{file.name} is missing: make dist"
    full = [path for path in sys.path if path.endswith("site-packages")]
    without_mfspark = bare_python(tmp_path / "without_mfspark", *full)
    with cluster(tmp_path, python=without_mfspark, path="") as running:
        lacking = submit(running, *jars())
        shipped = submit(running, *jars(), "--py-files", ZIP)
        driver = ["--conf", f"spark.pyspark.driver.python={sys.executable}"]
        bare = ["--conf", f"spark.pyspark.python={bare_python(tmp_path / 'bare')}"]
        nothing = submit(running, *jars(), *driver, *bare)
        packed = submit(
            running, *jars(), "--archives", f"{ENVIRONMENT}#environment",
            "--conf", "spark.pyspark.python=./environment/bin/python", *driver,
        )  # fmt: skip
    assert "lacks mfspark" in lacking.stderr + lacking.stdout and "--py-files dist/mfspark.zip" in (
        lacking.stderr + lacking.stdout
    )
    assert "--archives dist/environment.tar.gz#environment" in nothing.stderr + nothing.stdout
    losses = []
    for done in (shipped, packed):
        assert done.returncode == 0, done.stderr[-4000:]
        losses.append(json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
