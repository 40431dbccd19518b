"""Every error mfspark raises on purpose: one base, one class per kind of mistake."""


class MFSparkError(Exception):
    """Base of all errors raised on purpose; its message names what is wrong and what to do next."""


class DataError(MFSparkError, ValueError):
    """The input rows or columns cannot be used; the message names the column and the count."""


class ParameterError(MFSparkError, ValueError):
    """A parameter has a value that cannot take effect."""


class ConfigError(MFSparkError, ValueError):
    """A job's configuration is wrong; the message names the key and the allowed values."""


class StoreError(MFSparkError, LookupError):
    """A table or a model version does not exist, is not complete, or does not fit."""


class TrainingError(MFSparkError, RuntimeError):
    """Training cannot go on: it diverged, or an equation has no finite solution."""


class SetupError(MFSparkError, RuntimeError):
    """The machine lacks something mfspark needs (Java, JARs); the message says what to install."""
