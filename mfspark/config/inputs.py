"""The sections about what comes in: where the ratings are, and which of them are accepted."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from mfspark.config.values import Flag, Number, Pairs, Section, Text, Whole, instant, refuse


class SourceConfig(Section):
    """Where the ratings come from (see `mfspark.data.Source`)."""

    path: Text = Field("", description="a file, folder, glob or table name; what exists by that very name is no glob")
    format: Text = Field(
        "auto", description="auto, movielens, netflix, csv, parquet, table, synthetic, or one of Spark's"
    )
    user: Text = Field("user", description="column of users")
    item: Text = Field("item", description="column of items")
    rating: Text = Field("rating", description="column of ratings")
    timestamp: Text | None = Field("timestamp", description="column of times; null: do not read it")
    weight: Text | None = Field(None, description="column of weights")
    delimiter: Text | None = Field(None, description="between the fields of a line; found from the first lines")
    header: Flag | None = Field(None, description="whether the first line names the columns; found from it")
    encoding: Literal["utf-8", "utf-16", "utf-16le", "utf-16be", "latin-1"] | None = Field(
        None, description="of text files; utf-8, or utf-16 where the file starts with its byte order mark"
    )
    decimal: Literal[".", ","] = Field(".", description="the decimal mark of ratings and weights in text")
    thousands: Literal[",", ".", " ", "'"] | None = Field(None, description="what groups the digits of numbers in text")
    timestamp_format: Text | None = Field(
        None, description="how times are written, in Spark's letters: MM/dd/yyyy; without one seconds since 1970 or ISO"
    )
    since: Text | None = Field(
        None, description="an ISO time: only ratings from it on; those without a time count as older; null: all"
    )
    until: Text | None = Field(None, description="an ISO time: only ratings before it; null: all")
    version_as_of: Whole | None = Field(None, ge=0, description="version of a versioned table")
    id_type: Literal["long", "string"] | None = Field(None, description="of ids in text")
    scale: Number | None = Field(None, gt=0, description="size of format synthetic; 1 is the Netflix Prize")
    seed: Whole | None = Field(None, description="of format synthetic")
    mode: Literal["overwrite", "append"] = Field(
        "overwrite",
        description="the ratings table becomes this input, or only the rows of the same run id are replaced",
    )
    options: Pairs = Field({}, description="handed to Spark's reader, or to the synthetic source")

    @model_validator(mode="after")
    def _agrees(self) -> SourceConfig:
        synthetic = self.format == "synthetic"
        refuse(
            synthetic and bool(self.path),
            "source.path: contradicts source.format synthetic, which reads no file; leave one of them out",
        )
        refuse(
            not synthetic and bool({"scale", "seed"} & self.model_fields_set),
            "source.scale, source.seed: only allowed with source.format synthetic",
        )
        since, until = instant("source.since", self.since), instant("source.until", self.until)
        refuse(
            self.timestamp is None and (since is not None or until is not None),
            "source.since, source.until: need source.timestamp, the column of times",
        )
        refuse(since is not None and until is not None and since >= until, "source.since: must be before source.until")
        refuse(self.decimal == self.thousands, "source.thousands: is source.decimal, too; they must differ")
        return self


class QualityConfig(Section):
    """Which rows are accepted; the rest go to the table ``quarantine``."""

    min_rating: Number | None = Field(None, description="smallest rating accepted; null: any")
    max_rating: Number | None = Field(None, description="largest rating accepted; null: any")
    duplicates: Literal["last", "mean", "sum", "error", "keep"] = Field("last", description="of one user and item")
    max_rejected: Number = Field(
        1.0, ge=0, le=1, description="the share of rows that may be rejected, duplicates apart; beyond, nothing is used"
    )

    @model_validator(mode="after")
    def _agrees(self) -> QualityConfig:
        low, high = self.min_rating, self.max_rating
        refuse(
            low is not None and high is not None and low >= high,
            "quality.min_rating: must be below quality.max_rating",
        )
        return self
