"""Stratified SGD beside LIBMF: seconds per epoch, and the held-out RMSE after the same number of epochs.

LIBMF (cjlin1/libmf) is measured where MFSPARK_LIBMF names its program ``mf-train``; it is no package to install.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import time
from pathlib import Path

import numpy as np

from tests.bench.contenders import arrays, ratings_path, seconds, session

STEP, REG, EPOCHS = 0.1, 0.05, 20
START = 1 / 3**0.5  # LIBMF draws its start from U(0, 1) / sqrt(rank), which is so large in the mean square


def _fit(frame, rank, epochs, **more):
    from mfspark import SGD

    model = SGD(rank=rank, maxIter=epochs, stepSize=STEP, regParam=REG, seed=1, **more)
    whole, fitted = seconds(lambda: model.fit(frame))
    return whole, fitted.history.orderBy("iteration").collect()


def sgd(size, folder, rank):
    """The estimator from a Parquet path: whole fit and the median epoch."""
    spark = session()
    _fit(spark.read.parquet(ratings_path(min(size, 1_000_000), folder)), rank, 2)
    whole, history = _fit(spark.read.parquet(ratings_path(size, folder)), rank, 8)
    return dict(fit=whole, epoch=statistics.median([row.seconds for row in history][2:]))


def sgd_kernel(size, folder, rank):
    """One task's work without Spark, in one thread: the median epoch."""
    from mfspark.blocks.build import Layout
    from mfspark.kernels.csr import Block, counting_order
    from mfspark.kernels.sgd.cells import Recipe, UserBlock
    from mfspark.training.sgd_worker import Job, Worker
    from mfspark.transport.barrier import Alone

    users, items, ratings = arrays(size, folder)
    bounds = tuple(np.array([0, int(ids.max()) + 1]) for ids in (users, items))
    order, indptr = counting_order(users, int(bounds[0][1]))
    block = Block(indptr, items[order].astype(np.int32), ratings[order])
    recipe = Recipe(rank=rank, step=STEP, schedule="adagrad", reg_param=(REG, REG), epochs=8, signed=False)
    layout = Layout(bounds, np.empty(0, np.float32), weighted=False, held=False)
    history = Worker(Job(recipe, layout, 1), [UserBlock(0, 0, block, bounds[1], recipe)], Alone()).train()
    return dict(epoch_one_thread=statistics.median([row.seconds for row in history][2:]))


def sgd_held_out(size, folder, rank):
    """The held-out RMSE after every epoch."""
    frame = session().read.parquet(ratings_path(size, folder) + "-split")
    _, history = _fit(frame, rank, EPOCHS, initStd=START, validationIndicatorCol="validation")
    return dict(curve=[row.validationRMSE for row in history])


def _text(size, folder, split):
    """Write LIBMF's files of ``user item rating`` lines, once; return the training and the held-out file."""
    import pyarrow.compute as pc
    import pyarrow.csv
    import pyarrow.parquet as pq

    source = ratings_path(size, folder) + ("-split" if split else "")
    files = [Path(f"{source}.train.txt"), Path(f"{source}.held.txt")]
    if not files[split].exists():
        table = pq.read_table(source)
        parts = [(files[0], table)]
        if split:
            held = table.column("validation")
            parts = [(files[0], table.filter(pc.invert(held))), (files[1], table.filter(held))]
        for path, part in parts:
            part = part.select(["user", "item", "rating"])
            part = part.take(np.random.default_rng(1).permutation(len(part))) if split else part
            options = pyarrow.csv.WriteOptions(include_header=False, delimiter=" ")
            pyarrow.csv.write_csv(part, path, options)
    return [str(path) for path in files]


def _libmf(rank, epochs, train, held=None, threads=2):
    program = os.environ["MFSPARK_LIBMF"]
    command = [program, "-k", str(rank), "-t", str(epochs), "-s", str(threads), "-r", str(STEP), "-l2", str(REG)]
    command += ["-p", held] if held else []
    process = subprocess.Popen([*command, train, os.devnull], stdout=subprocess.PIPE, text=True, bufsize=1)
    stamps, last = [], []
    for line in process.stdout:
        if re.match(r"\s*\d+\s+\d", line):
            stamps.append(time.perf_counter())
            last.append([float(cell) for cell in line.split()])
    if process.wait():
        raise RuntimeError(f"{program} ended with {process.returncode}")
    return np.diff(stamps), last


def libmf(size, folder, rank):
    """LIBMF with two threads, and with one: the median epoch."""
    spent, _ = _libmf(rank, 8, _text(size, folder, False)[0])
    found = dict(epoch=statistics.median(spent[1:]))
    if size <= 10_000_000:  # reading its text takes minutes beyond
        spent, _ = _libmf(rank, 8, _text(size, folder, False)[0], threads=1)
        found["epoch_one_thread"] = statistics.median(spent[1:])
    return found


def libmf_held_out(size, folder, rank):
    """LIBMF's held-out RMSE after every epoch."""
    _, lines = _libmf(rank, EPOCHS, *_text(size, folder, True))
    return dict(curve=[line[2] for line in lines])
