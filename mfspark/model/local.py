"""A fitted model without Spark: for a web service, a notebook, a test. numpy and pyarrow only, nothing is compiled.

The numbers are those of the model on Spark (``factorization``), and so are its formulas: scores and predictions agree
to float32's rounding, folded-in rows to 1e-5, and ties are in the same order, that of the ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mfspark.errors import DataError, ParameterError
from mfspark.kernels.csr import Side
from mfspark.model.cold_start import filled
from mfspark.model.factorization import Factorization
from mfspark.model.local_files import Found, Options, read, write_mapped
from mfspark.model.local_lists import best_scored, popular_scored, unwanted
from mfspark.model.new_user import Explanation, NewUsers, Scored, require_folds
from mfspark.model.sorted_ids import SortedIds

Array = NDArray[Any]
Rated = Mapping[Any, float] | Iterable[Any]


class LocalModel:
    """A published or saved model in this process.

    It can be used by several threads at once, and pickles. Users and items are named by the ids that the model was
    fitted with. Get one by ``LocalModel.load``, or from a model on Spark by ``LocalModel(model.fitted)``.

    Parameters
    ----------
    fitted : Factorization
        The numbers.

    Examples
    --------
    >>> local = LocalModel(model.fitted)
    >>> local.recommend(1, 3, seen=["B00005JNBQ"])
    >>> local.recommend(local.fold_in({"B00005JNBQ": 5.0}), 3)
    """

    def __init__(self, fitted: Factorization) -> None:
        self.fitted = fitted
        self._found = Found(fitted, "FactorizationModel", None, None)
        self._source: tuple[str, dict[str, str], str | None] | None = None
        self._ids = tuple(SortedIds(fitted.ids[side], side.stem) for side in Side)
        self._new = NewUsers(fitted, self._ids[Side.ITEM])

    @classmethod
    def load(cls, path: str, version: int | str | None = None, storage_options: Options | None = None) -> Self:
        """Return the model at a path.

        Parameters
        ----------
        path : str
            A store in which models are published, a folder that ``FactorizationModel.save`` wrote, or one that
            ``LocalModel.save`` wrote, whose arrays are then mapped into memory and not read.
        version : int or str, optional
            Which published version, by its number or an alias such as "champion"; the newest by default.
        storage_options : mapping of str to str, optional
            What ``deltalake`` is told of the file system of a store.

        Raises
        ------
        StoreError
            There is no model, or no such version.
        SetupError
            A store is read and the package ``deltalake`` is missing.
        """
        found = read(path, version, storage_options)
        model = cls(found.fitted)
        model._found = found
        model._source = (path, dict(storage_options or {}), version if isinstance(version, str) else None)
        return model

    def save(self, path: str) -> None:
        """Write the model to a folder that does not exist, from which ``load`` maps it into memory.

        Raises
        ------
        StoreError
            Something exists at the path.
        """
        write_mapped(self._found, path)

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle takes along: the numbers, and where they came from."""
        return {name: self.__dict__[name] for name in ("fitted", "_found", "_source")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up what pickle brought."""
        self.__init__(state["fitted"])  # type: ignore[misc]
        self.__dict__ |= state

    def __repr__(self) -> str:
        """Say in one line what the model is."""
        version = "" if self.version is None else f"version {self.version}, "
        return "LocalModel: {}rank={}, {} users, {} items".format(version, self.fitted.rank, *map(len, self._ids))

    @property
    def version(self) -> int | None:
        """The number of the published version, None where the model was not published."""
        return self._found.version[0] if self._found.version else None

    def refreshed(self) -> Self:
        """Return the version now under the alias it was loaded by, else the newest of its store: perhaps this model.

        Raises
        ------
        ParameterError, StoreError
            The model was not loaded from a store, or the store cannot be read.
        """
        from mfspark.store.reader import Reader

        if self._source is None or self._found.version is None:
            raise ParameterError("only a model loaded from a store can be refreshed: LocalModel.load(location)")
        path, options, alias = self._source
        wanted = Reader(path, options).get(alias)
        if [wanted.version, wanted.attempt] == self._found.version:
            return self
        return self.load(path, alias, options)

    def ids(self, side: Side) -> pa.Array:
        """Return one side's ids in ascending order."""
        return self.fitted.ids[side]

    def typed(self, text: str, side: Side = Side.ITEM) -> Any:
        """Return an id from its text, as JSON has it; a text that is no such id stays as it is."""
        return self._ids[side].typed(text)

    def knows(self, user: Any) -> bool:
        """Return whether the model has factors of a user."""
        return bool(self._ids[Side.USER].places([user])[0] >= 0)

    def predict(self, users: Iterable[Any], items: Iterable[Any], cold_start: str = "nan") -> NDArray[np.float32]:
        """Return the predictions of pairs (n,).

        Parameters
        ----------
        users, items : sequences of ids, of one length
        cold_start : str, default "nan"
            What unknown ids get: NaN, or as by ``coldStartStrategy`` "mean" on Spark.

        Raises
        ------
        ParameterError
            One id was given instead of a list, the two have different lengths, or the model has no mean rating.
        DataError
            Some ids are of another type than the model's.
        """
        rows, columns = self._ids[Side.USER].places(users), self._ids[Side.ITEM].places(items)
        if len(rows) != len(columns):
            raise ParameterError(f"{len(rows)} users and {len(columns)} items make no pairs: give as many of both")
        known = (rows >= 0) & (columns >= 0)
        found = np.full(len(rows), np.nan, np.float32)
        found[known] = self.fitted.respond(self.fitted.pair_scores(rows[known], columns[known]))
        return filled(self.fitted, found, rows, columns, cold_start)

    def recommend(
        self,
        user: Any,
        k: int = 10,
        *,
        seen: Iterable[Any] | None = None,
        allow: Iterable[Any] | None = None,
        deny: Iterable[Any] | None = None,
        min_score: float | None = None,
    ) -> list[Scored]:
        """Return a user's best items, the best first, ties by the smaller id.

        Parameters
        ----------
        user : id, or array (padded,)
            A user of the model, or what ``fold_in`` returned.
        k : int, default 10
            How many, >= 1; fewer where there are fewer candidates.
        seen : iterable of item ids, optional
            What was rated, to be left out; ids that the model does not know are passed over.
        allow : iterable of item ids, optional
            The only candidates; all items by default.
        deny : iterable of item ids, optional
            What else to leave out.
        min_score : float, optional
            The smallest prediction to be recommended.

        Raises
        ------
        DataError
            The model does not know the user, or ids are of another type than the model's.
        """
        row = user if isinstance(user, np.ndarray) else self.fitted.sides[Side.USER][self._known(Side.USER, user)]
        ids = self._ids[Side.ITEM]
        chosen = None if allow is None else ids.known(allow)
        scores = self.fitted.scores(Side.USER, row, slice(None) if chosen is None else chosen)
        return best_scored(self.fitted, ids, scores, k, chosen, unwanted(ids, seen, deny), min_score)

    def similar(
        self,
        item: Any,
        k: int = 10,
        *,
        side: Side = Side.ITEM,
        allow: Iterable[Any] | None = None,
        deny: Iterable[Any] | None = None,
        min_score: float | None = None,
    ) -> list[Scored]:
        """Return the ids most similar to one of the same side by the cosine of their factors.

        Parameters
        ----------
        item : id
            Whose neighbours.
        k : int, default 10
            How many, >= 1; an id is not its own neighbour.
        side : Side, default Side.ITEM
            The side of the id.
        allow, deny, min_score
            As in ``recommend``, for ids of this side and their cosines.

        Raises
        ------
        DataError
            As ``recommend``.
        """
        ids, place = self._ids[side], self._known(side, item)
        features, norms = self.fitted.features(side), self._norms[side]
        chosen = None if allow is None else ids.known(allow)
        part = slice(None) if chosen is None else chosen
        cosines = (features[part] @ (features[place] / norms[place])) / norms[part]
        return best_scored(None, ids, cosines, k, chosen, np.append(unwanted(ids, deny), place), min_score)

    def popular(
        self,
        k: int = 10,
        *,
        span: str = "all",
        seen: Iterable[Any] | None = None,
        allow: Iterable[Any] | None = None,
        deny: Iterable[Any] | None = None,
    ) -> list[Scored]:
        """Return the items with the most training ratings, and how many: for users whom the model does not know.

        Parameters
        ----------
        k : int, default 10
            How many, >= 1; fewer where the list ends: 100, or as many as the train job was told.
        span : str, default "all"
            "recent" counts the last days before the newest rating, which only the train job does.
        seen, allow, deny
            As in ``recommend``.

        Raises
        ------
        ParameterError
            The model has no such list: it was not read from a store or a folder, or the ratings had no times.
        """
        ids = self._ids[Side.ITEM]
        return popular_scored(self._found.popular, ids, k, span, allow, unwanted(ids, seen, deny))

    def fold_in(self, ratings: Rated, weights: Mapping[Any, float] | None = None) -> NDArray[np.float64]:
        """Return the row (padded,) of a new user from ratings of known items, for ``recommend`` and ``predict_row``.

        It is the minimum of the model's own objective, the items held, as ``FactorizationModel.foldInUsers`` solves it.

        Parameters
        ----------
        ratings : mapping of item id to rating, or iterable of item ids
            The ratings; items alone have the rating 1.
        weights : mapping of item id to weight, optional
            Weights >= 0 of the ratings; 1 where there is none.

        Raises
        ------
        ParameterError
            The model has no such minimum: the refusal of ``foldInUsers``.
        DataError
            Some items are unknown, or ratings or weights cannot be used.
        TrainingError
            The equations have no finite solution.
        """
        require_folds(self.fitted.objective)
        return self._new.solve(self._new.rated(ratings, weights))

    def recommend_for(self, ratings: Rated, k: int = 10, **rules: Any) -> list[Scored]:
        """Return the best items of a new user: ``fold_in``, then ``recommend``, without the items rated.

        Parameters
        ----------
        ratings : mapping of item id to rating, or iterable of item ids
            As ``fold_in`` takes them.
        k : int, default 10
            How many.
        **rules
            As ``recommend`` takes them; ``seen`` is what was rated by default.

        Raises
        ------
        ParameterError, DataError, TrainingError
            As ``fold_in`` and ``recommend``.
        """
        ratings = ratings if isinstance(ratings, Mapping) else list(ratings)
        return self.recommend(self.fold_in(ratings), k, **{"seen": list(ratings)} | rules)

    def explain(self, ratings: Rated, item: Any, weights: Mapping[Any, float] | None = None) -> Explanation:
        """Return which of a user's ratings contribute how much to the score of an item.

        The user is solved from the ratings as by ``fold_in``; the solution is linear in them, so that the score is a
        sum of one part for each (Hu, Koren, Volinsky 2008, section 5).

        Parameters
        ----------
        ratings
            As ``fold_in`` takes them.
        item : id
            The item whose score is explained.
        weights
            As ``fold_in`` takes them.

        Raises
        ------
        ParameterError
            The model's scores are not such sums: what cannot be folded in, constraints, drawn negatives.
        DataError
            Some items are unknown, or ratings or weights cannot be used.
        """
        place, rated = self._known(Side.ITEM, item), list(ratings)
        found = self._new.explain(self._new.rated(ratings, weights), np.array([place]))
        order = np.argsort(-found.shares[0], kind="stable")
        parts = [Scored(rated[t], float(found.shares[0, t])) for t in order]
        return Explanation(float(found.scores[0]), float(found.bases[0]), parts)

    def _known(self, side: Side, one: Any) -> int:
        place = int(self._ids[side].places([one])[0])
        if place < 0:
            raise DataError(f"{side.stem} {one!r} is unknown to the model")
        return place

    @cached_property
    def _norms(self) -> tuple[Array, Array]:
        norms = [np.linalg.norm(self.fitted.features(side), axis=1) for side in Side]
        return np.where(norms[0] == 0, 1, norms[0]), np.where(norms[1] == 0, 1, norms[1])
