"""The tiles on 64-bit ARM, of which there is none here: NEON's width, its instructions, and no vector on the stack."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def told():
    """What arm_program.py prints."""
    program, own = Path(__file__).with_name("arm_program.py"), os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, env=own, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_tiles_are_right_at_the_width_of_neon(told):
    assert told["registers"] == [16, 4] and told["error"] < 1e-4


def test_every_product_is_a_vector_instruction_whose_sums_stay_in_registers(told):
    assert {(row["type"], row["cpu"]) for row in told["emitted"]} >= {
        ("float32", "neoverse-n1"),
        ("float64", "apple-m1"),
    }
    for row in told["emitted"]:
        assert row["vectors"] == ["4s" if row["type"] == "float32" else "2d"]
        # Loops hold two rows of the sums: 16 vectors of C (4 x 4) and 24 (8 x 3).
        assert {32, 48} <= set(row["loops"]) and row["scalar"] == row["spilled"] == 0, row
