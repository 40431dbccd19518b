"""What a report shows, as plain numbers and texts: made once from a model and its data, drawn by ``page``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from types import UnionType
from typing import Any, Self, get_args, get_origin, get_type_hints

TEXT = 160  # how many characters of a text from the data are kept


@dataclass(frozen=True)
class Bin:
    """How many values lie between ``low`` and ``high``, both included where they are equal."""

    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Group:
    """The errors of predictions whose user (or item) has between ``low`` and ``high`` ratings."""

    low: int
    high: int
    ratings: int
    rmse: float
    mae: float


@dataclass(frozen=True)
class Spread:
    """The predictions of ratings between ``low`` and ``high``: how many, and their quantiles 5, 25, 50, 75, 95 %."""

    low: float
    high: float
    count: int
    quantiles: Sequence[float]


@dataclass(frozen=True)
class Ratings:
    """The ratings that were given to the report: their number and distribution, and the sizes of users and items."""

    count: int
    not_finite: int
    values: Sequence[Bin]
    users: Sequence[Bin]
    items: Sequence[Bin]


@dataclass(frozen=True)
class Errors:
    """Predicted against actual ratings, of a bounded sample; ``unpredicted`` have an id the model does not know."""

    of: str
    sample: int
    unpredicted: int
    rmse: float
    mae: float
    spreads: Sequence[Spread]
    by_user: Sequence[Group]
    by_item: Sequence[Group]


@dataclass(frozen=True)
class Point:
    """An item on the map: its id, title and ratings (None where unknown), and where it lies."""

    id: str
    title: str | None
    ratings: int | None
    x: float
    y: float


@dataclass(frozen=True)
class Map:
    """Items by the first two principal components of their factors, and the share of the variance each explains."""

    points: Sequence[Point]
    shares: Sequence[float]


@dataclass(frozen=True)
class Neighbour:
    """A similar item and the cosine of the factors."""

    id: str
    title: str | None
    similarity: float


@dataclass(frozen=True)
class Known:
    """A known item and those nearest to it."""

    id: str
    title: str | None
    ratings: int | None
    neighbours: Sequence[Neighbour]


@dataclass(frozen=True)
class Version:
    """The published version that is shown."""

    number: int
    run_id: str
    created_at: str
    store: str


@dataclass(frozen=True)
class Rejected:
    """A reason why rows were rejected: how many, and the raw text of one of them."""

    reason: str
    rows: int
    example: str | None


@dataclass(frozen=True)
class Quality:
    """What became of the rows of the input; None where the store does not say."""

    rows_in: int | None
    accepted: int | None
    rejected: Sequence[Rejected]


@dataclass(frozen=True)
class Table:
    """A table that was read or written, with its version where one is known."""

    name: str
    role: str
    version: int | None


@dataclass(frozen=True)
class Before:
    """The version before: its metrics, and its parameters by their names."""

    number: int
    run_id: str
    metrics: Mapping[str, float]
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Facts:
    """Everything a page shows; what is None or empty has no section but a line that says why.

    Attributes
    ----------
    model : str
        The model's class.
    rank, users, items : int
        Its size.
    history : sequence of mapping
        One line an iteration: iteration, loss, fit, regularisation, validationRMSE, seconds.
    parameters : mapping
        Everything the model was fitted with, by name.
    spectrum : sequence of float
        The singular values of the product of the factors, largest first.
    ratings, errors, map, known
        What ratings and factors show.
    version, metrics, stages, quality, lineage, before
        What a store knows: the metrics of evaluations by name, seconds by stage, tables, the version before.
    """

    model: str
    rank: int
    users: int
    items: int
    history: Sequence[Mapping[str, float | None]] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    spectrum: Sequence[float] = ()
    ratings: Ratings | None = None
    errors: Errors | None = None
    map: Map | None = None
    known: Sequence[Known] = ()
    version: Version | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    stages: Mapping[str, float] = field(default_factory=dict)
    quality: Quality | None = None
    lineage: Sequence[Table] = ()
    before: Before | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the facts as JSON can hold them."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Return the facts that ``as_json`` stored."""
        return _made(cls, stored)


def _made(kind: Any, value: Any) -> Any:
    """Return a JSON value as the type that a field says."""
    if get_origin(kind) is UnionType:
        kind = next(part for part in get_args(kind) if part is not type(None))
    if value is None or kind is Any:
        return value
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{part.name: _made(hints[part.name], value[part.name]) for part in fields(kind)})  # type: ignore[operator]
    if get_origin(kind) is Sequence:
        return tuple(_made(get_args(kind)[0], part) for part in value)
    return value


def shortened(text: Any) -> str | None:
    """Return a text of the data, cut to what a page shows."""
    if text is None:
        return None
    whole = str(text)
    return whole if len(whole) <= TEXT else whole[: TEXT - 1] + "…"
