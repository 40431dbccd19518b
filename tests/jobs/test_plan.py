"""``mfspark-plan``, for bare counts and for a table; the table of jobs/README.md is what it prints."""

from pathlib import Path

import pytest

from jobs import plan

README = Path(__file__).resolve().parents[2] / "jobs" / "README.md"


def test_the_table_of_the_readme_is_what_the_command_prints(capsys):
    assert plan.main(["--series"]) == 0
    printed = capsys.readouterr().out
    assert printed in README.read_text(encoding="utf-8"), "put what `mfspark-plan --series` prints into jobs/README.md"
    assert "| 100 B | 1 B | 100 M |" in printed


def test_bare_counts(capsys):
    assert plan.main(["--ratings", "1e9", "--users", "5e6", "--items", "2e5", "--rank", "32", "--executors", "4"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert list(lines) == ["data", "cluster", "blocks", "carrier", "shuffled", "executor", "driver", "time"]
    assert lines["data"] == "1 B ratings, 5 M users, 200 k items, rank 32"
    assert lines["carrier"].startswith("broadcast (ids and factors are 707 MB")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ratings", "10"], "--ratings, --users and --items, all above 0"),
        (["--ratings", "10", "--users", "2", "--items", "2", "--memory", "much"], "amounts such as 512m"),
        (["--ratings", "10", "--users", "2", "--items", "2", "--executors", "0"], "--executors must be above 0"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, message, capsys):
    assert plan.main(arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith("mfspark-plan: ") and message in told and told.count("\n") == 1


def test_a_table_is_counted(spark, tmp_path, capsys):
    rows = [(u, i, 1.0) for u in range(40) for i in range(30) if (u * 7 + i) % 3 == 0]
    spark.createDataFrame(rows, "user int, item int, rating double").write.parquet(str(tmp_path / "ratings"))
    assert plan.main(["--table", str(tmp_path / "ratings"), "--executors", "2", "--cores", "2", "--rank", "8"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["data"] == f"{len(rows)} ratings, 40 users, 30 items, rank 8"
    by_formula, counted = (float(part.split(" kB")[0]) for part in lines["exchange"].split("formula, ") if "kB" in part)
    assert counted == pytest.approx(by_formula, rel=0.1)
