"""Every error mfspark raises on purpose: one base, one class per kind of mistake; and what no message may say."""

import re
from collections.abc import Iterable

_LOGIN = re.compile(r"(?<=//)[^/@\s:]*:[^/\s]+(?=@)")
_SECRET = re.compile(
    r"((?:password|passwd|secret|token|credential|access[._-]?key|account[._-]?key|\bsig(?:nature)?)[\w.-]*"
    r"(?:['\"]?\s*=\s*|['\"]\s*:\s*|:\s*(?=['\"])))(?:'[^']*'|\"[^\"]*\"|[^\s'\",;&}]+)",
    re.IGNORECASE,
)


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


class TransportError(MFSparkError, RuntimeError):
    """A task did not hear from another one in time; the message says from which."""


class SetupError(MFSparkError, RuntimeError):
    """The machine lacks something mfspark needs (Java, JARs); the message says what to install."""


def missing_column(name: str, columns: Iterable[str], where: str = "the data", advice: str = "") -> DataError:
    """Return the error for a column that is not there.

    Parameters
    ----------
    name : str
        The column.
    columns : iterable of str
        Those that are there.
    where : str
        What has them.
    advice : str
        What to do next, where the message does not say it by itself.
    """
    there = ", ".join(columns)
    return DataError(f"{where} has no column {name!r}; the columns are {there or 'none'}{advice and '; '}{advice}")


def without_secret(text: str) -> str:
    """Return a text without the logins in its addresses and the values of what is called a password, token or key.

    Examples
    --------
    >>> without_secret("s3a://key:secret@bucket/ratings")
    's3a://***@bucket/ratings'
    >>> without_secret("--set source.options.password=abc: unknown key")
    '--set source.options.password=*** unknown key'
    """
    return _SECRET.sub(r"\1***", _LOGIN.sub("***", text))
