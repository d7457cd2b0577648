"""A report as Markdown; figures are files beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from analysis.markdown import escape_markdown, markdown
from analysis.report.document import Block, Code, Document, Grid, Items, Picture, Result, Words
from analysis.sheet import Sheet


def report_markdown(document: Document, folder: Path) -> str:
    """The whole report.

    Args:
        document: what it says.
        folder: where it will stand; figures are linked relative to it.
    """
    question = [f"**{escape_markdown(document.question)}**"] if document.question else []
    standing = escape_markdown(document.standing)
    parts = [f"# {escape_markdown(document.study)}", *question, f"> {standing}" if document.is_partial else standing]
    for section in document.sections:
        parts.append(f"## {section.title}")
        parts += [text for block in section.blocks for text in _block(block, folder)]
    return "\n\n".join(parts) + "\n"


def _block(block: Block, folder: Path) -> Iterator[str]:
    if isinstance(block, Words):
        yield escape_markdown(block.text)
    elif isinstance(block, Items):
        yield "\n".join(f"- **{name}**: {escape_markdown(text)}" for name, text in block.items)
    elif isinstance(block, Code):
        yield "\n".join(["```sh", *block.lines, "```"])
    elif isinstance(block, Result):
        yield markdown(block.sheet).strip()
    elif isinstance(block, Grid):
        yield _grid(block.sheet)
    elif isinstance(block, Picture):
        yield from _picture(block, folder)


def _grid(sheet: Sheet) -> str:
    """Without the heading and the caption that a table of results has."""
    parts = markdown(sheet).strip().split("\n\n")[1:]
    return "\n\n".join(part for part in parts if part.strip())


def _picture(picture: Picture, folder: Path) -> Iterator[str]:
    yield f"### {picture.title}"
    yield f"![{picture.title}]({picture.file.relative_to(folder).as_posix()})"
    yield escape_markdown(picture.caption)
