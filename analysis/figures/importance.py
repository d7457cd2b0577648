"""How much each searched option decides the score. The one file of this package that knows Optuna.

Importances are Optuna's own (fANOVA: the share of the score's variance that a random forest puts down to an option).
Optuna's default since version 5, PED-ANOVA, asks what the best tenth of the trials have in common: with the tens of
trials that a study here has, that is a handful, and an option without any effect came out second of three. All else
about a search is read from the store without Optuna.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.errors import NotDrawable
from analysis.figures.searched import CATEGORICAL, Dimension, Searched, searched
from analysis.figures.source import Figured, Source, records, runs_of
from analysis.figures.style import COLOURS, Page, grid_lines, new_figure, styled

if TYPE_CHECKING:
    import optuna

FEWEST = 8  # finished trials below which the order of importances is chance
MOST = 100  # trials that are assessed: a forest of 200 takes six seconds
TREES, RESAMPLES, SMALL_TREES = 64, 10, 8
SEED = 20240229
ROW_MM, FRAME_MM = 6.0, 14.0
IMPORTANCE_COLUMNS = ["path", "name", "trials", "importance", "low", "high"]


@dataclass(frozen=True)
class Importance(Figured):
    """Importances.

    Attributes:
        importances: IMPORTANCE_COLUMNS, most important first: how many trials used the option, its share of the score's
            variance among these, and the range of that over resamples of the trials.
        trials: number of trials assessed.
    """

    importances: pd.DataFrame
    trials: int


def data(source: Source) -> Importance:
    """Asks Optuna.

    Raises:
        NotDrawable: too few trials finished, all scored the same, or Optuna cannot be imported.
    """
    search = searched(source)
    finished = search.finished
    if len(finished) < FEWEST:
        raise NotDrawable(f"{len(finished)} finished trials of the search are too few, importance takes {FEWEST}")
    if finished["score"].nunique() == 1:
        raise NotDrawable(f"all {len(finished)} finished trials of the search have the same score")
    rng = np.random.default_rng(SEED)
    assessed = finished.iloc[np.sort(rng.permutation(len(finished))[:MOST])]
    try:
        frame = importances(Searched(search.dimensions, assessed), rng)
    except ImportError as error:  # of Optuna, or of what its forest needs
        raise NotDrawable(f"importance needs Optuna and scikit-learn: {error}") from error
    lacking = [each.path for each in search.dimensions if each.path not in set(frame["path"])]
    caption = [
        f"Share of the variance of {source.score.title} that fANOVA (Optuna) puts down to each searched option, over "
        f"{len(assessed)}{'' if len(assessed) == len(finished) else f' of {len(finished)}'} finished trials; an option "
        "that only some of them used is assessed among these. Whiskers: smallest to largest of "
        f"{RESAMPLES} resamples of the trials.",
        *([f"Too seldom used to be assessed: {', '.join(lacking)}."] if lacking else []),
    ]
    used = source.searched[source.searched["run_id"].isin(assessed["run_id"])]
    return Importance(source.study, tuple(caption), runs_of(used), frame, len(assessed))


def importances(search: Searched, rng: np.random.Generator) -> pd.DataFrame:
    """IMPORTANCE_COLUMNS of a search's trials, most important first."""
    whole = _assess(search, TREES)
    spread = [_assess(_resampled(search, rng), SMALL_TREES) for _ in range(RESAMPLES)]
    names = {each.path: each.name for each in search.dimensions}
    rows = [
        {
            "path": path,
            "name": names[path],
            "trials": int(search.finished[path].notna().sum()),
            "importance": share,
            **_range([share, *(one[path] for one in spread if path in one)]),
        }
        for path, share in whole.items()
    ]
    frame = pd.DataFrame(rows, columns=IMPORTANCE_COLUMNS)
    return frame.sort_values("importance", ascending=False, kind="stable", ignore_index=True)


def _range(shares: Sequence[float]) -> dict[str, float]:
    return {"low": min(shares), "high": max(shares)}


def _resampled(search: Searched, rng: np.random.Generator) -> Searched:
    """The trials drawn with replacement."""
    return Searched(search.dimensions, search.trials.iloc[rng.integers(0, len(search.trials), len(search.trials))])


def _assess(search: Searched, trees: int) -> dict[str, float]:
    """Share by path; options that the same trials used are assessed together, and not where these are too few."""
    groups: dict[tuple[bool, ...], list[Dimension]] = {}
    for each in search.dimensions:
        groups.setdefault(tuple(search.trials[each.path].notna()), []).append(each)
    found: dict[str, float] = {}
    for mask, dimensions in groups.items():
        among = search.trials[list(mask)]
        if len(among) >= FEWEST:
            shares = _fanova(Searched(search.dimensions, among), trees)
            found |= {each.path: shares[each.path] for each in dimensions}
    return found


def _fanova(search: Searched, trees: int) -> dict[str, float]:
    """Optuna's importance of every option that all of these trials used."""
    study = optuna_study(search)
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(n_trees=trees, seed=SEED))
    return {path: float(share) for path, share in shares.items()}


def optuna_study(search: Searched, mode: str = "max") -> optuna.Study:
    """The finished trials of a search as an Optuna study in memory.

    Args:
        search: trials and dimensions.
        mode: direction of the score (to importances it makes no difference).
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize" if mode == "max" else "minimize")
    distributions = {each.path: _distribution(each) for each in search.dimensions}
    for row in search.finished.to_dict("records"):
        params = {path: row[path] for path in distributions if row[path] is not None}
        own = {path: distributions[path] for path in params}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=own, value=row["score"]))
    return study


def _distribution(each: Dimension) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if each.kind == CATEGORICAL:
        return CategoricalDistribution(each.choices)
    if each.kind == "int":
        return IntDistribution(int(each.low), int(each.high), log=each.is_log)
    return FloatDistribution(each.low, each.high, log=each.is_log)


@styled()
def draw(found: Importance, page: Page) -> Figure:
    """One bar an option, the most important on top."""
    figure = new_figure(page, FRAME_MM + ROW_MM * len(found.importances))
    axes = figure.add_subplot()
    rows = found.importances
    places = range(len(rows))
    axes.barh(places, rows["importance"], height=0.6, color=COLOURS[6])
    axes.hlines(places, rows["low"], rows["high"], color="black", linewidth=0.8)
    texts = [
        f"{row['name']}\n(in {row['trials']})" if row["trials"] < found.trials else row["name"] for row in records(rows)
    ]
    axes.set_yticks(places, texts)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"importance (fANOVA, {found.trials} trials)")
    grid_lines(axes, "x")
    return figure
