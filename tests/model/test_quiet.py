"""A start, saving and loading say nothing: Spark's warnings of missing paths, 90 lines each, are not provoked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.java
def test_a_start_saving_and_loading_log_nothing(tmp_path):
    program = Path(__file__).with_name("quiet_program.py")
    own = {name: value for name, value in os.environ.items() if name != "JDK_JAVA_OPTIONS"}  # which Java repeats
    run = subprocess.run(
        [sys.executable, str(program), str(tmp_path)], capture_output=True, text=True, env=own, check=False, timeout=600
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "done"
    before, _, said = run.stderr.partition("now it saves\n")
    assert "now it saves" in run.stderr, before
    assert [line for line in before.splitlines() if "incubator modules" not in line] == []  # Java's own, of an option
    noisy = [line for line in said.splitlines() if " WARN " in line or " ERROR " in line or line.startswith("\tat ")]
    assert noisy == []
