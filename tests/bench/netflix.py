"""The Netflix-scale run: 100,480,507 ratings from Parquet to a published model in Delta, by mfspark-train."""

from __future__ import annotations

import platform
import re
import statistics
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path

import psutil

RATINGS = 100_480_507
ALONE = (  # without mfspark-train, on the same ratings
    ("kernel", {"implicit": False}),
    ("sgd", {}),
    ("libmf", {}),
)
ROOT = Path(__file__).resolve().parent.parent.parent


def machine() -> dict:
    """Return the machine and the versions."""
    with open("/proc/cpuinfo") as info:
        model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), "unknown")
    names = ("pyspark", "delta-spark", "numpy", "numba", "pyarrow", "implicit", "cmfrec")
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except Exception:  # noqa: BLE001 - a peer that is not installed is not measured
            versions[name] = None
    memory = round(psutil.virtual_memory().total / 2**30)
    return {
        "machine": f"{model}, {psutil.cpu_count()} cores, {memory} GiB",
        "python": platform.python_version(),
        "versions": versions,
    }


class Peak:
    """The largest sum of the resident memory (shared pages counted once) of a process and its children."""

    def __init__(self, process: psutil.Process) -> None:
        self.process, self.bytes, self.stopped = process, 0, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        while not self.stopped.wait(0.5):
            total = 0
            for one in [self.process, *self._children()]:
                try:
                    total += one.memory_full_info().pss
                except psutil.Error:
                    continue
            self.bytes = max(self.bytes, total)

    def _children(self) -> list[psutil.Process]:
        try:
            return self.process.children(recursive=True)
        except psutil.Error:
            return []


def run(folder: str, iterations: int = 10, rank: int = 64) -> dict:
    """Train on the full synthetic set and return seconds per stage and the peak memory."""
    from tests.bench.run import measure

    measure("data", size=RATINGS, folder=folder)
    store = str(Path(folder) / "store")
    command = [sys.executable, "-m", "jobs.train", "--config", str(ROOT / "conf" / "netflix.yaml")]
    for key, value in {
        "train.path": str(Path(folder) / f"ratings-{RATINGS}"),
        "store.location": store,
        "als.maxIter": iterations,
        "als.rank": rank,
    }.items():
        command += ["--set", f"{key}={value}"]
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak = Peak(psutil.Process(process.pid))
    out, error = process.communicate()
    peak.stopped.set()
    whole = time.perf_counter() - began
    lines = [re.fullmatch(r"\s*\d+\s+[\d,.]+\s+\S+\s+([\d.]+)", line) for line in out.splitlines()]
    sweeps = [float(line.group(1)) for line in lines if line]
    return {
        "exit": process.returncode,
        "sweep": statistics.median(sweeps[2:]) if sweeps else None,
        "seconds": whole,
        "peak_gib": peak.bytes / 2**30,
        "output": [line for line in out.splitlines() if folder not in line],
        "error": error.splitlines()[-20:],
    }
