"""The Netflix Prize layouts: lines ``customer,rating,date`` under a line ``MovieID:``, and probe.txt.

A movie's id stands only in the line above its ratings, and Spark cuts large files into splits that know nothing of each
other. So the last movie line of every split is found first (only files of more than one split are scanned), and each
split then starts with the movie that was open where it begins. Lines stay where they are: nothing is shuffled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyspark.sql.functions as F
from pyspark.sql import DataFrame, SparkSession

from mfspark.data.fields import select_parsed
from mfspark.data.reasons import NO_MOVIE, UNPARSABLE
from mfspark.data.source import Source, clear_errors, existing_files, files_of, located
from mfspark.data.text import nonblank
from mfspark.errors import DataError

MOVIE_LINE = r"^\s*(\d{1,18})\s*:\s*$"
COLON_LINE = r":\s*$"
FILES = ("mv_*.txt", "mv_*.txt.gz", "combined_data_*.txt", "combined_data_*.txt.gz")
FIELDS = {"user": 0, "rating": 1, "timestamp": 2}
_TAGGED = pa.schema([("value", pa.string()), ("movie", pa.string()), ("error", pa.string())])


def read_netflix(spark: SparkSession, source: Source) -> DataFrame:
    """Read a folder of mv_*.txt and combined_data_*.txt files (or one such file): customer = user, movie = item.

    Every line that is no ``MovieID:`` line is one row. A line ending in a colon whose id is no number is an unparsable
    row, and the lines below it have no movie until the next good one: they are rows with an error, not lost.
    """
    lines = tag_movies(spark, source, _rating_paths(spark, source))
    fields = F.split("value", ",")
    texts = {role: F.get(fields, F.lit(position)) for role, position in FIELDS.items()} | {"item": F.col("movie")}
    return select_parsed(lines, texts, F.size(fields) != len(FIELDS), source.id_type or "long", source)


def read_probe(spark: SparkSession, source: Source) -> DataFrame:
    """Read probe.txt: (user, item) pairs without ratings, as user, item, raw, error (one row a customer line).

    Parameters
    ----------
    spark : SparkSession
        The session.
    source : Source
        The path of probe.txt, and the type of its ids.
    """
    source = located(spark, source)
    existing_files(spark, source.path)
    lines = tag_movies(spark, source, [source.path])
    id_type = source.id_type or "long"
    user, item = F.trim("value").try_cast(id_type), F.col("movie").try_cast(id_type)
    error = F.coalesce(F.col("error"), F.when(user.isNull(), UNPARSABLE))
    return lines.select(user.alias("user"), item.alias("item"), F.col("value").alias("raw"), error.alias("error"))


def read_probe_as_ratings(spark: SparkSession, source: Source) -> DataFrame:
    """Refuse probe.txt as a source of ratings, and say what it is for."""
    existing_files(spark, source.path)
    raise DataError(
        f"{source.path!r} is a Netflix probe file: it has no ratings. Read the ratings from the movie files and mark "
        "the probe's rows with read_probe and splits.mark_probe"
    )


def tag_movies(spark: SparkSession, source: Source, paths: list[str]) -> DataFrame:
    """Return every nonblank line below a movie line with that movie's id: value, movie, error; movie lines are gone."""
    with clear_errors(source.path):
        lines = spark.read.options(**{key: str(value) for key, value in source.options.items()}).text(paths)
        lines = lines.where(nonblank("value")).select(
            "value",
            F.col("_metadata.file_path").alias("file"),
            F.col("_metadata.file_block_start").alias("start"),
            (F.col("_metadata.file_block_length") < F.col("_metadata.file_size")).alias("cut"),
            F.xxhash64("_metadata.file_path", "_metadata.file_block_start").alias("split"),
        )
        carried = _movie_lines_at_split_starts(lines)
    schema = ", ".join(f"{name} string" for name in _TAGGED.names)
    return lines.select("value", "split", (F.col("start") > 0).alias("later")).mapInArrow(_tagger(carried), schema)


