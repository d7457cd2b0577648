"""A run by the beginning of its id."""

from __future__ import annotations

from collections import Counter

import pytest

from analysis.errors import StoreError
from analysis.report.found import find_run
from analysis.store import Store
from orchestrator import keys
from tests.analysis.recorded import Workbench, modules_study
from tests.analysis.report.studies import reported_study, trials


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """A store of its own: these tests look at all its studies."""
    bench = Workbench(tmp_path_factory.mktemp("found"))
    reported_study(bench)
    modules_study(bench)
    return bench


@pytest.fixture
def run_ids(workbench: Workbench) -> list[str]:
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


def test_a_beginning_that_several_runs_have_names_them(workbench: Workbench) -> None:
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


def test_an_empty_id_is_no_beginning(workbench: Workbench) -> None:
    with pytest.raises(StoreError, match="no run ''"):
        find_run(Store(workbench.uri), "")


class _Nothing:
    """A store without studies."""

    def studies(self) -> list[str]:
        return []


def test_a_store_without_runs_has_no_nearest() -> None:
    with pytest.raises(StoreError, match="no run 'a' in server; there are no runs"):
        find_run(Store("server", _Nothing()), "a")


def test_a_study_that_cannot_be_read_hides_no_run_of_another(workbench: Workbench, run_ids: list[str]) -> None:
    builder = workbench.study("broken-beside", seeds=[0])
    builder.trial("base", 0, {"best/val/pckh@0.5": 0.5})
    workbench.client.set_tag(Store(workbench.uri).read("broken-beside").trials["run_id"][0], keys.PROTOCOL, "{")
    assert find_run(Store(workbench.uri), run_ids[2]).run["run_id"] == run_ids[2]
    with pytest.raises(StoreError, match=r"no run 'x' .*; study broken-beside cannot be read: run .* unreadable"):
        find_run(Store(workbench.uri), "x")
