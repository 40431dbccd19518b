"""Measure mfspark beside its peers on the same generated ratings: JSON of raw numbers, a table of ratios, pictures.

    python tests/bench/run.py --sizes 1000000 10000000 --ranks 16 64 128 --netflix --out results.json

Every contender runs in a process of its own, one after the other. At rank 64 and the largest size they take turns over
the repeats, and figures are medians; other settings are measured once.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SWEEPS = (
    "mfspark", "mfspark_cg", "mfspark_jobs", "mfspark_exchange", "kernel", "mllib",
    "implicit_cg", "implicit_cholesky", "cmfrec_cg", "cmfrec_cholesky",
)  # fmt: skip
SCORING = ("mfspark_scoring", "mllib_scoring")
EPOCHS = ("sgd", "libmf", "sgd_kernel", "sgd_held_out", "libmf_held_out")
RACES = ("race_als", "race_als_biased", "race_sgd", "race_mllib")
SETTING = ("contender", "size", "rank", "implicit")
PATIENCE = {
    "mllib": 640e6,
    "implicit_cholesky": 640e6,
    "cmfrec_cholesky": 64e6,
}  # largest ratings x rank of slow peers
MEDIAN_OF_TWO = ("mllib", "implicit_cholesky", "mllib_scoring")  # slow, so that they are repeated twice at most


def measure(contender: str, **options: object) -> dict:
    """Run one contender in its own process and return the figures it prints as its last line."""
    command = [sys.executable, str(HERE / "contenders.py"), contender, json.dumps(options)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    if done.returncode != 0:
        return {"contender": contender, **options, "error": done.stderr.strip().splitlines()[-1:]}
    return {"contender": contender, **options, **json.loads(done.stdout.strip().splitlines()[-1])}


def plan(arguments: argparse.Namespace) -> list[tuple[str, dict]]:
    """Return what to measure, in order: rank 64 at the largest size in rounds, then other sizes and ranks once."""
    largest = max(arguments.sizes)
    head = [
        (name, dict(size=largest, rank=64, implicit=implicit))
        for implicit in (False, True)
        for name in SWEEPS
        if 64 in arguments.ranks and (implicit or not name.startswith("implicit"))
    ]
    head += [(name, dict(size=largest, rank=64)) for name in (*SCORING, *EPOCHS)]
    rest = [
        (name, dict(size=size, rank=rank, implicit=implicit))
        for size, rank in itertools.product(arguments.sizes, arguments.ranks)
        for implicit in (False, True)
        for name in SWEEPS
        if (rank == 64) != (size == largest) and (implicit or not name.startswith("implicit"))
    ]
    rounds = [
        step
        for turn in range(arguments.repeats)
        for step in head
        if turn == 0 or not (step[0].endswith("_held_out") or (turn > 1 and step[0] in MEDIAN_OF_TWO))
    ]
    steps = [*rounds, *((name, dict(size=largest, rank=64)) for name in RACES), *rest]
    return [
        (name, options)
        for name, options in steps
        if (not arguments.only or name in arguments.only)
        and options["size"] * options["rank"] <= PATIENCE.get(name, float("inf"))
        and ("libmf" not in name or "MFSPARK_LIBMF" in os.environ)
    ]


def medians(rows: list[dict]) -> list[dict]:
    """Return one row per contender and setting, with the median of every figure over the repeats."""
    grouped: dict[str, list[dict]] = {}
    for row in rows:
        key = json.dumps([row.get(name) for name in SETTING])
        grouped.setdefault(key, []).append(row)
    found = []
    for same in grouped.values():
        merged = dict(same[0])
        for name, value in same[0].items():
            numbers = [row[name] for row in same if isinstance(row.get(name), (int, float))]
            if isinstance(value, float) and numbers:
                merged[name] = statistics.median(numbers)
        found.append(merged | {"repeats": len(same)})
    return found


def main() -> int:
    """Measure, and write the JSON, the table and the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--ranks", type=int, nargs="+", default=[16, 64, 128])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[], help="contenders to measure")
    parser.add_argument("--resume", action="store_true", help="keep what --out has from a run that was cut off")
    parser.add_argument("--netflix", action="store_true", help="the 100 M run through mfspark-train as well")
    parser.add_argument("--data", default=str(Path(tempfile.gettempdir()) / "mfspark-bench"))
    parser.add_argument("--out", default=str(ROOT / "out" / "bench" / "results.json"))
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from tests.bench import netflix, pictures

    for size in sorted({1_000_000, *arguments.sizes}):  # the smallest warms every contender up
        measure("data", size=size, folder=arguments.data)
    rows, out, large = [], Path(arguments.out), None
    out.parent.mkdir(parents=True, exist_ok=True)
    if arguments.resume and out.exists():
        before = json.loads(out.read_text())
        rows, large = before["rows"], before["netflix"]
    done = Counter(json.dumps([row.get(name) for name in SETTING]) for row in rows)

    def add(row: dict) -> None:
        rows.append({key: value for key, value in row.items() if key != "folder"})
        sys.stdout.write(json.dumps(rows[-1]) + "\n")
        sys.stdout.flush()
        report(out, rows, large)

    def run(name: str, **options: object) -> None:
        setting = json.dumps([{"contender": name, **options}.get(key) for key in SETTING])
        done[setting] -= 1
        if done[setting] < 0:
            add(measure(name, folder=arguments.data, **options))

    for name, options in plan(arguments):
        run(name, **options)
    if arguments.netflix:
        large = large or netflix.run(arguments.data)
        for name, options in netflix.ALONE:
            if "libmf" not in name or "MFSPARK_LIBMF" in os.environ:
                run(name, size=netflix.RATINGS, rank=64, **options)
    report(out, rows, large)
    results = json.loads(out.read_text())
    pictures.draw(results["medians"], out.parent)
    sys.stdout.write(pictures.ratios(results) + "\n\n" + pictures.table(results) + "\n")
    return 0


def report(out: Path, rows: list[dict], large: dict | None) -> None:
    """Write all figures so far."""
    from tests.bench.netflix import machine

    whole = {"date": date.today().isoformat(), **machine(), "rows": rows, "medians": medians(rows), "netflix": large}
    out.write_text(json.dumps(whole, indent=1))


if __name__ == "__main__":
    sys.exit(main())
