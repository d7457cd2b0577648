"""`cdkd figure` on a real store, from the arguments to the files."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.image import imread

from analysis.figures import KINDS
from orchestrator.errors import Refused, UserError
from orchestrator.verbs import figure
from tests.analysis.recorded import PROTOCOL, Workbench, best, modules_study, specification_of

WITHOUT_TRAINING = (
    "import sys; sys.modules.update(torch=None, ray=None, torchvision=None);"
    "from orchestrator.cli import main; sys.exit(main())"
)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workbench = Workbench(tmp_path_factory.mktemp("results"))
    modules_study(workbench)
    unlike = workbench.study("unlike", specification_of("unlike"))
    unlike.trial("base", 0, best(0.5), epochs={"val/pckh@0.5": [0.5]})
    unlike.trial("full", 0, best(0.6), epochs={"val/pckh@0.5": [0.6]}, protocol=PROTOCOL | {"epochs": 9})
    return workbench.results


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter)
    figure.configure(made)
    return made


def call(*arguments: object) -> int:
    return figure.run(parser().parse_args([str(argument) for argument in arguments]))


def test_every_kind_the_data_can_give_is_drawn_and_of_the_others_the_reason_told(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert call("modules", "--results", results, "--output", tmp_path, "--format", "svg") == 0
    printed = capsys.readouterr()
    kinds = ("curves", "pareto", "gradients")
    assert printed.out.splitlines() == [
        str(tmp_path / f"modules-{kind}.{extension}") for kind in kinds for extension in ("svg", "json")
    ]
    assert "modules: no slice figure: the study has no search" in printed.err.splitlines()
    assert len(printed.err.splitlines()) == len(KINDS) - len(kinds)


def test_a_kind_asked_for_by_name_must_be_there(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(UserError) as error:
        call("modules", "--kind", "slice,curves", "--results", results, "--output", tmp_path, "--format", "png")
    assert error.value.lines == ["modules: no slice figure: the study has no search"]
    assert (tmp_path / "modules-curves.png").exists()


def test_all_is_no_name_of_a_kind(results: Path, tmp_path: Path) -> None:
    assert call("modules", "--kind", "all", "--results", results, "--output", tmp_path, "--format", "png") == 0


def test_by_default_figures_go_below_the_results_as_pdf_and_png(results: Path) -> None:
    assert call("modules", "--kind", "curves", "--results", results) == 0
    names = sorted(path.name for path in (results / "modules" / "figures").iterdir())
    assert names == ["modules-curves.json", "modules-curves.pdf", "modules-curves.png"]


def test_a_figure_has_the_width_asked_for(results: Path, tmp_path: Path) -> None:
    for width, millimetres in (("single", 88), ("double", 180)):
        arguments = ("--kind", "curves", "--format", "png", "--width", width, "--output", tmp_path / width)
        call("modules", "--results", results, *arguments)
        pixels = imread(tmp_path / width / "modules-curves.png").shape[1]
        assert abs(pixels - millimetres / 25.4 * 300) <= 1


def test_mixed_protocols_are_refused_unless_allowed(results: Path, tmp_path: Path) -> None:
    arguments = ("unlike", "--kind", "curves", "--results", results, "--output", tmp_path, "--format", "png")
    with pytest.raises(Refused, match="epochs") as error:
        call(*arguments)
    assert error.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []
    assert call(*arguments, "--allow", "epochs") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("absent",), "no study 'absent'"),
        (("modules", "--with", "absent"), "no study 'absent'"),
        (("modules", "--format", "gif"), "--format: must be of pdf, svg, png, got gif"),
        (("modules", "--kind", "curves,curve"), "--kind: must be all or of curves, cost, .*, got curve$"),
        (("modules", "--kind", ","), "got none"),
        (("modules", "--metric", "best/val/ap"), "got 'best/val/ap'"),
        (("modules", "--kind", "curves", "--metric", "val/other"), "has reported an epoch of val/other"),
    ],
)
def test_bad_input_is_one_line(results: Path, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        call(*arguments, "--results", results)
    assert len(error.value.lines) == 1


def test_the_help_names_every_kind() -> None:
    text = parser().format_help()
    assert all(kind in text and line in text for kind, line in KINDS.items())


def test_a_laptop_without_torch_and_ray_draws(results: Path, tmp_path: Path) -> None:
    arguments = ["figure", "modules", "--results", str(results), "--output", str(tmp_path), "--format", "svg"]
    environment = os.environ | {"PYTHONPATH": str(Path(figure.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TRAINING, *arguments], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "modules-gradients.svg").exists()
