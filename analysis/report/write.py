"""Writes the report of a study."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from analysis.report.files import write_text
from analysis.report.page import report_html
from analysis.report.sections import Material, document
from analysis.report.text import report_markdown


def write_report(material: Material, folder: Path, now: datetime) -> list[Path]:
    """Writes `report.html`, `report.md` and the figures; returns the paths of the first two."""
    found = document(material, folder, now)
    return [
        write_text(folder / "report.html", report_html(found)),
        write_text(folder / "report.md", report_markdown(found, folder)),
    ]
