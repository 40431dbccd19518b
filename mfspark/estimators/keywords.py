"""Constructors with explicit keywords, whose defaults are those of the parameters and stand nowhere else."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec

P = ParamSpec("P")


def keywords(init: Callable[P, None]) -> Callable[P, None]:
    """Make an ``__init__`` that sets the parameters named by the keywords of the one decorated, whose body is empty.

    The keywords' defaults become the parameters' defaults; only what a caller gives is set, so that ``isSet`` tells
    the two apart. A keyword that is not in the signature is left to ``setParams``, whose error says who has it.

    Parameters
    ----------
    init : callable
        ``def __init__(self, *, rank: int = 10, ...) -> None: ...``

    Returns
    -------
    callable
        With the signature of ``init``, for editors, ``help`` and ``inspect``.

    Raises
    ------
    TypeError
        By the returned function: a value is given without its keyword, as in pyspark.ml.
    """
    defaults = defaults_of(init)

    @functools.wraps(init)
    def construct(self: Any, *args: Any, **values: Any) -> None:
        if args:
            raise TypeError(f"{type(self).__name__} takes keywords only, as in {type(self).__name__}(rank=10)")
        owner = next(cls for cls in type(self).__mro__ if vars(cls).get("__init__") is construct)
        super(owner, self).__init__()  # type: ignore[arg-type]
        self._setDefault(**defaults)
        self.setParams(**values)

    return construct  # type: ignore[return-value]


def defaults_of(init: Callable[..., None]) -> dict[str, Any]:
    """Return the keywords of an ``__init__`` with their defaults."""
    _, *parameters = inspect.signature(init).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters}


def with_keywords_of(cls: type, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of any keywords that shows those of a class's ``__init__``."""

    @functools.wraps(method)
    def shown(self: Any, **values: Any) -> Any:
        return method(self, **values)

    keywords = inspect.signature(cls.__init__)  # type: ignore[misc]
    shown.__signature__ = keywords.replace(return_annotation=cls.__name__)  # type: ignore[attr-defined]
    return shown
