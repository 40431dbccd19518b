"""The gate: a new version takes an alias only if it beats the alias' version on the same held-out rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isfinite

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from mfspark.config import Config
from mfspark.config.sections import GateConfig
from mfspark.store import Location, ModelVersion, Registry, tables
from mfspark.store.standing import Alias

ERRORS = ("rmse", "mae")  # metrics of which the smaller is the better
SCHEMA = (
    "run_id string, model_version bigint, attempt string, alias string, metric string, margin double, value double, "
    "champion bigint, champion_value double, promoted boolean, reason string"
)
Measure = Callable[[ModelVersion], tuple[float, float]]
"""``measure(champion)`` returns the metric of the new version and of the champion on the same rows."""


@dataclass(frozen=True)
class Decision:
    """What became of a version at the gate: a row of the table ``gate``.

    Attributes
    ----------
    version : int
        The new version.
    alias, metric, margin
        As configured.
    value, champion_value : float or None
        The metric of the new version and of the champion; None where they were not compared.
    champion : int or None
        The version that it was to beat; None where there was none.
    promoted : bool
        Whether the alias points at it.
    reason : str
        Why, in words.
    settled : bool
        Whether it was decided on earlier, so that nothing is to be done.
    withdrawn : bool
        Whether the alias went back to the champion: a re-run had put a worse model in the place of the one that won.
    """

    version: int
    alias: str
    metric: str
    margin: float
    value: float | None
    champion: int | None
    champion_value: float | None
    promoted: bool
    reason: str
    settled: bool = False
    withdrawn: bool = False

    def line(self) -> str:
        """Return the decision as a line of text."""
        outcome = "promoted to" if self.promoted else "not promoted to"
        return f"gate         version {self.version} {outcome} {self.alias}: {self.reason}"


def better(metric: str, new: float, old: float, margin: float) -> bool:
    """Return whether a value beats another one by a margin; what cannot be measured beats nothing.

    Parameters
    ----------
    metric : str
        Its name, which tells the direction.
    new, old : float
        The values.
    margin : float
        The least gain, >= 0.

    Examples
    --------
    >>> better("rmse", 0.9, 0.92, 0.01), better("rmse", 0.9, 0.9, 0.0), better("ndcgAtK", 0.9, float("nan"), 0.0)
    (True, False, True)
    """
    if not (isfinite(new) and isfinite(old)):
        return isfinite(new)
    gain = old - new if metric in ERRORS else new - old
    return gain > 0 and gain >= margin


def decide(registry: Registry, gate: GateConfig, version: ModelVersion, measure: Measure) -> Decision:
    """Return what is to become of a version; nothing is changed.

    A version that the alias once pointed at has been decided on: whoever moved the alias since then, it stays. So it
    does where it points at a newer version. A re-run that published the version anew is decided on anew.

    Parameters
    ----------
    registry : Registry
        The store.
    gate : GateConfig
        The metric, the margin and the alias.
    version : ModelVersion
        The new version.
    measure : callable
        Measures it and the champion.
    """
    alias = registry.aliases().get(gate.alias)
    made = Decision(version.version, gate.alias, str(gate.metric), gate.margin, None, None, None, False, "")
    if alias is not None and any(
        (one.version, one.attempt) == (version.version, version.attempt) for one in alias.history
    ):
        here = alias.version == version.version
        reason = f"decided before, the alias is at version {alias.version}"
        return replace(made, promoted=here, reason=reason, settled=True)
    champion = _champion(registry, alias, version)
    if champion is None:
        return replace(made, promoted=True, reason="there is no version to beat")
    made = replace(made, champion=champion.version)
    if champion.version > version.version:
        return replace(made, reason=f"version {champion.version} is newer")
    value, other = measure(champion)
    won = better(made.metric, value, other, gate.margin)
    needed = f", margin {gate.margin:g}" if gate.margin else ""
    reason = f"{made.metric} {value:.4f}, version {champion.version} has {other:.4f}{needed}"
    return replace(made, value=value, champion_value=other, promoted=won, reason=reason)


def _champion(registry: Registry, alias: Alias | None, version: ModelVersion) -> ModelVersion | None:
    """Return the version that an alias points at, or pointed at before it did at an earlier attempt of this one."""
    there = {model.version: model for model in registry.list()}
    older = [number for number in (alias.trail if alias else ()) if number != version.version and number in there]
    return there[older[-1]] if older else None


def pass_gate(
    spark: SparkSession, config: Config, run_id: str, version: ModelVersion, measure: Measure
) -> Decision | None:
    """Decide, write the row of the run into the table ``gate``, then move the alias; None where no gate is configured.

    Parameters
    ----------
    spark : SparkSession
        The session.
    config : Config
        The store and the gate.
    run_id : str
        Under which the row is written; a repeated run replaces it by the same one.
    version : ModelVersion
        The new version.
    measure : callable
        As in ``decide``.
    """
    gate, registry = config.gate, Registry(spark, config.store.location)
    if gate.metric is None:
        return None
    made = decide(registry, gate, version, measure)
    if made.settled:
        return made
    row = (
        run_id, made.version, version.attempt, made.alias, made.metric, made.margin, made.value, made.champion,
        made.champion_value, made.promoted, made.reason,
    )  # fmt: skip
    written = spark.createDataFrame([row], SCHEMA).withColumn("decided_at", F.current_timestamp())
    tables.replace_slice(written, Location(config.store.location).table("gate"), "run_id", run_id)
    by = f"gate of run {run_id}"
    if made.promoted:
        registry.promote(made.version, made.alias, by)
    elif made.champion is not None and registry.alias(made.alias).version == made.version:
        registry.rollback(made.alias, by)  # a re-run put a worse model in the place of the one that had won
        return replace(made, withdrawn=True)
    return made


def points_at(registry: Registry, made: Decision, version: ModelVersion) -> ModelVersion | None:
    """Return the version that a decision has left its alias at; None where the decision changed nothing.

    Parameters
    ----------
    registry : Registry
        The store.
    made : Decision
        Of the gate.
    version : ModelVersion
        The version that was decided on.
    """
    if made.promoted:
        return version
    return registry.get(made.alias) if made.withdrawn else None
