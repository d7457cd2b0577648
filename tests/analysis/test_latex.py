"""LaTeX with booktabs, also through a real LaTeX."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from analysis.latex import PACKAGES, escape_latex, latex
from analysis.tables import sheets
from tests.analysis.recorded import StudyBuilder, Workbench
from tests.analysis.sheets import NASTY, grouped, nasty, wide


def body_rows(text: str) -> list[str]:
    body = re.search(r"\\toprule(.*)\\bottomrule", text, re.DOTALL)
    assert body is not None
    return [line.strip() for line in body.group(1).splitlines() if line.strip()]


def nested(text: str) -> list[str]:
    """The environments left open; one closed out of turn is an error."""
    waiting: list[str] = []
    for kind, name in re.findall(r"\\(begin|end){([\w*]+)}", text):
        if kind == "begin":
            waiting.append(name)
        else:
            assert waiting.pop() == name
    return waiting


def test_everything_special_is_escaped() -> None:
    assert escape_latex(NASTY) == (
        r"50\% of a\_b \& \$x\textasciicircum{}2\$ \{\#\} \textasciitilde{} \textbackslash{} $<$$|$$>$ {[}n{]}"
    )


def test_it_is_well_formed() -> None:
    text = "\n".join(line for line in latex(nasty()).splitlines() if not line.startswith("%"))
    bare = re.sub(r"\\[\\&%$#_{}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert nested(text) == []
    rows = [line for line in body_rows(text) if line.endswith(r"\\")]
    assert [len(re.findall(r"(?<!\\)&", row)) for row in rows] == [1, 1, 1]
    assert text.isascii()


def test_groups_stand_above_their_columns_and_rules_between_blocks() -> None:
    assert body_rows(latex(grouped())) == [
        r" & \multicolumn{2}{c}{S} &  \\".strip(),
        r"\cmidrule(lr){2-3}",
        r"Arm & a & b & Params (M) \\",
        r"\midrule",
        r"one & \textbf{1.00} {\scriptsize $\pm$ 0.10 (3)} & \underline{2.00} {\scriptsize (3)} & 28.5 \\",
        r"two & \textbf{1.00} {\scriptsize $\pm$ 0.10 (3)} & \underline{2.00} {\scriptsize (3)} & 28.5 \\",
        r"\midrule",
        r"three & \textbf{1.00} {\scriptsize $\pm$ 0.10 (3)} & \underline{2.00} {\scriptsize (3)} & 28.5 \\",
    ]


def test_a_wide_table_takes_the_page_and_stacks_its_cells() -> None:
    assert r"\begin{table}" in latex(grouped())
    text = latex(wide())
    assert r"\begin{table*}" in text
    assert r"\end{table*}" in text
    cell = (
        r"\begin{tabular}[t]{@{}r@{}}79.40\rlap{\textsuperscript{1}}\\[-3pt]{\scriptsize $\pm$ 0.21 (5)}\end{tabular}"
    )
    assert text.count(cell) == 40
    assert r"\begin{tabular}[b]{@{}r@{}}PCKh@0.5\\val 0\end{tabular}" in text


def test_the_runs_stand_in_comments(workbench: Workbench, modules: StudyBuilder) -> None:
    [sheet] = sheets(workbench.read("modules"))
    comments = [line for line in latex(sheet).splitlines() if line.startswith("%")]
    assert len(comments) == 1 + 5
    assert all(run_id in "".join(comments) for run_id, trial in modules.names.items() if trial.startswith("full"))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed (texlive-latex-recommended)")
def test_it_compiles_and_nothing_sticks_out(
    workbench: Workbench, modules: StudyBuilder, resolutions: StudyBuilder, tuning: StudyBuilder, tmp_path: Path
) -> None:
    made = [sheet for study in ("modules", "resolutions", "tuning") for sheet in sheets(workbench.read(study))]
    tables = "\n".join(latex(sheet) for sheet in [*made, nasty(), grouped(), wide()])
    document = "\\documentclass[twocolumn]{article}\\usepackage{%s}\\begin{document}\n%s\\end{document}\n"
    (tmp_path / "t.tex").write_text(document % (PACKAGES, tables), encoding="utf-8")
    subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, check=True, capture_output=True)
    log = (tmp_path / "t.log").read_text(encoding="latin-1")
    assert "Overfull \\hbox" not in log
    assert "Missing character" not in log
