"""The engine on a real standalone cluster: a master, and two workers with an executor of one core each."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import cluster_program
import pyspark
import pytest

ROOT = Path(__file__).resolve().parents[2]
SPARK_HOME = Path(pyspark.__file__).parent
DEPLOY = "org.apache.spark.deploy"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, process, seconds=60):
    """Wait until somebody listens on a port."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise TimeoutError(f"nobody listens on port {port}")


@pytest.fixture(scope="module")
def environment(tmp_path_factory, spark):  # noqa: ARG001 - the session has found Java
    folder = str(tmp_path_factory.mktemp("cluster"))
    own = {"SPARK_HOME": str(SPARK_HOME), "PYTHONPATH": str(ROOT), "SPARK_LOCAL_DIRS": folder, "WORK": folder}
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SPARK_", "PYSPARK_"))}
    return kept | own | {"SPARK_DAEMON_MEMORY": "256m"}


@pytest.fixture(scope="module")
def master(environment):
    port = free_port()
    with ExitStack() as running:

        def start(kind, *arguments):
            command = [str(SPARK_HOME / "bin" / "spark-class"), f"{DEPLOY}.{kind}", "--host", "127.0.0.1", *arguments]
            process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            running.callback(process.wait)
            running.callback(process.terminate)
            return process

        wait_for(port, start("master.Master", "--port", str(port), "--webui-port", "0"))
        for number in range(2):
            folder = str(Path(environment["WORK"]) / str(number))
            limits = ["--cores", "1", "--memory", "600m", "--work-dir", folder, "--webui-port", "0"]
            start("worker.Worker", *limits, f"spark://127.0.0.1:{port}")
        yield f"spark://127.0.0.1:{port}"


def test_a_cluster_gives_the_same_models_also_where_an_executor_is_lost(master, environment, spark):
    command = [sys.executable, cluster_program.__file__, master]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    comp = json.loads(done.stdout.splitlines()[-1])
    frame = cluster_program.ratings(spark)
    ref = {name: cluster_program.loss(estimator.fit(frame)) for name, estimator in cluster_program.fits().items()}
    assert comp == pytest.approx(ref | {"lost": ref["jobs"]}, rel=1e-6)
