"""The README's benchmark table and pictures, from the results."""

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
}


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


def draw(rows: list[dict], folder: Path) -> None:
    """Draw seconds per sweep by rank at the largest size, and by size at rank 64."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = [row for row in rows if row.get("sweep")]
    if not rows:
        return
    largest = max(row["size"] for row in rows)
    for implicit in (False, True):
        figure, axes = plt.subplots(1, 2, figsize=(11, 4))
        pairs = (("rank", lambda r: r["size"] == largest), ("size", lambda r: r["rank"] == 64))
        for axis, (by, chosen) in zip(axes, pairs, strict=True):
            for name, label in LABELS.items():
                mine = [r for r in rows if r["contender"] == name and r["implicit"] == implicit and chosen(r)]
                points = sorted((r[by], r["sweep"]) for r in mine)
                if points:
                    axis.plot(*zip(*points, strict=True), marker="o", label=label)
            axis.set(xlabel=by, ylabel="seconds per sweep", xscale="log", yscale="log")
        axes[0].set_title(f"{largest:,} ratings")
        axes[1].set_title("rank 64")
        axes[0].legend(fontsize=7)
        figure.tight_layout()
        figure.savefig(folder / f"sweeps_{'implicit' if implicit else 'explicit'}.png", dpi=110)
        plt.close(figure)
