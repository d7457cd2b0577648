"""A sheet as a file of any format, and the sidecar that traces every cell to its runs."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from typing import Any

from analysis.database import shown
from analysis.html import html
from analysis.latex import latex
from analysis.markdown import markdown
from analysis.sheet import Sheet


def csv_text(sheet: Sheet) -> str:
    """One line per arm and metric (or per trial), full precision, empty where there is no value."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(sheet.records[0]) if sheet.records else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _csv_value(value) for name, value in record.items()} for record in sheet.records)
    return stream.getvalue()


def _csv_value(value: object) -> object:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.10g}"


def sidecar(sheet: Sheet, uri: str) -> str:
    """JSON: for every cell the runs, seeds, values and fingerprints it was made from, and the store they are in.

    Every run and cell is one line, so that a change of a committed file is read at a glance.
    """
    # A server's address may carry credentials, and these files are committed beside papers.
    content = {"store": shown(uri), **sheet.provenance}
    return "{\n" + ",\n".join(f"{_json(name)}: {_json_lines(value)}" for name, value in content.items()) + "\n}\n"


def _json_lines(value: Any) -> str:
    if isinstance(value, dict) and value:
        return "{\n " + ",\n ".join(f"{_json(name)}: {_json(each)}" for name, each in value.items()) + "\n}"
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        return "[\n " + ",\n ".join(map(_json, value)) + "\n]"
    return _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


FORMATS: dict[str, Callable[[Sheet], str]] = {"md": markdown, "csv": csv_text, "tex": latex, "html": html}
