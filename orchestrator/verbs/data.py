"""`cdkd data check|cache|synthesize`: look at a data set, decode it once for all trainings, draw the synthetic one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cdkd.config import TrainingConfig
from orchestrator.errors import UserError
from orchestrator.library import find_study
from orchestrator.paths import results_folder
from orchestrator.verbs.chosen import writing
from orchestrator.verbs.printing import print_table
from orchestrator.verbs.train import SET_HELP, read_config

if TYPE_CHECKING:
    from cdkd.data.check import Findings, SourceFindings
    from cdkd.data.pixel_file import PixelFile

HEADINGS = ("split", "file", "images", "with people", "persons", "boxes", "keypoints", "box side", "left out", "broken")
MOST_LINES = 20
"""Lines about broken records or shared images that are printed; the rest is in the file."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.description = "Check a data set, or make what trainings read faster."
    parser.epilog = (
        "Examples: cdkd data check studies/bases/lsp_32.yaml --data.root /data\n"
        "          cdkd data cache studies/bases/lsp_32.yaml --data.root /data\n"
        "          cdkd data synthesize studies/quickstart.yaml"
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, action, help_line in (
        ("check", check, "read every annotation and image: what is there, missing or broken"),
        ("cache", cache, "decode every image once, into the file that runtime.crop_cache reads"),
        ("synthesize", synthesize, "draw the synthetic set"),
    ):
        child = actions.add_parser(name, help=help_line, description=help_line.capitalize() + ".")
        child.add_argument("file", metavar="FILE", help="a study or a training configuration: its data set is meant")
        child.add_argument("--set", dest="overrides", metavar="KEY=VALUE", action="append", default=[], help=SET_HELP)
        child.add_argument("--data.root", dest="data_root", metavar="DIR", help="the same as --set data.root=DIR")
        child.set_defaults(action_function=action)
        if name == "check":
            child.add_argument("--quick", action="store_true", help="look at the images' headers only")
            child.add_argument(
                "--output", metavar="DIR", type=Path, help="pictures and faults (default: in the results)"
            )
        if name == "cache":
            child.add_argument("--clean", action="store_true", help="remove files of images that have changed since")
            child.add_argument("--verify", action="store_true", help="hold every pixel against its checksum")


def run(args: argparse.Namespace) -> int:
    """Does what the action says.

    Raises:
        UserError: the file cannot be read.
        DataError: the data set cannot be used.
    """
    action: Callable[[argparse.Namespace], int] = args.action_function
    return action(args)


def check(args: argparse.Namespace) -> int:
    """Prints what was found; exit code 2 when something is broken."""
    from cdkd.data.check import check_data

    config = _config(args)
    counter = _Counter("images decoded")
    findings = check_data(config.data, counter, decodes=not args.quick)
    counter.close()
    print_table(HEADINGS, [_row(source) for source in findings.sources])
    for source in findings.sources:
        sys.stdout.write("".join(f"{source.name}: {remark}\n" for remark in source.remarks))
    folder = args.output or results_folder(None) / "data-check"
    _tell_faults(findings, folder)
    _draw(findings, config, folder)
    return UserError.exit_code if findings.broken else 0


def _row(source: SourceFindings) -> tuple[str, ...]:
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in sorted(source.left_out.items()))
    counts = (source.images, source.pictured, source.persons, source.boxes, source.keypoints)
    sides = f"{source.box_sides:.0f} px"
    return (
        source.name,
        str(source.file),
        *(f"{count:,}" for count in counts),
        sides,
        left_out or "-",
        f"{len(source.broken):,}",
    )


def _draw(findings: Findings, config: TrainingConfig, folder: Path) -> None:
    import cv2

    from cdkd.data.check import people_sheet

    for split, people in findings.people.items():
        if people:
            target = folder / f"{split}.png"
            sheet = people_sheet(people, config.data.keypoint_set, config.data.box_padding)
            _, content = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
            with writing(target):
                target.write_bytes(content.tobytes())
            sys.stdout.write(f"{split}: people with their keypoints in {target}\n")


def _tell_faults(findings: Findings, folder: Path) -> None:
    """What is broken, and who is in two splits, on standard error and whole in files."""
    for name, lines, summary in (
        ("broken.txt", findings.broken, "broken records and images"),
        ("shared.txt", findings.shared, "images in two splits"),
    ):
        target = folder / name
        with writing(target):
            target.unlink(missing_ok=True)
            if lines:
                target.write_text("".join(f"{line}\n" for line in lines))
        if lines:
            sys.stderr.write("".join(f"{line}\n" for line in lines[:MOST_LINES]))
            sys.stderr.write(f"{len(lines):,} {summary}; all of them in {target}\n")


def cache(args: argparse.Namespace) -> int:
    """Builds the file of decoded images that `runtime.crop_cache` reads, or says that it is there."""
    from cdkd.data.paths import pixel_cache_folder
    from cdkd.data.pixel_cache import open_or_build, remove_stale
    from cdkd.data.splits import load_splits
    from cdkd.training import images_of

    folder = pixel_cache_folder()
    counter = _Counter("images decoded")
    images = images_of(load_splits(_config(args).data))
    found = open_or_build(folder, images, progress=lambda done, total, _: counter(done, total))
    counter.close()
    size = found.file.stat().st_size
    sys.stdout.write(f"{found.file}: {len(found.entries):,} images, {size / 1e6:,.0f} MB\n")
    if args.clean:
        sys.stdout.write("".join(f"removed {file}\n" for file in remove_stale(folder)))
    if args.verify:
        return _verify(found)
    return 0


def _verify(file: PixelFile) -> int:
    """Reads every pixel again; exit code 2 when some are damaged."""
    damaged = file.damaged_images()
    sys.stderr.write("".join(f"{file.file}: the pixels of {image} are damaged\n" for image in damaged))
    if damaged:
        sys.stderr.write(f"{len(damaged):,} damaged: remove {file.file} and build it again\n")
    return UserError.exit_code if damaged else 0


def synthesize(args: argparse.Namespace) -> int:
    """Draws the synthetic set, or says where it is."""
    from cdkd.data.splits import draw_once

    config = _config(args)
    if config.data.kind != "synthetic":
        raise UserError(f"{args.file}: its data.kind is {config.data.kind}, so there is nothing to draw")
    sys.stdout.write(f"{draw_once(config.data)}\n")
    return 0


def _config(args: argparse.Namespace) -> TrainingConfig:
    """The training configuration of a study or of a configuration file."""
    overrides = [*args.overrides, *([f"data.root={args.data_root}"] if args.data_root else [])]
    if not args.file.endswith(".json"):
        path = find_study(args.file)
        if _is_study(path):
            from orchestrator.study import load_study

            return load_study(path, overrides).config
        return read_config(path, overrides)
    return read_config(Path(args.file), overrides)


def _is_study(path: Path) -> bool:
    from orchestrator.yaml_reader import read_file

    content = read_file(path).plain()
    return isinstance(content, dict) and "study" in content


class _Counter:
    """A line on standard error that counts, on a terminal only."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.is_shown = sys.stderr.isatty()

    def __call__(self, done: int, total: int) -> None:
        if self.is_shown and (done % 16 == 0 or done == total):
            sys.stderr.write(f"\r{done:,} of {total:,} {self.what}")

    def close(self) -> None:
        """End the line."""
        if self.is_shown:
            sys.stderr.write("\r\033[K")
