"""From a study to the files of its figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis.errors import MixedProtocols
from analysis.figures import FORMATS, KINDS
from analysis.figures.kinds import MAKERS, make, sidecar, write
from analysis.figures.source import Source
from analysis.figures.style import Page
from tests.analysis.figures.studies import source
from tests.analysis.recorded import PROTOCOL, Workbench, best, specification_of


def test_every_kind_offered_has_a_maker() -> None:
    assert list(MAKERS) == list(KINDS)


def test_a_kind_that_cannot_be_drawn_has_a_reason(modules_source: Source) -> None:
    made = {one.kind: one for one in make(modules_source, KINDS)}
    assert [kind for kind, one in made.items() if one.found is not None] == ["curves", "pareto", "gradients"]
    assert made["importance"].reason == "the study has no search"
    assert all(one.reason for one in made.values() if one.found is None)


def test_figures_stand_beside_a_file_of_their_runs_and_numbers(modules_source: Source, tmp_path: Path) -> None:
    (made,) = make(modules_source, ["curves"])
    paths = write(made, tmp_path, FORMATS, Page.of("single"), "http://user:secret@server/")
    assert [path.name for path in paths] == [f"modules-curves.{name}" for name in (*FORMATS, "json")]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    content = json.loads(paths[-1].read_text())
    assert content["store"] == "http://server/"
    assert {run["run_id"] for run in content["runs"]} == set(made.found.runs["run_id"])
    assert content["bands"][0] == pytest.approx(
        {
            "arm": "full",
            "metric": "val/pckh@0.5",
            "epoch": 1,
            "mean": 64.8333333,
            "low": 63.79250,
            "high": 65.8741668,
            "n": 3,
        }
    )
    assert content["arms"]["plain"] == {"label": "SimCC", "colour": "#000000"}
    assert any("In no mean" in sentence for sentence in content["caption"])


def test_every_kind_of_a_search_is_written_as_strict_json(search: Source, tmp_path: Path) -> None:
    for made in make(search, ["slice", "parallel", "pareto"]):
        content = json.loads(sidecar(made.kind, made.found, "u"), parse_constant=pytest.fail)
        assert content["figure"] == made.kind
        assert content["caption"]


def test_mixed_protocols_are_not_one_reason_among_others(workbench: Workbench) -> None:
    builder = workbench.study("unlike", specification_of("unlike"))
    builder.trial("base", 0, best(0.5))
    builder.trial("full", 0, best(0.6), protocol=PROTOCOL | {"epochs": 9})
    with pytest.raises(MixedProtocols):
        make(source(workbench, "unlike"), KINDS)