def _movie_lines_at_split_starts(lines: DataFrame) -> dict[int, str | None]:
    """Return the movie line that is open where each split of a cut file begins, by the split's hash."""
    movie_line = F.col("value").rlike(COLON_LINE)
    ordered = lines.where("cut").withColumn("order", F.when(movie_line, F.monotonically_increasing_id()))
    last = F.max_by("value", "order").alias("last")
    rows = ordered.groupBy("file", "start", "split").agg(last).orderBy("file", "start").collect()
    carried: dict[int, str | None] = {}
    file, movie = None, None
    for row in rows:
        if row["file"] != file:
            file, movie = row["file"], None
        carried[row["split"]] = movie
        movie = movie if row["last"] is None else row["last"]
    return carried


def _tagger(carried: dict[int, str | None]) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function that walks a partition's lines in order and writes the open movie beside each line."""

    def tag(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        split, movie_line = None, None
        for batch in batches:
            splits = batch.column("split").to_numpy()
            bounds = [0, *(np.flatnonzero(splits[1:] != splits[:-1]) + 1), batch.num_rows]
            for begin, end in zip(bounds[:-1], bounds[1:], strict=True):
                if begin == end:
                    continue
                if int(splits[begin]) != split:
                    split = int(splits[begin])
                    if batch.column("later")[begin].as_py() and split not in carried:
                        raise RuntimeError("the file's splits changed while it was read; read it again")
                    movie_line = carried.get(split)
                tagged, movie_line = tag_lines(batch.column("value").slice(begin, end - begin), movie_line)
                yield tagged

    return tag


def tag_lines(values: pa.StringArray, movie_line: str | None) -> tuple[pa.RecordBatch, str | None]:
    """Tag consecutive lines of one file with their movie.

    Parameters
    ----------
    values : pa.StringArray
        Lines, in the order of the file.
    movie_line : str or None
        The last line ending in a colon above them.

    Returns
    -------
    tuple
        Batch of value, movie, error without the movie lines; and the movie line that is open after the last line.
    """
    colon = np.asarray(pc.match_substring_regex(values, COLON_LINE).to_numpy(zero_copy_only=False), dtype=bool)
    where = np.flatnonzero(colon)
    heads = pa.concat_arrays(
        [pa.array([movie_line or ""], pa.string()), values.take(pa.array(where)).cast(pa.string())]
    )
    good = pc.match_substring_regex(heads, MOVIE_LINE)
    ids = pc.if_else(good, pc.replace_substring_regex(heads, MOVIE_LINE, r"\1"), pa.scalar(None, pa.string()))
    # Position in `heads` of the movie line above each line: how many were seen up to it.
    head_of = np.cumsum(colon)
    movie = ids.take(pa.array(head_of))
    is_movie_line = colon & np.asarray(good.to_numpy(zero_copy_only=False), dtype=bool)[head_of]
    error = pc.if_else(
        pa.array(colon), UNPARSABLE, pc.if_else(pc.is_null(movie), NO_MOVIE, pa.scalar(None, pa.string()))
    )
    batch = pa.RecordBatch.from_arrays([values, movie, error], schema=_TAGGED)
    return batch.filter(pa.array(~is_movie_line)), heads[-1].as_py() if good[-1].as_py() else None


def _rating_paths(spark: SparkSession, source: Source) -> list[str]:
    files = existing_files(spark, source.path)
    if len(files) == 1:
        return [source.path]
    patterns = [f"{source.path.rstrip('/')}/{name}" for name in FILES]
    found = [pattern for pattern in patterns if files_of(spark, pattern)]
    if not found and files_of(spark, source.path.rstrip("/") + "/*.txt"):
        raise DataError(f"{source.path!r} has no Netflix rating files ({', '.join(FILES)})")
    if {pattern.rsplit("/", 1)[1][:2] for pattern in found} == {"mv", "co"}:
        raise DataError(f"{source.path!r} holds both mv_* and combined_data_* files: every rating would be read twice")
    return found or [source.path]
