"""The library over Spark Connect, in a process of its own (one process has one kind of session)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("connect_program.py")


@pytest.mark.java
def test_everything_works_over_connect(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(PROGRAM.parents[2]), "SPARK_LOCAL_DIRS": str(tmp_path)}
    for name in ("SPARK_REMOTE", "PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET", "SPARK_CONNECT_MODE_ENABLED"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, str(PROGRAM)], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=600
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "CONNECT OK" in done.stdout
