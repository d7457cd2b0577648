"""Importance, slices and parallel coordinates of a search, beside what Optuna makes of the same trials."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from analysis.errors import NotDrawable
from analysis.figures import importance, parallel, slices
from analysis.figures.importance import Importance, optuna_study
from analysis.figures.parallel import NOT_USED, Parallel, places
from analysis.figures.searched import Dimension, Searched, searched, short_names
from analysis.figures.slices import Slices
from analysis.figures.source import Source
from analysis.figures.style import Page
from tests.analysis.figures.studies import source
from tests.analysis.recorded import StudyBuilder, Workbench

ALPHA, ENABLED, COUNT = "distill.alpha", "distill.sape.enabled", "distill.sape.projectors"


@pytest.fixture(scope="module")
def trials(search: Source) -> Searched:
    return searched(search)


@pytest.fixture(scope="module")
def ranked(search: Source) -> Importance:
    return importance.data(search)


@pytest.fixture(scope="module")
def sliced(search: Source) -> Slices:
    return slices.data(search)


@pytest.fixture(scope="module")
def lines(search: Source) -> Parallel:
    return parallel.data(search)


# ------------------------------------------------------------------------------- the trials


def test_an_option_that_was_not_in_use_has_no_value(trials: Searched) -> None:
    off = trials.trials[trials.trials[ENABLED] == "false"]
    on = trials.trials[trials.trials[ENABLED] == "true"]
    assert len(off) > 0
    assert off[COUNT].isna().all()
    assert on[COUNT].notna().all()
    assert set(on["distill.sape.kernels"]) == {"3-5-7", "3-5-7-7"}


def test_a_trial_that_did_not_use_its_budget_has_no_score(trials: Searched) -> None:
    assert set(trials.trials.loc[trials.trials["score"].isna(), "state"]) == {"pruned"}
    assert len(trials.finished) == 16


def test_dimensions_are_those_of_the_space(trials: Searched) -> None:
    alpha, beta, enabled, count, _ = trials.dimensions
    assert (alpha.is_log, alpha.low, alpha.high) == (True, 0.01, 10.0)
    assert (beta.is_log, beta.kind) == (False, "float")
    assert enabled.choices == ("true", "false")
    assert count.kind == "int"


def test_an_option_is_called_by_the_end_of_its_path_that_no_other_has() -> None:
    paths = ["distill.alpha", "distill.sape.enabled", "teacher.epochs", "train.epochs"]
    assert list(short_names(paths).values()) == ["alpha", "sape.enabled", "teacher.epochs", "train.epochs"]


def test_a_search_without_a_result_is_told(workbench: Workbench, modules_source: Source) -> None:
    with pytest.raises(NotDrawable, match="no search"):
        searched(modules_source)


# ------------------------------------------------------------------------------- beside Optuna


def test_slices_are_those_of_optuna(trials: Searched, sliced: Slices) -> None:
    from optuna.visualization._slice import _get_slice_plot_info

    info = _get_slice_plot_info(optuna_study(trials), None, None, "score")
    assert len(info.subplots) == 5
    for panel in info.subplots:
        own = sliced.points[sliced.points["path"] == panel.param_name]
        assert list(own["value"]) == panel.x
        assert list(own["score"]) == pytest.approx(panel.y)


def test_parallel_coordinates_are_those_of_optuna(trials: Searched, lines: Parallel) -> None:
    from optuna.visualization._parallel_coordinate import _get_parallel_coordinate_info

    info = _get_parallel_coordinate_info(optuna_study(trials), [ALPHA, "distill.beta"])
    theirs = {dimension.label: np.array(dimension.values) for dimension in info.dims_params}
    by_time = lines.trials.set_index("trial_id").loc[trials.finished["trial_id"]]
    assert np.log10(by_time[ALPHA].astype(float)).to_numpy() == pytest.approx(theirs[ALPHA])
    assert by_time["distill.beta"].astype(float).to_numpy() == pytest.approx(theirs["distill.beta"])


def test_importances_of_always_used_options_are_optunas(trials: Searched, ranked: Importance) -> None:
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    evaluator = FanovaImportanceEvaluator(n_trees=importance.TREES, seed=importance.SEED)
    theirs = get_param_importances(optuna_study(trials), evaluator=evaluator)
    own = ranked.importances.set_index("path")["importance"]
    assert set(theirs) == {ALPHA, "distill.beta", ENABLED}
    assert {path: own[path] for path in theirs} == pytest.approx(theirs)


# ------------------------------------------------------------------------------- importance


def test_what_decides_the_score_is_first(ranked: Importance) -> None:
    first = ranked.importances.iloc[0]
    assert first["path"] == ALPHA
    assert first["importance"] > 0.5
    assert (ranked.importances["low"] <= ranked.importances["importance"]).all()
    assert (ranked.importances["importance"] <= ranked.importances["high"]).all()


def test_an_option_that_some_trials_used_is_assessed_among_them(ranked: Importance, trials: Searched) -> None:
    used = ranked.importances.set_index("path")["trials"]
    assert used[ALPHA] == ranked.trials == 16
    assert used[COUNT] == trials.finished[COUNT].notna().sum() < 16


def test_an_option_that_few_trials_used_is_not_assessed(trials: Searched) -> None:
    rare = trials.trials.copy()
    rare.loc[rare.index[4:], COUNT] = None
    assert COUNT not in importance._assess(Searched(trials.dimensions, rare[rare["score"].notna()]), 4)


def test_too_few_or_equal_trials_have_no_importance(workbench: Workbench, tuning: StudyBuilder, search: Source) -> None:
    with pytest.raises(NotDrawable, match="3 finished trials of the search are too few, importance takes 8"):
        importance.data(source(workbench, "tuning"))
    same = replace(search)
    same.__dict__["searched"] = search.searched.assign(**{"metrics.best/val/pckh@0.5": 0.5})
    with pytest.raises(NotDrawable, match="have the same score"):
        importance.data(same)


def test_without_optuna_the_reason_is_told(monkeypatch: pytest.MonkeyPatch, search: Source) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(NotDrawable, match=r"importance needs Optuna and scikit-learn: .*optuna"):
        importance.data(search)


def test_bars_stand_in_order_with_how_many_trials_used_each(ranked: Importance) -> None:
    (axes,) = importance.draw(ranked, Page.of("single")).axes
    assert [bar.get_width() for bar in axes.patches] == list(ranked.importances["importance"])
    texts = [text.get_text() for text in axes.get_yticklabels()]
    assert texts[0] == "alpha"
    assert any(text.startswith("projectors\n(in ") for text in texts)
    assert axes.get_xlabel() == "importance (fANOVA, 16 trials)"


# ------------------------------------------------------------------------------- slices and lines


def test_there_is_a_panel_for_each_option_with_the_best_ringed(sliced: Slices) -> None:
    figure = slices.draw(sliced, Page.of("single"))
    assert [axes.get_xlabel() for axes in figure.axes] == ["alpha", "beta", "sape.enabled", "projectors", "kernels"]
    assert figure.axes[0].get_xscale() == "log"
    assert [text.get_text() for text in figure.axes[2].get_xticklabels()] == ["true", "false"]
    low, high = figure.axes[3].get_xlim()
    assert low < 1 < 4 < high  # also where nothing was sampled
    ring = figure.axes[0].lines[1]
    assert ring.get_ydata()[0] == sliced.points["score"].max()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["finished trial", "best"]


def test_the_smallest_is_best_of_a_minimised_score(sliced: Slices) -> None:
    figure = slices.draw(replace(sliced, mode="min"), Page.of("double"))
    assert figure.axes[0].lines[1].get_ydata()[0] == sliced.points["score"].min()


def test_the_best_trial_is_drawn_last_and_thick(lines: Parallel) -> None:
    assert lines.trials["score"].is_monotonic_increasing
    (axes,) = parallel.draw(lines, Page.of("single")).axes
    drawn = axes.lines[: len(lines.trials)]
    assert [line.get_linewidth() for line in drawn[-2:]] == [0.8, 2.0]
    assert drawn[-1].get_ydata()[-1] == 1.0


def test_a_place_on_an_axis_is_by_its_scale() -> None:
    log = Dimension("a", "a", "float", True, (), 0.01, 100.0)
    linear = Dimension("a", "a", "int", False, (), 1, 5)
    choice = Dimension("a", "a", "categorical", False, ("x", "y", "z"), float("nan"), float("nan"))
    assert list(places(log, [0.01, 1.0, 100.0])) == pytest.approx([0.0, 0.5, 1.0])
    assert list(places(linear, [1, 2, None])) == pytest.approx([0.0, 0.25, NOT_USED])
    assert list(places(choice, ["z", "y"])) == [1.0, 0.5]


def test_axes_are_named_and_ticked(lines: Parallel) -> None:
    (axes,) = parallel.draw(lines, Page.of("double")).axes
    texts = {text.get_text() for text in axes.texts}
    assert {"alpha", "projectors", "PCKh@0.5 val (%)", "0.01", "10", "not used", "3-5-7-7"} <= texts
