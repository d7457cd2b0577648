"""The files that go with a paper."""

from __future__ import annotations

import re
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from analysis.report.appendix import LONG_VALUE, MOST_OPTIONS, figures, hyperparameters
from analysis.report.configuration import Configuration
from analysis.report.sections import gather
from analysis.report.submission import write_submission
from analysis.store import Store
from tests.analysis.recorded import StudyBuilder, Workbench, specification_of
from tests.analysis.report.studies import TEACHER, everything

DOCUMENT = r"""
\documentclass[twocolumn]{article}
\usepackage{booktabs,amssymb,graphicx}
\begin{document}
\input{reported.tex}
\input{figures.tex}
\input{hyperparameters.tex}
\input{compute.tex}
\end{document}
"""


@pytest.fixture(scope="module")
def folder(workbench: Workbench, reported: StudyBuilder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("submission")
    write_submission(gather(Store(workbench.uri), "reported"), place, {TEACHER: "5ha"})
    return place


def test_nothing_is_missing(folder: Path) -> None:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    pictures = {name for name in names if name.endswith(".pdf")}
    assert names - pictures == {
        "README", "reported.tex", "figures.tex", "hyperparameters.tex", "compute.tex", "seeds.txt", "commands.txt",
        "checksums.txt", "configs/base.yaml", "configs/full.yaml", "configs/crash.yaml",
    }  # fmt: skip
    assert pictures
    assert {f"{{{name}}}" for name in pictures} == set(
        re.findall(r"\{[^{}]+\.pdf\}", (folder / "figures.tex").read_text())
    )
    assert (folder / "README").read_text().count("\n") == 2


def test_every_file_has_its_checksum_and_every_run_its_digests(folder: Path) -> None:
    lines = (folder / "checksums.txt").read_text().splitlines()
    sums = dict(reversed(line.split("  ")) for line in lines if not line.startswith("#"))
    assert sums.keys() == {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "checksums.txt"
    }
    assert all(sha256((folder / name).read_bytes()).hexdigest() == digest for name, digest in sums.items())
    runs = [line for line in lines if line.startswith("# run ")]
    assert len(runs) == 7
    assert all(f"data {'cafe' * 8}" in line for line in runs)
    assert [f"teacher {TEACHER} sha256 5ha" in line for line in runs] == [False, False, True, True, True, True, True]


def test_written_again_it_is_the_same(workbench: Workbench, folder: Path) -> None:
    before = (folder / "checksums.txt").read_text()
    write_submission(gather(Store(workbench.uri), "reported"), folder, {TEACHER: "5ha"})
    assert (folder / "checksums.txt").read_text() == before


def test_no_file_names_a_folder_of_the_machine(folder: Path) -> None:
    text = everything(folder)
    assert "jane" not in text
    assert str(folder) not in text
    assert "cdkd run reported.yaml --set train.epochs=3" in text


def test_each_row_has_a_command_on_a_configuration_without_its_seed(folder: Path) -> None:
    lines = [line for line in (folder / "commands.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines[1] == (
        "for seed in 0 1; do cdkd train configs/full.yaml --set seed=$seed --output repeat/full-seed$seed; done"
    )
    assert len(lines) == 3
    assert yaml.safe_load((folder / "configs" / "full.yaml").read_text()) == {
        "data": {"kind": "coco_layout", "root": ""},
        "teacher": {"checkpoint": "teacher.pt", "epochs": 8},
        "distill": {"alpha": 1.0},
    }


def test_seeds_say_which_gave_no_result(folder: Path) -> None:
    assert (folder / "seeds.txt").read_text().splitlines() == [
        "base: 0 1",
        "CDKD <full>: 0 1",
        "crash: 0 (failed) 1 (running)",
        "teacher-new: 0",
    ]


def test_the_appendices_hold_the_options_and_the_hours(folder: Path) -> None:
    options, compute = ((folder / f"{name}.tex").read_text() for name in ("hyperparameters", "compute"))
    assert r"distill.alpha & 0.0 & 1.0 & 2.0 \\" in options
    assert "train.milestones & 0.809524, 5" in options
    assert "Students and teachers" in compute
    assert "2 x H200, 16 CPUs (EPYC)" in compute
    assert "cdkd table" not in options + compute


def test_options_that_fill_more_than_a_page_go_on_in_a_second_table() -> None:
    options = {f"option{index:03d}": "1" for index in range(MOST_OPTIONS + 1)} | {"files": "x" * (LONG_VALUE + 1)}
    text = hyperparameters("s", Configuration(options, {}))
    assert text.count(r"\begin{tabular}") == 2
    assert "(continued)" in text
    assert text.count("option000 &") == 1
    assert f"files: {'x' * (LONG_VALUE + 1)}." in text
    assert "files &" not in text


def test_a_figure_has_its_caption_escaped() -> None:
    text = figures({"a_b-curves.pdf": "50 % of A & B"})
    assert r"\caption{50 \% of A \& B}" in text
    assert r"\includegraphics[width=\linewidth]{a_b-curves.pdf}" in text
    assert r"\label{fig:a_b-curves}" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_a_paper_that_inputs_all_of_it_compiles(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "paper"
    shutil.copytree(folder, place)
    (place / "paper.tex").write_text(DOCUMENT)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_two_arms_of_like_names_have_files_of_their_own(workbench: Workbench, tmp_path: Path) -> None:
    arms = ["+SAPE", "plus_sape"]
    builder = workbench.study("alike", specification_of("alike", table={"arms": arms, "baseline": arms[0]}, seeds=[0]))
    for arm in arms:
        run_id = builder.trial(arm, 0, {"best/val/pckh@0.5": 0.5})
        builder.client.log_text(run_id, f"arm: {arm}\n", "config.yaml")
    write_submission(gather(Store(workbench.uri), "alike"), tmp_path, {})
    found = {path.name: yaml.safe_load(path.read_text())["arm"] for path in (tmp_path / "configs").iterdir()}
    assert found == {"plus_sape.yaml": "+SAPE", "plus_sape-2.yaml": "plus_sape"}
