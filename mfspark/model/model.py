"""The fitted model: predictions, recommendations, similar ids, fold-in, and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from mfspark.blocks.columns import Columns
from mfspark.errors import ParameterError
from mfspark.kernels.csr import Side
from mfspark.model.fold_in import fold_in
from mfspark.model.ids import IdColumns
from mfspark.model.params import block_size, cold_start
from mfspark.model.predict import add_predictions, pair_data
from mfspark.model.recommend import Recommender, unit_rows
from mfspark.model.stored import StoredModel


class FactorizationModel(StoredModel):
    """A fitted factorization, with the face of ``pyspark.ml.recommendation.ALSModel``.

    Ids come out in the type in which they were given. ``coldStartStrategy``, ``predictionCol``, ``userCol``,
    ``itemCol``, ``blockSize`` and ``filterSeen`` are copied from the estimator and can be set anew.

    ``transform(dataset)`` adds a float column ``predictionCol``, NaN where an id is null or unknown (such rows are left
    out with ``coldStartStrategy`` "drop"). It raises DataError where the column exists already or an id column is
    missing or has another type; an id that is not a whole number fails the job that evaluates it, as in MLlib.
    ``save(path)`` raises StoreError where anything exists at the path; ``write().overwrite().save(path)`` replaces it.
    """

    def _transform(self, dataset: DataFrame) -> DataFrame:
        ids = self._id_columns()
        users, items = (ids.column(dataset, side) for side in Side)
        drops = cold_start(self.getOrDefault("coldStartStrategy")) == "drop"
        if self._data is None:
            self._data = pair_data(self.fitted)
        name = self.getOrDefault("predictionCol")
        predicted = add_predictions(dataset, users, items, name, self._data)
        return predicted.where(~F.isnan(F.col(f"`{name}`"))) if drops else predicted

    def _id_columns(self) -> IdColumns:
        return IdColumns((self.getOrDefault("userCol"), self.getOrDefault("itemCol")), self._kinds, self.fitted.ids)

    def _recommender(self) -> Recommender:
        return Recommender(self.fitted, self._id_columns(), block_size(self.getOrDefault("blockSize")))

    def _recommend_all(self, side: Side, n: int, seen: DataFrame | None) -> DataFrame:
        kept = self._seen_blocks
        if seen is None and kept is not None and side in kept.sides and self.getOrDefault("filterSeen"):
            return self._recommender().for_kept(side, n, kept)
        return self._recommender().for_all(side, n, self._pairs_seen(seen))

    def recommendForAllUsers(self, numItems: int, seen: DataFrame | None = None) -> DataFrame:
        """Return each user's best items: userCol, recommendations array<struct<itemCol, rating>>.

        Parameters
        ----------
        numItems : int
            How many; fewer where there are fewer candidates.
        seen : DataFrame, optional
            Pairs (userCol, itemCol) to leave out. With ``filterSeen`` the training data is the default.

        Raises
        ------
        ParameterError
            The number is no int or less than 1, or ``filterSeen`` is set and a loaded model was given no ``seen``.
        DataError
            ``seen`` has no such column, or one of another type.
        """
        return self._recommend_all(Side.USER, numItems, seen)

    def recommendForAllItems(self, numUsers: int, seen: DataFrame | None = None) -> DataFrame:
        """Return each item's best users: itemCol, recommendations array<struct<userCol, rating>>.

        ``recommendForAllUsers`` with the sides swapped; so are its parameters and errors.
        """
        return self._recommend_all(Side.ITEM, numUsers, seen)

    def recommendForUserSubset(self, dataset: DataFrame, numItems: int, seen: DataFrame | None = None) -> DataFrame:
        """Return the best items of the distinct known users in a data set's userCol.

        Parameters
        ----------
        dataset : DataFrame
            Whose users; ids that the model does not know have no row in the result.
        numItems : int
            How many; fewer where there are fewer candidates.
        seen : DataFrame, optional
            Pairs (userCol, itemCol) to leave out. With ``filterSeen`` the training data is the default.

        Raises
        ------
        ParameterError
            As ``recommendForAllUsers``.
        DataError
            An id column is missing, has another type, or holds ids that are not whole numbers.
        """
        return self._recommender().for_subset(Side.USER, dataset, numItems, self._pairs_seen(seen))

    def recommendForItemSubset(self, dataset: DataFrame, numUsers: int, seen: DataFrame | None = None) -> DataFrame:
        """Return the best users of the distinct known items in a data set's itemCol.

        ``recommendForUserSubset`` with the sides swapped; so are its parameters and errors.
        """
        return self._recommender().for_subset(Side.ITEM, dataset, numUsers, self._pairs_seen(seen))

    def similarItems(self, items: Sequence[Any] | None = None, num: int = 10) -> DataFrame:
        """Return the items most similar by the cosine of their factors: itemCol, recommendations.

        Parameters
        ----------
        items : sequence of ids, optional
            Whose neighbours; all items by default.
        num : int, default 10
            How many; an item is not its own neighbour.

        Raises
        ------
        ParameterError
            ``items`` is one id instead of a list, or the number is no int or less than 1.
        DataError
            Some ids are of another type than the model's, not whole, or unknown to the model.
        """
        return self._recommender().similar(Side.ITEM, items, num)

    def similarUsers(self, users: Sequence[Any] | None = None, num: int = 10) -> DataFrame:
        """Return the users most similar by the cosine of their factors: userCol, recommendations.

        ``similarItems`` with the sides swapped; so are its parameters and errors.
        """
        return self._recommender().similar(Side.USER, users, num)

    def foldInUsers(self, ratings: DataFrame, ratingCol: str = "rating", weightCol: str | None = None) -> DataFrame:
        """Return factors for users from their ratings of known items: id, features (and bias).

        Each is the minimum of the model's own objective, the items held: a training user's ratings give back that
        user's factors, exactly after ALS, up to its remaining noise after a descent. Items must be known to the model.

        Parameters
        ----------
        ratings : DataFrame
            userCol, itemCol and the columns below. Users may be new; items must be known to the model.
        ratingCol : str, default "rating"
            Column of ratings; empty: every rating is 1.
        weightCol : str, optional
            Column of weights >= 0.

        Raises
        ------
        ParameterError
            The model has no such minimum: its loss is not the squared one, or BPMF, SVDPlusPlus or TruncatedSVD
            fitted it; of items also where SGD drew negatives.
        DataError
            Some items are unknown, or ids or ratings cannot be used.
        """
        return fold_in(self.fitted, self._id_columns(), Side.USER, ratings, self._columns(ratingCol, weightCol))

    def foldInItems(self, ratings: DataFrame, ratingCol: str = "rating", weightCol: str | None = None) -> DataFrame:
        """Return factors for items from the ratings that known users gave them: id, features (and bias).

        ``foldInUsers`` with the sides swapped; so are its parameters and errors.
        """
        return fold_in(self.fitted, self._id_columns(), Side.ITEM, ratings, self._columns(ratingCol, weightCol))

    def _columns(self, rating: str, weight: str | None) -> Columns:
        return Columns(self.getOrDefault("userCol"), self.getOrDefault("itemCol"), rating, weight)

    def _pairs_seen(self, seen: DataFrame | None) -> DataFrame | None:
        if seen is None and self.getOrDefault("filterSeen"):
            if self._seen is None:
                raise ParameterError("filterSeen needs the pairs to leave out: a loaded model takes them as seen=...")
            seen = self._seen
        return seen

    def unpersist(self) -> FactorizationModel:
        """Let go of the training pairs that ``filterSeen`` keeps on the workers; they are read again when needed."""
        if self._seen_blocks is not None:
            self._seen_blocks.release()
            self._seen_blocks = None
        return self

    def similarity_arrays(self, side: Side) -> np.ndarray:
        """Return one side's factors with rows of length 1 (n x rank); a zero row stays zero."""
        return unit_rows(self.fitted.features(side))

    def ids(self, side: Side) -> pa.Array:
        """Return one side's ids in index order."""
        return self.fitted.ids[side]
