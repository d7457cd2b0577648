"""Whole texts against small golden files; `CDKD_UPDATE_GOLDEN=1 pytest tests/analysis/test_render.py` rewrites them."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from analysis.render import FORMATS, escape_latex, latex, markdown, sidecar
from analysis.sheet import Entry, Sheet
from analysis.tables import sheets, write
from tests.analysis.recorded import StudyBuilder, Workbench

GOLDEN = Path(__file__).parent / "golden"


def every_sheet(workbench: Workbench, builder: StudyBuilder) -> dict[str, Sheet]:
    return {sheet.name: sheet for sheet in sheets(workbench.read(builder.study))}


def assert_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("CDKD_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("extension", [*FORMATS])
def test_an_ablation_is_printed_as_the_golden_file(workbench: Workbench, modules: StudyBuilder, extension: str) -> None:
    text = FORMATS[extension](every_sheet(workbench, modules)["modules"])
    assert_golden(f"modules.{extension}", modules.anonymous(text))


@pytest.mark.parametrize("extension", [*FORMATS])
def test_a_search_is_printed_as_the_golden_file(workbench: Workbench, tuning: StudyBuilder, extension: str) -> None:
    text = FORMATS[extension](every_sheet(workbench, tuning)["tuning-search"])
    assert_golden(f"tuning-search.{extension}", tuning.anonymous(text))


NASTY = "50% of a_b & $x^2$ {#} ~ \\ <|> [n]"


def nasty() -> Sheet:
    row = (Entry(f"[{NASTY}", marks=(1, 2)), Entry("−1.00 ± 0.10 (2)", is_bold=True))
    return Sheet("n_a", NASTY, (NASTY,), (NASTY, "Δ"), "lr", (row, (Entry(""), Entry("✓"))), (NASTY, "b"), (NASTY,))


def test_markdown_columns_are_aligned_and_pipes_escaped() -> None:
    lines = [line for line in markdown(nasty()).splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {3}


def test_latex_escapes_everything_special() -> None:
    assert escape_latex(NASTY) == (
        r"50\% of a\_b \& \$x\textasciicircum{}2\$ \{\#\} \textasciitilde{} \textbackslash{} $<$$|$$>$ {[}n{]}"
    )


def test_latex_is_well_formed() -> None:
    text = "\n".join(line for line in latex(nasty()).splitlines() if not line.startswith("%"))
    bare = re.sub(r"\\[\\&%$#_{}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert re.findall(r"\\begin{(\w+)}", text) == list(reversed(re.findall(r"\\end{(\w+)}", text)))
    body = re.search(r"\\toprule(.*)\\bottomrule", text, re.DOTALL)
    assert body is not None
    rows = [line for line in body.group(1).splitlines() if line.endswith(r"\\")]
    assert [len(re.findall(r"(?<!\\)&", row)) for row in rows] == [1, 1, 1]
    assert text.isascii()


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_latex_compiles(workbench: Workbench, modules: StudyBuilder, tmp_path: Path) -> None:
    tables = latex(every_sheet(workbench, modules)["modules"]) + latex(nasty())
    document = "\\documentclass{article}\\usepackage{booktabs,amssymb}\\begin{document}\n%s\\end{document}\n"
    (tmp_path / "t.tex").write_text(document % tables, encoding="utf-8")
    subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, check=True, capture_output=True)


def test_the_csv_file_has_full_precision_and_empty_fields(workbench: Workbench, modules: StudyBuilder) -> None:
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](every_sheet(workbench, modules)["modules"]))))
    first = next(row for row in rows if row["arm"] == "full" and row["metric"] == "best/val/pckh@0.5")
    assert float(first["mean"]) == pytest.approx((74 + 76 + 74.5) / 3, abs=1e-7)
    assert (first["n"], first["cca"], first["paper"]) == ("3", "1", "79.24")
    empty = next(row for row in rows if row["arm"] == "etht_only")
    assert (empty["mean"], empty["std"], empty["n"]) == ("", "", "0")


def test_the_sidecar_hides_credentials_of_the_store() -> None:
    assert json.loads(sidecar(nasty(), "https://me:secret@host/x"))["store"] == "https://host/x"


def test_files_are_written_with_their_sidecar(workbench: Workbench, modules: StudyBuilder, tmp_path: Path) -> None:
    sheet = every_sheet(workbench, modules)["modules"]
    paths = write(sheet, tmp_path / "new", ["md", "tex"], workbench.uri)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["modules.json", "modules.md", "modules.tex"]
    assert paths[0].read_text(encoding="utf-8") == markdown(sheet)
    with pytest.raises(ValueError, match="got html"):
        write(sheet, tmp_path, ["html"], workbench.uri)
