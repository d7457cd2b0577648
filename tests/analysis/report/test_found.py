"""A run by the beginning of its id."""

from __future__ import annotations

from collections import Counter

import pytest

from analysis.errors import StoreError
from analysis.report.found import find_run
from analysis.store import Store
from tests.analysis.recorded import StudyBuilder, Workbench
from tests.analysis.report.studies import trials


@pytest.fixture
def run_ids(workbench: Workbench, reported: StudyBuilder) -> list[str]:
    return list(trials(workbench, "reported")["run_id"])


def test_a_beginning_that_one_run_has_is_enough(workbench: Workbench, run_ids: list[str]) -> None:
    for asked in (run_ids[2], run_ids[2][:16].upper()):
        found = find_run(Store(workbench.uri), asked)
        assert found.run["run_id"] == run_ids[2]
        assert found.record.study == "reported"
        assert "alpha: 1.0" in found.config
        assert found.score == ("best/val/pckh@0.5", 0.75)


def test_a_run_without_a_result_has_no_score(workbench: Workbench, run_ids: list[str]) -> None:
    assert find_run(Store(workbench.uri), run_ids[4]).score is None


def test_a_beginning_that_several_runs_have_names_them(
    workbench: Workbench, reported: StudyBuilder, modules: StudyBuilder
) -> None:
    store = Store(workbench.uri)
    ids = [one for study in store.studies() for one in store.read(study).trials["run_id"]]
    letter, count = Counter(one[0] for one in ids).most_common(1)[0]
    assert count > 1  # there are more runs than digits
    with pytest.raises(StoreError, match=f"^{count} runs begin with '{letter}': {letter}"):
        find_run(store, letter)


@pytest.mark.parametrize("length", [31, 20])
def test_an_unknown_id_is_answered_with_the_nearest(workbench: Workbench, run_ids: list[str], length: int) -> None:
    asked = run_ids[1][:length] + ("x" * (32 - length))
    with pytest.raises(StoreError, match=f"no run '{asked}' in .*; the nearest is {run_ids[1][:12]}$"):
        find_run(Store(workbench.uri), asked)


def test_an_empty_id_is_no_beginning(workbench: Workbench, reported: StudyBuilder) -> None:
    with pytest.raises(StoreError, match="no run ''"):
        find_run(Store(workbench.uri), "")


class _Nothing:
    """A store without studies."""

    def studies(self) -> list[str]:
        return []


def test_a_store_without_runs_has_no_nearest() -> None:
    with pytest.raises(StoreError, match="no run 'a' in server; there are no runs"):
        find_run(Store("server", _Nothing()), "a")
