"""A sheet as HTML: a fragment for a report, or a page that needs no other file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby

from analysis.columns import Heading
from analysis.sheet import Entry, Sheet, value_and_spread

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 2rem; }
figure.table { margin: 0 0 2rem; }
figure.table figcaption { margin-bottom: .75rem; max-width: 60rem; }
figure.table .scroll { overflow-x: auto; }
figure.table table { border-collapse: collapse; border-top: 2px solid; border-bottom: 2px solid;
  font-variant-numeric: tabular-nums; }
figure.table th, figure.table td { padding: .25rem .7rem; white-space: nowrap; }
figure.table th { font-weight: 600; vertical-align: bottom; }
figure.table thead { border-bottom: 1px solid; }
figure.table small { font-size: .8em; color: #444; }
figure.table th.group { text-align: center; }
figure.table th.group span { display: block; border-bottom: 1px solid #888; }
figure.table tbody + tbody { border-top: 1px solid; }
figure.table tbody th { font-weight: inherit; }
figure.table .l { text-align: left; } figure.table .c { text-align: center; } figure.table .r { text-align: right; }
figure.table td { position: relative; }
figure.table td sup { position: absolute; line-height: 1; font-size: .7em; }
figure.table .notes { margin-top: .75rem; max-width: 60rem; font-size: .87em; color: #444; }
figure.table .notes p { margin: .2rem 0; }
""".strip()


def html(sheet: Sheet) -> str:
    """A page of its own."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{_text(sheet.name)}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n"
        f"<h1>{_text(sheet.name)}</h1>\n{html_fragment(sheet)}</body>\n</html>\n"
    )


def html_fragment(sheet: Sheet) -> str:
    """A `figure` with the table, to be styled by STYLE."""
    question = f"<strong>{_text(sheet.question)}</strong> " if sheet.question else ""
    lines = [
        '<figure class="table">',
        f"<figcaption>{question}{_text(' '.join(sheet.caption))}</figcaption>",
        '<div class="scroll">',
        "<table>",
        "<thead>",
        *_header(sheet),
        "</thead>",
        *_body(sheet),
        "</table>",
        "</div>",
        '<div class="notes">',
        *(f"<p><sup>{index}</sup> {_text(note)}</p>" for index, note in enumerate(sheet.footnotes, 1)),
        *(f"<p>{_text(note)}</p>" for note in sheet.remarks),
        "</div>",
        "</figure>",
    ]
    return "\n".join(lines) + "\n"


def _header(sheet: Sheet) -> Iterator[str]:
    """One row of headings, or two where some stand below a group."""
    sides = dict(enumerate(sheet.alignment))
    if not any(heading.group for heading in sheet.header):
        yield _row(_heading(heading.text, sides[index]) for index, heading in enumerate(sheet.header))
        return
    yield _row(_spans(sheet))
    below = [(index, heading) for index, heading in enumerate(sheet.header) if heading.group]
    yield _row(_heading(heading.short, sides[index]) for index, heading in below)


def _spans(sheet: Sheet) -> Iterator[str]:
    numbered = enumerate(sheet.header)
    for group, members in groupby(numbered, lambda item: item[1].group):
        found: Sequence[tuple[int, Heading]] = list(members)
        if group:
            yield f'<th class="group" scope="colgroup" colspan="{len(found)}"><span>{_text(group)}</span></th>'
        else:
            yield from (_heading(heading.text, sheet.alignment[index], 2) for index, heading in found)


def _heading(text: str, side: str, rows: int = 1) -> str:
    span = f' rowspan="{rows}"' if rows > 1 else ""
    return f'<th class="{side}" scope="col"{span}>{_text(text)}</th>'


def _body(sheet: Sheet) -> Iterator[str]:
    """One `tbody` a block."""
    starts = [0, *sheet.rules]
    for start, end in zip(starts, [*sheet.rules, len(sheet.rows)]):
        yield "<tbody>"
        yield from (_row(_cells(row, sheet.alignment)) for row in sheet.rows[start:end])
        yield "</tbody>"


def _cells(row: Sequence[Entry], alignment: str) -> Iterator[str]:
    yield f'<th class="{alignment[0]}" scope="row">{_entry(row[0])}</th>'
    yield from (f'<td class="{side}">{_entry(entry)}</td>' for entry, side in zip(row[1:], alignment[1:]))


def _row(cells: Iterator[str]) -> str:
    return f"<tr>{''.join(cells)}</tr>"


def _entry(entry: Entry) -> str:
    value, spread = value_and_spread(entry.text)
    text = _text(value)
    text = f"<b>{text}</b>" if entry.is_best else text
    text = f"<u>{text}</u>" if entry.is_second else text
    text += f"<small> {_text(spread)}</small>" if spread else ""
    return text + (f"<sup>{','.join(map(str, entry.marks))}</sup>" if entry.marks else "")


def _text(text: str) -> str:
    return escape(" ".join(text.split()))
