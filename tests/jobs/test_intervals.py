"""What a scheduled run relies on: ratings of an interval of time, and an end where too many rows are bad."""

import pytest

from mfspark.config import parse
from mfspark.data.quality import Checked
from mfspark.data.reasons import DUPLICATE_OLDER, NULL_USER, OUT_OF_RANGE
from mfspark.errors import DataError
from mfspark.pipeline import ingest
from mfspark.pipeline.ratings import check_share, keeping, rated_within, recorded_ratings, training_record
from mfspark.store import tables

DAY = 86_400
EDGES = (None, 0, DAY, 2 * DAY, None)


def test_every_rating_is_in_just_one_of_the_intervals(spark):
    times = [-1, 0, 1, DAY - 1, DAY, DAY + 1, 2 * DAY, 2**33, None]
    rows = spark.createDataFrame([(i, time) for i, time in enumerate(times)], "user long, timestamp long").coalesce(1)
    comp = [
        [row["user"] for row in rated_within(rows, *edges).collect()]
        for edges in zip(EDGES[:-1], EDGES[1:], strict=True)
    ]
    # A rating without a time is older than all others.
    assert comp == [[0, 8], [1, 2, 3], [4, 5], [6, 7]]


@pytest.mark.parametrize(
    ("limit", "reasons", "told"),
    [
        (1.0, {NULL_USER: 100}, None),
        (0.25, {NULL_USER: 25}, None),
        (
            0.25,
            {NULL_USER: 20, OUT_OF_RANGE: 6},
            "26 of 100 rows were rejected .20 null user id, 6 rating out of range",
        ),
        (0.0, {DUPLICATE_OLDER: 99}, None),
        (
            0.0,
            {NULL_USER: 1, DUPLICATE_OLDER: 99},
            "1 of 100 rows were rejected .1 null user id., more than quality.max",
        ),
    ],
)
def test_the_share_of_rejected_rows(limit, reasons, told):
    config = parse({"store": {"location": "x"}, "quality": {"max_rejected": limit}})
    checked = Checked(None, None, 100, reasons)
    if told is None:
        check_share(config.quality, 100, checked)
        return
    with pytest.raises(DataError, match=told) as caught:
        check_share(config.quality, 100, checked)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    """Two days of ratings, the second with one bad row, and a function that makes a day's configuration."""
    folder = tmp_path_factory.mktemp("days")
    rows = [
        "u,i,1,1970-01-01T10:00:00",
        "v,i,2,1970-01-01T11:00:00",
        "u,j,3,1970-01-02T00:00:00",
        "v,j,9,1970-01-02T01:00:00",
    ]
    (folder / "ratings.csv").write_text("\n".join(["user,item,rating,timestamp", *rows]) + "\n")

    def config(day, **sections):
        source = {"path": str(folder / "ratings.csv"), "format": "csv", "mode": "append"}
        source |= {"since": f"1970-01-0{day}", "until": f"1970-01-0{day + 1}T00:00:00+00:00"}
        raw = {"store": {"location": str(folder / "store")}, "source": source, "quality": {"max_rating": 5}}
        return parse(raw | {"split": {"method": "none"}} | sections)

    return config


def test_a_day_is_ingested_once_and_a_day_of_bad_rows_not_at_all(spark, days):
    first = ingest(spark, days(1), "day-1")
    assert (first.rows_in, first.accepted) == (2, 2)
    strict = days(2, quality={"max_rating": 5, "max_rejected": 0.4})
    with pytest.raises(DataError, match="1 of 2 rows were rejected .1 rating out of range., more than"):
        ingest(spark, strict, "day-2")
    location = strict.store.location
    assert tables.read(spark, f"{location}/ratings").count() == 2
    assert [row["run_id"] for row in tables.read(spark, f"{location}/quarantine").collect()] == ["day-2"]
    second = ingest(spark, days(2), "day-2")
    assert (second.rows_in, second.accepted, second.rejected) == (2, 1, 1)
    again = ingest(spark, days(1), "day-1")  # cleared: its rows are replaced, the other day's stay
    assert again.accepted == 2
    assert tables.read(spark, f"{location}/ratings").count() == 3
    # A day that is trained again after the next one sees what it saw then.
    with keeping() as keep:
        for until, expected in ((None, 3), ("1970-01-02", 2)):
            config = days(1, train={"until": until})
            record = training_record(spark, config)
            assert recorded_ratings(spark, config, record, keep).count() == expected
