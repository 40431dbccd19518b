"""How a model was trained, as attributes and pictures: summary, history, training report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame

from mfspark.blocks.columns import require_frame
from mfspark.errors import ParameterError, missing_column
from mfspark.model.stored import StoredModel
from mfspark.model.summary import TrainingSummary
from mfspark.report import Data, Plot, Report, facts, history_plot, require_bokeh


class ReportedModel(StoredModel):
    """A model that shows how it was trained and what it has learned."""

    @property
    def hasSummary(self) -> bool:
        """Whether the model knows how it was trained; one that MLlib fitted does not."""
        return bool(self._history)

    @property
    def summary(self) -> TrainingSummary:
        """What the fit went through, as the summaries of pyspark.ml tell it.

        Raises
        ------
        ParameterError
            There is no summary: ``hasSummary``.
        """
        if not self.hasSummary:
            raise ParameterError(f"no training summary: {type(self).__name__} {self.uid} has no history")
        return TrainingSummary(tuple(self._history))

    def plot_history(self, path: str | Path | None = None) -> Plot:
        """Return the curves of loss and validation RMSE, which a notebook shows inline.

        Parameters
        ----------
        path : str or Path, optional
            An HTML file that is written, with all it needs.

        Raises
        ------
        SetupError
            The plotting library is not installed: ``pip install mfspark[report]``.
        ParameterError
            There is no history: ``hasSummary``.
        """
        lines = self.summary.lines
        plot = history_plot([vars(line) | {"validationRMSE": line.validation_rmse} for line in lines])
        if path is not None:
            plot.save(path)
        return plot

    def report(
        self,
        path: str | Path | None = None,
        ratings: DataFrame | None = None,
        titles: DataFrame | Mapping[Any, str] | None = None,
        heldOut: DataFrame | None = None,
        ratingCol: str | None = None,
    ) -> Report:
        """Return the training report: one HTML page, shown inline by a notebook that ends a cell with it.

        Parameters
        ----------
        path : str or Path, optional
            A file that is written, with all it needs: no other file, no network.
        ratings : DataFrame, optional
            The training ratings (userCol, itemCol, ``ratingCol``): without them there are no distributions and errors.
        titles : DataFrame or mapping, optional
            Titles of items: a frame of itemCol and ``title``, or id to title.
        heldOut : DataFrame, optional
            Ratings that were not trained on, for the errors; default: ``ratings``.
        ratingCol : str, optional
            Column of ratings, by default the fit's; empty: every rating is 1.

        Returns
        -------
        Report
            Its ``html`` is the page, its ``facts`` what is shown; ``save(path)`` writes it.

        Raises
        ------
        SetupError
            The plotting library is not installed: ``pip install mfspark[report]``.
        DataError
            A column is missing or has another type.
        """
        require_bokeh()
        column = self.getOrDefault("ratingCol") if ratingCol is None else ratingCol
        for frame in (ratings, heldOut):
            if frame is not None:
                require_frame(frame)
                if column and column not in frame.columns:
                    raise missing_column(column, frame.columns)
        report = Report(facts(self, Data(ratings, heldOut, titles, column)))  # type: ignore[arg-type]
        if path is not None:
            report.save(path)
        return report
