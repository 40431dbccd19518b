"""The one model of the configuration: every section, every key, its type, default, limits and meaning."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from mfspark.config.inputs import QualityConfig, SourceConfig
from mfspark.config.parameters import Parameters
from mfspark.config.searching import TuneConfig
from mfspark.config.values import Flag, Number, Pairs, Section, Text, Version, Whole, instant, refuse
from mfspark.errors import without_secret
from mfspark.estimators.als import ALS
from mfspark.estimators.bpmf import BPMF
from mfspark.estimators.gradient_descent import GradientDescent
from mfspark.estimators.sgd import SGD
from mfspark.estimators.svdpp import SVDPlusPlus
from mfspark.estimators.truncated_svd import TruncatedSVD

RUN_ID = r"[\w.:+@=-]{1,200}"


def _run_id(value: str) -> str:
    words = "1 to 200 letters, digits or any of _ . : + @ = -"
    refuse(not re.fullmatch(RUN_ID, value), f"run_id: {value!r} is not allowed; give {words}")
    return value


class SparkConfig(Section):
    """The session."""

    app_name: Text = Field("mfspark", description="the application's name")
    master: Text | None = Field(None, description="a Spark master; without one spark-submit's, else local[*]")
    conf: Pairs = Field({}, description="Spark settings")


class StoreConfig(Section):
    """Where every table is kept."""

    location: Text = Field("", description="a directory, or catalog.schema")


class SplitConfig(Section):
    """The hold-out, the same for the same seed."""

    method: Literal["random", "leave_one_out", "leave_k_out", "strong", "time", "file", "probe", "none"] = Field(
        "random",
        description="a fraction of the ratings; one or k of each user, the latest where there are timestamps; a "
        "fraction of the users, whom evaluate folds in from most of their ratings to find the rest; the latest "
        "fraction; the ratings of another file, beside all those of the source; the pairs of a Netflix probe file; "
        "nothing",
    )
    fraction: Number = Field(0.1, gt=0, lt=1, description="what random, strong and time hold out")
    k: Whole = Field(1, ge=1, description="how many ratings of each user leave_k_out holds out")
    seed: Whole = Field(1, description="of random, leave_one_out, leave_k_out and strong")
    held_out: Text | None = Field(None, description="the file of ratings that method file holds out")
    probe: Text | None = Field(None, description="the probe file")

    @model_validator(mode="after")
    def _agrees(self) -> SplitConfig:
        given, method = self.model_fields_set, self.method
        refuse(
            "fraction" in given and method not in ("random", "strong", "time"),
            "split.fraction: only allowed with split.method random, strong or time",
        )
        refuse(
            "seed" in given and method not in ("random", "leave_one_out", "leave_k_out", "strong"),
            "split.seed: only allowed with split.method random, leave_one_out, leave_k_out or strong",
        )
        refuse("k" in given and method != "leave_k_out", "split.k: only allowed with split.method leave_k_out")
        refuse(
            (method == "probe") != (self.probe is not None),
            "split.probe: give the path of the probe file with split.method probe, and only then",
        )
        refuse(
            (method == "file") != (self.held_out is not None),
            "split.held_out: give the path of the ratings to hold out with split.method file, and only then",
        )
        return self


class TrainConfig(Section):
    """What is trained on: the ratings table that ingest wrote, or a path that is read and checked as ingest does."""

    path: Text | None = Field(None, description="ratings to train on directly, read as section source says")
    ratings_version: Whole | None = Field(None, ge=0, description="version of the ratings table; null: the newest")
    until: Text | None = Field(
        None, description="an ISO time: of the ratings table only what was rated before it, or has no time; null: all"
    )
    start_from: Literal["latest"] | None = Field(
        None, description="whose factors ids start from: the newest model of another run; drawn ones if there is none"
    )
    start_version: Version | None = Field(None, description="the model version whose factors ids start from")
    popular: Whole = Field(100, ge=1, description="items in the list of popular ones that is published with the model")
    recent_days: Number = Field(30.0, gt=0, description="days before the newest rating whose popular items are listed")

    @model_validator(mode="after")
    def _agrees(self) -> TrainConfig:
        refuse(
            self.path is not None and self.ratings_version is not None,
            "train.ratings_version: contradicts train.path, which is not the ratings table; give one of them",
        )
        refuse(
            self.path is not None and self.until is not None,
            "train.until: contradicts train.path, of which source.until picks the ratings; give that one",
        )
        instant("train.until", self.until)
        refuse(
            self.start_from is not None and self.start_version is not None,
            "train.start_version: contradicts train.start_from; give one of them",
        )
        return self


class ModelConfig(Section):
    """Which published model predict and evaluate take: a version, an alias or a run id; none: the latest."""

    version: Version | None = Field(None, description="a model version, by its number or an alias")
    run_id: Text | None = Field(None, description="the run that published the model")

    @model_validator(mode="after")
    def _agrees(self) -> ModelConfig:
        refuse(
            self.version is not None and self.run_id is not None,
            "model.version: contradicts model.run_id; give one of them, or neither for the latest model",
        )
        return self


class PredictConfig(Section):
    """What predict writes."""

    mode: Literal["top_n", "pairs"] = Field("top_n", description="the best n items of every user, or given pairs")
    n: Whole = Field(10, ge=1, description="items a user")
    users: Text | None = Field(
        None, description="a table, Parquet folder or csv file with a column user: who gets items; null: all users"
    )
    unknown_users: Literal["skip", "popular", "recent"] = Field(
        "skip", description="what users get whom the model does not know: nothing, or the items popular ever or lately"
    )
    filter_seen: Flag = Field(True, description="leave out what a user has rated in the training data")
    seen: Text | None = Field(None, description="further pairs to leave out: a table, Parquet folder or csv file")
    allow: Text | None = Field(
        None, description="the only candidates: a table, Parquet folder or csv file of items, or of pairs user and item"
    )
    deny: Text | None = Field(None, description="what else to leave out: items, or pairs, as allow")
    min_score: Number | None = Field(None, description="the smallest score that is recommended")
    pairs: Text | None = Field(None, description="a table, Parquet folder or csv file with the columns user and item")
    clip: Flag = Field(True, description="limit predictions of pairs to the quality bounds, where those are set")

    @model_validator(mode="after")
    def _agrees(self) -> PredictConfig:
        given, pairs = self.model_fields_set, self.mode == "pairs"
        refuse(
            pairs != (self.pairs is not None),
            "predict.pairs: give the path or table of the pairs with predict.mode pairs, and only then",
        )
        refuse(
            pairs and bool({"n", "users", "filter_seen", "seen", "allow", "deny", "min_score"} & given),
            "predict.n, users, filter_seen, seen, allow, deny, min_score: contradict predict.mode pairs; "
            "allowed only with predict.mode top_n",
        )
        offered = self.unknown_users != "skip"
        refuse(offered and self.users is None, "predict.unknown_users: needs predict.users, among whom they are")
        refuse(
            offered and self.min_score is not None,
            "predict.min_score: contradicts predict.unknown_users, whose items have counts, not scores",
        )
        refuse(
            not pairs and "clip" in given,
            "predict.clip: contradicts predict.mode top_n, which keeps the scores; "
            "allowed only with predict.mode pairs",
        )
        return self


class EvaluateConfig(Section):
    """What evaluate measures on the hold-out."""

    clip: Flag = Field(True, description="limit predictions to the quality bounds, else as the model does")
    damping_user: Number = Field(10.0, ge=0, description="regularisation of users in the bias-only baseline")
    damping_item: Number = Field(25.0, ge=0, description="regularisation of items in the bias-only baseline")
    k: Whole | None = Field(None, ge=1, description="adds ranking metrics of the best k unseen items")
    relevant: Number = Field(4.0, description="held-out ratings from here on are the ones to find")
    segments: Flag = Field(
        False, description="adds the table segments: metrics by deciles of the users' activity and items' popularity"
    )

    @model_validator(mode="after")
    def _agrees(self) -> EvaluateConfig:
        refuse(
            self.k is None and "relevant" in self.model_fields_set,
            "evaluate.relevant: only allowed with evaluate.k, which asks for ranking metrics",
        )
        return self


class GateConfig(Section):
    """Whether evaluate promotes: the model takes an alias if it beats that of the alias on its own hold-out."""

    metric: (
        Literal[
            "rmse",
            "mae",
            "precisionAtK",
            "recallAtK",
            "hitRateAtK",
            "ndcgAtK",
            "meanAveragePrecisionAtK",
            "meanReciprocalRank",
            "areaUnderROC",
        ]
        | None
    ) = Field(None, description="what is compared: of errors the smaller is better, else the larger; null: no gate")
    margin: Number = Field(0.0, ge=0, description="by how much more the new model must be better; any bit at 0")
    alias: Text = Field("champion", description="the name that the better model gets")

    @model_validator(mode="after")
    def _agrees(self) -> GateConfig:
        given = {"margin", "alias"} & self.model_fields_set
        refuse(self.metric is None and bool(given), "gate.margin, gate.alias: only allowed with gate.metric")
        return self


class ReportConfig(Section):
    """The training report, an HTML page a model version, written by train and evaluate; needs mfspark[report]."""

    path: Text | None = Field(None, description="folder of the pages, model-VERSION.html; null: no report")
    titles: Text | None = Field(
        None, description="titles of the items: a table, Parquet folder or csv file with the columns item and title"
    )

    @model_validator(mode="after")
    def _agrees(self) -> ReportConfig:
        refuse(
            self.path is not None and bool(re.match(r"[A-Za-z][\w+.-]+:", self.path)),
            "report.path: an address; give a folder that the driver can write, such as a mounted volume",
        )
        refuse(
            self.path is None and self.titles is not None,
            "report.titles: only allowed with report.path, which asks for a report",
        )
        return self


class TrackingConfig(Section):
    """A run of MLflow for every run id that trains; needs mfspark[mlflow]."""

    mlflow: Flag = Field(
        False, description="whether train and evaluate log to MLflow, to the active run if there is one"
    )
    uri: Text | None = Field(None, description="the tracking server; null: what MLflow itself is set to")
    experiment: Text | None = Field(None, description="the experiment; null: what MLflow itself is set to")
    register_as: Text | None = Field(
        None, description="the model's name in MLflow's registry, whose alias follows the gate; null: not registered"
    )

    @model_validator(mode="after")
    def _agrees(self) -> TrackingConfig:
        given = {"uri", "experiment", "register_as"} & self.model_fields_set
        refuse(
            not self.mlflow and bool(given), "tracking.uri, experiment, register_as: only allowed with tracking.mlflow"
        )
        return self


class Config(Section):
    """A job's whole configuration; the estimator is the one whose section is given, ALS where there is none."""

    run_id: Annotated[Text, AfterValidator(_run_id)] | None = Field(
        None, description="names the run; default: a new one"
    )
    als: Annotated[Mapping[str, Any], Parameters(ALS)] = {}
    sgd: Annotated[Mapping[str, Any], Parameters(SGD)] | None = None
    gradient_descent: Annotated[Mapping[str, Any], Parameters(GradientDescent)] | None = None
    truncated_svd: Annotated[Mapping[str, Any], Parameters(TruncatedSVD)] | None = None
    svdplusplus: Annotated[Mapping[str, Any], Parameters(SVDPlusPlus)] | None = None
    bpmf: Annotated[Mapping[str, Any], Parameters(BPMF)] | None = None
    spark: SparkConfig = SparkConfig()
    source: SourceConfig = SourceConfig()
    quality: QualityConfig = QualityConfig()
    store: StoreConfig = StoreConfig()
    split: SplitConfig = SplitConfig()
    train: TrainConfig = TrainConfig()
    model: ModelConfig = ModelConfig()
    predict: PredictConfig = PredictConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    gate: GateConfig = GateConfig()
    report: ReportConfig = ReportConfig()
    tune: TuneConfig = TuneConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _agrees(self) -> Config:
        given = [name for name in ESTIMATORS if name in self.model_fields_set]
        refuse(len(given) > 1, f"{', '.join(given)}: a model has one estimator; leave one of these sections")
        ranking = self.gate.metric not in (None, "rmse", "mae")
        refuse(ranking and self.evaluate.k is None, "gate.metric: ranking metrics need evaluate.k; set it to 10, say")
        refuse(not self.store.location, "store.location: missing; give a directory or catalog.schema")
        self.tune.check(self.estimator[0], SECTIONS[self.estimator[0]])
        self._keeps_no_secret()
        return self

    def _keeps_no_secret(self) -> None:
        """Refuse passwords in what is kept with a model, so that evaluate reads the same rows again."""
        kept = {
            "store.location": self.store.location,
            "train.path": self.train.path,
            "split.held_out": self.split.held_out,
            "split.probe": self.split.probe,
        }
        for key, value in kept.items():
            shown = without_secret(value or "")
            refuse(
                shown != (value or ""),
                f"{key}: {shown} has a password or a key, which would be kept in the store; give it to Spark instead, "
                "for example by spark.conf.spark.hadoop.fs.s3a.secret.key",
            )

    @property
    def estimator(self) -> tuple[str, Mapping[str, Any]]:
        """The section of the estimator, and its parameters."""
        return [(name, getattr(self, name)) for name in ESTIMATORS if getattr(self, name) is not None][-1]


def _parameters(name: str) -> Parameters | None:
    info = Config.model_fields[name]
    marks = [*info.metadata, *(mark for kind in getattr(info.annotation, "__args__", ()) for mark in _marks(kind))]
    return next((mark for mark in marks if isinstance(mark, Parameters)), None)


def _marks(kind: Any) -> tuple[Any, ...]:
    return getattr(kind, "__metadata__", ())


ESTIMATORS: dict[str, type] = {
    name: mark.estimator for name in Config.model_fields if (mark := _parameters(name)) is not None
}
"""The section of the configuration that stands for each estimator."""
SECTIONS: dict[str, type[Section]] = {
    name: mark.section if (mark := _parameters(name)) else info.annotation  # type: ignore[misc]
    for name, info in Config.model_fields.items()
    if name != "run_id"
}
"""Every section by its name, the estimators' included."""
