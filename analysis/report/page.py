"""A report as one page of HTML that needs no other file: no scripts, figures within it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

from analysis.html import STYLE as TABLE_STYLE
from analysis.html import html_fragment
from analysis.report.document import Block, Code, Document, Grid, Items, Picture, Result, Section, Words

STYLE = """
body { max-width: 76rem; margin: 2.5rem auto 4rem; padding: 0 2rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 .9rem; padding-top: .5rem; border-top: 1px solid #ccc; }
h3 { font-size: 1rem; margin: 1.8rem 0 .4rem; }
p, ul { max-width: 46rem; margin: .6rem 0; }
ul { padding-left: 1.2rem; }
a { color: #0b5394; }
.question { font-size: 1.2rem; color: #333; }
.standing { color: #555; }
.partial { color: #1a1a1a; background: #fff4d6; border-left: 4px solid #c98a00; padding: .6rem .9rem; }
nav { margin: 1.2rem 0 0; font-size: .93rem; }
nav a { display: inline-block; margin-right: 1.1rem; }
figure { margin: 0 0 1.6rem; }
figure.picture svg { display: block; width: 100%; max-width: 50rem; height: auto; }
figure.picture figcaption { max-width: 46rem; font-size: .9rem; color: #444; margin-top: .5rem; }
pre { background: #f6f6f6; padding: .8rem 1rem; overflow-x: auto; font-size: .82rem; line-height: 1.45; }
figure.table table { font-size: .9rem; }
figure.table th, figure.table td { padding: .22rem .55rem; }
figure.table thead th { white-space: normal; text-wrap: balance; }
figure.table .scroll {  /* a shadow at the side where more is to be seen */
  background: linear-gradient(to right, #fff 30%, #fff0) 0 0 / 3rem 100% no-repeat local,
    linear-gradient(to left, #fff 30%, #fff0) 100% 0 / 3rem 100% no-repeat local,
    linear-gradient(to right, #0003, #0000) 0 0 / .9rem 100% no-repeat scroll,
    linear-gradient(to left, #0003, #0000) 100% 0 / .9rem 100% no-repeat scroll;
}
.prose td { white-space: normal; overflow-wrap: anywhere; max-width: 44rem; }
.prose th, .prose td { vertical-align: top; }
@page { size: A4; margin: 15mm 14mm; }
@media print {
  html { font-size: 11.5px; }
  body { margin: 0; padding: 0; max-width: none; font-size: 1rem; }
  nav { display: none; }
  h2, h3 { break-after: avoid; }
  figure, tr { break-inside: avoid; }
  .prose figure { break-inside: auto; }
  figure.table .scroll { overflow: visible; background: none; }
  figure.table table { font-size: .82rem; }
  figure.table th, figure.table td { padding: .15rem .4rem; vertical-align: top; }
  figure.table tbody th { white-space: normal; }
  .result td small { display: block; }
  .prose td { max-width: none; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .72rem; }
}
""".strip()


def report_html(document: Document) -> str:
    """The whole page."""
    standing = "standing partial" if document.is_partial else "standing"
    question = f'<p class="question">{escape(document.question)}</p>\n' if document.question else ""
    links = " ".join(f'<a href="#{section.anchor}">{escape(section.title)}</a>' for section in document.sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(document.study)}: report</title>\n<style>\n{TABLE_STYLE}\n{STYLE}\n</style>\n</head>\n<body>\n"
        f"<header>\n<h1>{escape(document.study)}</h1>\n{question}"
        f'<p class="{standing}">{escape(document.standing)}</p>\n<nav>{links}</nav>\n</header>\n'
        f"<main>\n{''.join(map(_section, document.sections))}</main>\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    blocks = "\n".join(text for block in section.blocks for text in _block(block))
    return f'<section>\n<h2 id="{section.anchor}">{escape(section.title)}</h2>\n{blocks}\n</section>\n'


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Words):
        yield f"<p>{escape(block.text)}</p>"
    elif isinstance(block, Items):
        yield f"<ul>{''.join(f'<li><b>{escape(name)}</b>: {escape(text)}</li>' for name, text in block.items)}</ul>"
    elif isinstance(block, Code):
        yield f"<pre>{escape(chr(10).join(block.lines))}</pre>"
    elif isinstance(block, Result):
        yield f'<div class="result">{html_fragment(block.sheet)}</div>'
    elif isinstance(block, Grid):
        kind = "grid prose" if block.is_prose else "grid"
        yield f'<div class="{kind}">{html_fragment(block.sheet)}</div>'
    elif isinstance(block, Picture):
        yield _picture(block)


def _picture(picture: Picture) -> str:
    svg = inlined(picture.file.read_text(encoding="utf-8"), picture.name, picture.title)
    return (
        f'<figure class="picture">\n<h3>{escape(picture.title)}</h3>\n{svg}\n'
        f"<figcaption>{escape(picture.caption)}</figcaption>\n</figure>"
    )


def inlined(svg: str, prefix: str, title: str) -> str:
    """An SVG file of Matplotlib's as an element of a page.

    Its ids get a prefix, since those of two figures are the same; its style sheet, which would be the page's, becomes
    an attribute; its size is left to the page.
    """
    found = re.search(r'<svg\b[^>]*\bviewBox="([^"]*)"[^>]*>(.*)</svg>', svg, re.DOTALL)
    if found is None:
        raise ValueError(f"not an SVG picture with a viewBox: {svg[:80]!r}")
    content = re.sub(r"<metadata>.*?</metadata>|<style\b.*?</style>", "", found.group(2), flags=re.DOTALL)
    content = re.sub(r'\bid="', f'id="{prefix}-', content)
    content = re.sub(r'(?:xlink:)?href="#', f'href="#{prefix}-', content)
    content = content.replace("url(#", f"url(#{prefix}-")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{found.group(1)}" role="img" aria-label="{escape(title)}" '
        f'style="stroke-linejoin: round; stroke-linecap: butt">{content.strip()}</svg>'
    )
