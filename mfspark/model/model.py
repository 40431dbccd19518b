"""The fitted model: predictions, recommendations, similar ids, fold-in, and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from mfspark.blocks.columns import Columns, require_frame
from mfspark.errors import ParameterError
from mfspark.kernels.csr import Side
from mfspark.kernels.rows import unit_rows
from mfspark.model.answers import Fitted, Recommends
from mfspark.model.cold_start import ColdStart
from mfspark.model.explain import explain
from mfspark.model.fold_in import extended
from mfspark.model.ids import IdColumns
from mfspark.model.params import block_size, cold_start
from mfspark.model.popular import offered
from mfspark.model.reporting import ReportedModel
from mfspark.model.rules import Ids, Pairs, Rules, allowed_best, at_least, bind, bind_ids
from mfspark.model.sorted_ids import how_many


class FactorizationModel(ReportedModel):
    """A fitted factorization, with the face of ``pyspark.ml.recommendation.ALSModel``.

    Ids come out in the type in which they were given. ``coldStartStrategy``, ``predictionCol``, ``userCol``,
    ``itemCol``, ``blockSize`` and ``filterSeen`` are copied from the estimator and can be set anew.

    ``transform(dataset)`` adds a float column ``predictionCol``, NaN where an id is null or unknown; with
    ``coldStartStrategy`` "drop" such rows are left out, with "mean" they get the intercept plus the known id's bias
    where the model has both, else the mean training rating. It raises DataError where the column exists already or an
    id column is missing or has another type; an id that is not a whole number fails the job that evaluates it.
    ``save(path)`` raises StoreError where anything exists at the path; ``write().overwrite().save(path)`` replaces it.
    """

    def _transform(self, dataset: DataFrame) -> DataFrame:
        strategy, name = cold_start(self.getOrDefault("coldStartStrategy")), self.getOrDefault("predictionCol")
        cold = ColdStart.of(self.fitted) if strategy == "mean" else None
        predicted = self._answers.predict(dataset, self._id_columns(), name, cold)
        return predicted.where(~F.isnan(F.col(f"`{name}`"))) if strategy == "drop" else predicted

    def _id_columns(self) -> IdColumns:
        return IdColumns((self.getOrDefault("userCol"), self.getOrDefault("itemCol")), self._kinds)

    def _recommender(self) -> Recommends:
        return self._answers.recommender(self._id_columns(), block_size(self.getOrDefault("blockSize")))

    def _recommend(self, side: Side, n: int, rules: Rules, dataset: DataFrame | None = None) -> DataFrame:
        """Return recommendations under rules, for all ids of a side or those of a data set."""
        if rules.binding:
            how_many(n, "the number of recommendations")
            whole = rules._replace(seen=self._pairs_seen(None) if rules.seen is None else rules.seen)
            bound = bind(whole, self._id_columns(), side)
            model = self.of_numbers(self._answers.restricted(self._id_columns(), side.other, bound.candidates))
            if bound.allowed is not None:
                found = allowed_best(model, side, n, bound, dataset)
            else:
                found = model._best(side, n, bound.out, dataset)
        else:
            found = self._best(side, n, rules.seen, dataset)  # type: ignore[arg-type]
        return at_least(found, "rating", rules.min_score)

    def _best(self, side: Side, n: int, seen: DataFrame | None, dataset: DataFrame | None) -> DataFrame:
        if dataset is not None:
            return self._recommender().for_subset(side, dataset, n, self._pairs_seen(seen))
        kept = self._seen_blocks
        if seen is None and kept is not None and side in kept.sides and self.getOrDefault("filterSeen"):
            return self._recommender().for_all(side, n, None, kept)
        return self._recommender().for_all(side, n, self._pairs_seen(seen))

    def of_numbers(self, fitted: Fitted) -> Self:
        """Return a model of other numbers with this one's parameters and types of ids, which filters nothing itself."""
        model = type(self)(fitted)
        self._copyValues(model)
        model._kinds = self._kinds
        return model.setParams(filterSeen=False)  # type: ignore[return-value]

    def recommendForAllUsers(
        self, numItems: int, seen: Pairs = None, allow: Ids = None, deny: Ids = None, minScore: float | None = None
    ) -> DataFrame:
        """Return each user's best items: userCol, recommendations array<struct<itemCol, rating>>, ties by the id.

        Parameters
        ----------
        numItems : int
            How many; fewer where there are fewer candidates.
        seen : DataFrame or sequence of DataFrame, optional
            Pairs (userCol, itemCol) to leave out. With ``filterSeen`` the training data is the default.
        allow : DataFrame or iterable of ids, optional
            The only candidates: items for all users, or a frame of pairs (userCol, itemCol). With pairs, users who have
            none left have no row.
        deny : DataFrame or iterable of ids, optional
            What else to leave out: items for all users, or a frame of pairs.
        minScore : float, optional
            The smallest rating that is recommended.

        Raises
        ------
        ParameterError
            The number is no int or less than 1, or ``filterSeen`` is set and a loaded model was given no ``seen``.
        DataError
            A frame has no such column, or one of another type.
        """
        return self._recommend(Side.USER, numItems, Rules(seen, allow, deny, minScore))

    def recommendForAllItems(
        self, numUsers: int, seen: Pairs = None, allow: Ids = None, deny: Ids = None, minScore: float | None = None
    ) -> DataFrame:
        """Return each item's best users: itemCol, recommendations array<struct<userCol, rating>>.

        ``recommendForAllUsers`` with the sides swapped; so are its parameters and errors.
        """
        return self._recommend(Side.ITEM, numUsers, Rules(seen, allow, deny, minScore))

    def recommendForUserSubset(
        self,
        dataset: DataFrame,
        numItems: int,
        seen: Pairs = None,
        allow: Ids = None,
        deny: Ids = None,
        minScore: float | None = None,
        unknown: str = "skip",
    ) -> DataFrame:
        """Return the best items of the distinct known users in a data set's userCol.

        Parameters
        ----------
        dataset : DataFrame
            Whose users; where the factors are in the driver, a warning says how many of them the model does not know.
        numItems : int
            How many; fewer where there are fewer candidates.
        seen, allow, deny, minScore
            As in ``recommendForAllUsers``.
        unknown : str, default "skip"
            What users get whom the model does not know: "skip", no row; "popular" or "recent" (the last days), the
            popular items under the same rules, with their numbers of ratings.

        Raises
        ------
        ParameterError
            As ``recommendForAllUsers``; or the model has no such popular items, or they are to have a ``minScore``.
        DataError
            An id column is missing, has another type, or holds ids that are not whole numbers.
        """
        require_frame(dataset)
        rules = Rules(seen, allow, deny, minScore)
        found = self._recommend(Side.USER, numItems, rules, dataset)
        return found if unknown == "skip" else found.unionByName(offered(self, dataset, numItems, rules, unknown))

    def recommendForItemSubset(
        self,
        dataset: DataFrame,
        numUsers: int,
        seen: Pairs = None,
        allow: Ids = None,
        deny: Ids = None,
        minScore: float | None = None,
    ) -> DataFrame:
        """Return the best users of the distinct known items in a data set's itemCol.

        ``recommendForUserSubset`` with the sides swapped; so are its parameters and errors.
        """
        require_frame(dataset)
        return self._recommend(Side.ITEM, numUsers, Rules(seen, allow, deny, minScore), dataset)

    def similarItems(
        self,
        items: Sequence[Any] | None = None,
        num: int = 10,
        allow: Ids = None,
        deny: Ids = None,
        minScore: float | None = None,
    ) -> DataFrame:
        """Return the items most similar by the cosine of their factors: itemCol, recommendations.

        Parameters
        ----------
        items : sequence of ids, optional
            Whose neighbours; all items by default.
        num : int, default 10
            How many; an item is not its own neighbour.
        allow, deny : DataFrame or iterable of ids, optional
            The items that may be neighbours, and those that may not.
        minScore : float, optional
            The smallest cosine that is given out.

        Raises
        ------
        ParameterError
            ``items`` is one id instead of a list, or the number is no int or less than 1.
        DataError
            Some ids are of another type than the model's, not whole, or unknown to the model.
        """
        return self._similar(Side.ITEM, items, num, Rules(None, allow, deny, minScore))

    def similarUsers(
        self,
        users: Sequence[Any] | None = None,
        num: int = 10,
        allow: Ids = None,
        deny: Ids = None,
        minScore: float | None = None,
    ) -> DataFrame:
        """Return the users most similar by the cosine of their factors: userCol, recommendations.

        ``similarItems`` with the sides swapped; so are its parameters and errors.
        """
        return self._similar(Side.USER, users, num, Rules(None, allow, deny, minScore))

    def _similar(self, side: Side, ids: Sequence[Any] | None, n: int, rules: Rules) -> DataFrame:
        candidates = None
        if rules.binding:
            columns = self._id_columns()
            candidates = self._answers.candidates(columns, side, bind_ids(rules, columns, side))
        found = self._recommender().similar(side, ids, n, candidates)
        return at_least(found, "similarity", rules.min_score)

    def foldInUsers(self, ratings: DataFrame, ratingCol: str | None = None, weightCol: str | None = None) -> DataFrame:
        """Return factors for users from their ratings of known items: id, features (and bias).

        Each is the minimum of the model's own objective, the items held: a training user's ratings give back that
        user's factors, exactly after ALS, up to its remaining noise after a descent. Items must be known to the model.

        Parameters
        ----------
        ratings : DataFrame
            userCol, itemCol and the columns below. Users may be new; items must be known to the model.
        ratingCol : str, optional
            Column of ratings, by default the fit's; empty: every rating is 1.
        weightCol : str, optional
            Column of weights >= 0, by default the fit's, if it had one; empty: every weight is 1.

        Raises
        ------
        ParameterError
            The model has no such minimum: its loss is not the squared one, or BPMF, SVDPlusPlus or TruncatedSVD
            fitted it; of items also where SGD drew negatives.
        DataError
            Some items are unknown, or ids or ratings cannot be used.
        """
        return self._answers.fold_in(self._id_columns(), Side.USER, ratings, self._columns(ratingCol, weightCol))

    def foldInItems(self, ratings: DataFrame, ratingCol: str | None = None, weightCol: str | None = None) -> DataFrame:
        """Return factors for items from the ratings that known users gave them: id, features (and bias).

        ``foldInUsers`` with the sides swapped; so are its parameters and errors.
        """
        return self._answers.fold_in(self._id_columns(), Side.ITEM, ratings, self._columns(ratingCol, weightCol))

    def recommendForNewUsers(
        self, ratings: DataFrame, numItems: int, ratingCol: str | None = None, weightCol: str | None = None
    ) -> DataFrame:
        """Return the best items of users folded in from their ratings, without those: userCol, recommendations.

        Parameters
        ----------
        ratings, numItems, ratingCol, weightCol
            As for ``foldInUsers`` and ``recommendForAllUsers``.

        Raises
        ------
        ParameterError, DataError
            As these.
        """
        folded, size = self.foldInUsers(ratings, ratingCol, weightCol), block_size(self.getOrDefault("blockSize"))
        return self._answers.recommend_new(self._id_columns(), folded, ratings, numItems, size)

    def withUsers(self, ratings: DataFrame, ratingCol: str | None = None, weightCol: str | None = None) -> Self:
        """Return a model that has the users of these ratings, too; those it knows get new factors.

        Parameters
        ----------
        ratings, ratingCol, weightCol
            As in ``foldInUsers``, whose factors they get; all items must be known.

        Raises
        ------
        DataError, ParameterError
            As in ``foldInUsers``.
        """
        fitted = self._answers.arrays()
        folded = self.foldInUsers(ratings, ratingCol, weightCol)
        model = self.of_numbers(extended(fitted, Side.USER, folded))
        model._history, model._popular = self._history, self._popular
        return model

    def explain(
        self, pairs: DataFrame, ratings: DataFrame, ratingCol: str | None = None, weightCol: str | None = None
    ) -> DataFrame:
        """Return which of the users' ratings contribute how much to the scores of pairs.

        Columns: userCol, itemCol, score, base, contributions array<struct<itemCol, contribution>>, the largest first.
        The user is solved from the ratings as by ``foldInUsers``; ``base`` (intercept and item bias) and the
        contributions sum to ``score``, the prediction before it is clipped. Score and contributions are null where the
        item is unknown; a user without ratings has none, and the score is the base.

        Parameters
        ----------
        pairs : DataFrame
            userCol, itemCol: what is explained. Users may be new.
        ratings : DataFrame
            userCol, itemCol and the columns below: the users' own ratings of known items.
        ratingCol : str, optional
            Column of ratings, by default the fit's; empty: every rating is 1.
        weightCol : str, optional
            Column of weights >= 0, by default the fit's, if it had one; empty: every weight is 1.

        Raises
        ------
        ParameterError
            Scores are no sums over ratings: in what ``foldInUsers`` refuses, under nonnegative or elasticNetParam, and
            with SGD's drawn negatives.
        DataError
            A column is missing or has another type. Ratings of unknown items fail the job that meets them.
        """
        return explain(self._answers.arrays(), self._id_columns(), pairs, ratings, self._columns(ratingCol, weightCol))

    def _columns(self, rating: str | None, weight: str | None) -> Columns:
        given: list[Any] = [
            self.getOrDefault(name) if column is None and self.isDefined(name) else column
            for name, column in (("ratingCol", rating), ("weightCol", weight))
        ]
        return Columns(*self._id_columns().names, given[0], given[1] or None)

    def _pairs_seen(self, seen: DataFrame | None) -> DataFrame | None:
        if seen is None and self.getOrDefault("filterSeen"):
            if self._seen is None:
                raise ParameterError("filterSeen needs the pairs to leave out: a loaded model takes them as seen=...")
            seen = self._seen
        return seen

    def similarity_arrays(self, side: Side) -> np.ndarray:
        """Return one side's factors with rows of length 1 (n x rank); a zero row stays zero.

        Raises
        ------
        ParameterError
            The model's factors are on the workers.
        """
        return unit_rows(self.fitted.features(side))
