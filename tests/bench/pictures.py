"""The tables and pictures of a benchmark, from its results."""

from __future__ import annotations

from pathlib import Path

LABELS = {
    "mfspark": "mfspark (exact)",
    "mfspark_cg": "mfspark (3 CG steps)",
    "kernel": "mfspark kernel alone",
    "mllib": "MLlib ALS",
    "implicit_cg": "implicit (3 CG steps)",
    "implicit_cholesky": "implicit (exact)",
    "cmfrec_cg": "cmfrec (CG)",
    "cmfrec_cholesky": "cmfrec (exact)",
    "mllib_scoring": "MLlib ALS",
    "libmf": "LIBMF",
    "race_als": "mfspark ALS, settings of MLlib's",
    "race_als_biased": "mfspark ALS, biases and mean",
    "race_sgd": "mfspark SGD",
    "race_mllib": "MLlib ALS",
}
HEADLINES = (
    ("explicit: fit, Parquet to factors, s", ("mfspark", False), ("mllib", False), "fit"),
    ("explicit: sweep, s", ("mfspark", False), ("mllib", False), "sweep"),
    ("explicit: sweep, s", ("mfspark", False), ("cmfrec_cg", False), "sweep"),
    ("explicit: sweep, s", ("mfspark", False), ("kernel", False), "sweep"),
    ("implicit: fit, Parquet to factors, s", ("mfspark", True), ("mllib", True), "fit"),
    ("implicit: sweep, s", ("mfspark", True), ("mllib", True), "sweep"),
    ("implicit: sweep, exact, s", ("mfspark", True), ("implicit_cholesky", True), "sweep"),
    ("implicit: sweep, exact, s", ("mfspark", True), ("implicit_cg", True), "sweep"),
    ("implicit: sweep, CG, s", ("mfspark_cg", True), ("implicit_cg", True), "sweep"),
    ("implicit: sweep, CG, s", ("mfspark_cg", True), ("cmfrec_cg", True), "sweep"),
    ("implicit: sweep, s", ("mfspark", True), ("kernel", True), "sweep"),
    ("recommendForAllUsers(10), s", ("mfspark_scoring", None), ("mllib_scoring", None), "recommend"),
    ("transform of all pairs, s", ("mfspark_scoring", None), ("mllib_scoring", None), "transform"),
    ("SGD epoch, s", ("sgd", None), ("libmf", None), "epoch"),
    ("SGD epoch of the kernel, one thread, s", ("sgd_kernel", None), ("libmf", None), "epoch_one_thread"),
)


def table(results: dict) -> str:
    """Return seconds per sweep as a Markdown table, one row per contender, one column per setting."""
    rows = [row for row in results["medians"] if row.get("sweep")]
    settings = sorted({(row["implicit"], row["size"], row["rank"]) for row in rows})
    heads = [f"{'implicit' if i else 'explicit'} {s // 1_000_000} M, rank {k}" for i, s, k in settings]
    lines = ["| seconds per sweep | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name, label in LABELS.items():
        cells = []
        for setting in settings:
            found = [r for r in rows if r["contender"] == name and (r["implicit"], r["size"], r["rank"]) == setting]
            cells.append(f"{found[0]['sweep']:.2f}" if found else "")
        if any(cells):
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ratios(results: dict) -> str:
    """Return each headline figure beside its peer's as a Markdown table, at rank 64 and the largest size."""
    rows = [row for row in results["medians"] if row.get("rank") == 64 and "error" not in row]
    largest = max(row["size"] for row in rows if row["contender"] == "mfspark")
    found = {(row["contender"], row.get("implicit")): row for row in rows if row["size"] == largest}
    lines = ["| what | mfspark | peer | ratio |", "|---|---|---|---|"]
    for label, ours, theirs, figure in HEADLINES:
        if ours in found and theirs in found:
            mine, other = found[ours][figure], found[theirs][figure]
            lines.append(f"| {label} | {mine:.2f} | {LABELS[theirs[0]]} {other:.2f} | {other / mine:.2f}x |")
    return "\n".join(lines)


def draw(rows: list[dict], folder: Path) -> None:
    """Draw seconds per sweep by rank and by size, and the held-out RMSE against time."""
    import matplotlib

    matplotlib.use("Agg")
    sweeps = [row for row in rows if row.get("sweep")]
    for implicit in (False, True):
        if sweeps:
            _sweeps(sweeps, implicit, folder)
    races = [row for row in rows if row.get("points")]
    if races:
        _race(races, folder)


def _sweeps(rows: list[dict], implicit: bool, folder: Path) -> None:
    from matplotlib import pyplot as plt

    largest = max(row["size"] for row in rows if row["contender"] == "mfspark")
    figure, axes = plt.subplots(1, 2, figsize=(11, 4))
    pairs = (("rank", lambda r: r["size"] == largest), ("size", lambda r: r["rank"] == 64))
    for axis, (by, chosen) in zip(axes, pairs, strict=True):
        for name, label in LABELS.items():
            mine = [r for r in rows if r["contender"] == name and r["implicit"] == implicit and chosen(r)]
            points = sorted((r[by], r["sweep"]) for r in mine)
            if points:
                axis.plot(*zip(*points, strict=True), marker="o", label=label)
        axis.set(xlabel=by, ylabel="seconds per sweep", xscale="log", yscale="log")
    ranks = sorted({row["rank"] for row in rows})
    axes[0].set_xticks(ranks, [str(rank) for rank in ranks])
    axes[0].minorticks_off()
    axes[0].set_title(f"{'implicit' if implicit else 'explicit'}, {largest:,} ratings")
    axes[1].set_title("rank 64")
    axes[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(folder / f"sweeps_{'implicit' if implicit else 'explicit'}.png", dpi=80)
    plt.close(figure)


def _race(rows: list[dict], folder: Path) -> None:
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4))
    for row in rows:
        axis.plot(*zip(*row["points"], strict=True), marker="o", markersize=3, label=LABELS[row["contender"]])
    best = min(error for row in rows for _, error in row["points"])
    last = max(spent for row in rows for spent, _ in row["points"])
    axis.set(xlabel="seconds since fit was called on a Parquet path", ylabel="held-out RMSE", xscale="log")
    axis.set_ylim(best - 0.005, best + 0.1)  # first iterations may be far above
    ticks = [tick for tick in (5, 10, 20, 50, 100, 200, 500, 1000) if tick < 2 * last]
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.minorticks_off()
    axis.set_title(f"{rows[0]['size']:,} ratings, rank {rows[0]['rank']}")
    axis.legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(folder / "race.png", dpi=80)
    plt.close(figure)
