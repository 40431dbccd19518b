"""The jobs' configuration: YAML and ``--set`` overrides, checked before Spark starts."""

from mfspark.config.load import load, parse
from mfspark.config.sections import ESTIMATORS, SECTIONS, Config, SourceConfig, SplitConfig

__all__ = ["ESTIMATORS", "SECTIONS", "Config", "SourceConfig", "SplitConfig", "load", "parse"]
