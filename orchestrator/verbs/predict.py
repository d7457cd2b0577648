"""`cdkd predict CHECKPOINT ...`: pictures of what trained networks predict, and of where they look."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cdkd.options import nearest
from orchestrator.errors import UserError
from orchestrator.verbs.chosen import Box, Chosen, persons_in_images, spread_persons, worst_persons, writing
from orchestrator.verbs.evaluate import SPLITS, add_checkpoint_arguments, checkpoint_overrides

if TYPE_CHECKING:
    from cdkd.drawing import Image
    from cdkd.gallery import Network
    from cdkd.keypoints import KeypointSet

GRID_COUNT, GRID_COLUMNS, ATTENTION_COUNT = 24, 6, 4
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

DESCRIPTION = """\
Draw what a trained network predicts:
  of images               the image with the skeleton, beside the network's input with every pixel enlarged
  with --split            a grid of persons of a split, evenly spread over it
  with --failures         the persons of a split with the largest errors, and a CSV of the errors of all
  with --attention        a picture a person: Grad-CAM of keypoints at the last convolutions of the network
--compare puts other networks, of any input size, beside the first.

Predicted limbs are solid: the person's left dark blue, right orange, middle pale. Ground truth is dashed and
white, its keypoints are squares in the same colours."""
EPILOG = """\
Examples:
  cdkd predict results/trained/small person.jpg --box 40,20,200,310 --output drawn
  cdkd predict results/trained/small --split val --count 24 --output grid.png
  cdkd predict results/trained/small --split val --failures 24 --output failures.png
  cdkd predict results/trained/baseline --compare results/trained/cdkd --split val --count 4 \\
      --attention head_top,left_knee --names baseline,CDKD --output attention"""
USAGE = """%(prog)s CHECKPOINT (IMAGE... [--box X,Y,W,H] | --split SPLIT [--count N | --failures N])
                    [--attention KEYPOINTS] [--compare CHECKPOINT]... [--output PATH] [options]"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.description, parser.epilog, parser.usage = DESCRIPTION, EPILOG, USAGE
    add_checkpoint_arguments(parser)
    images = parser.add_argument("images", metavar="IMAGE", nargs="+", default=[], type=Path, help="image files")
    images.required = False  # not nargs="*", by which argparse takes no images when an option comes before them
    parser.add_argument("--box", metavar="X,Y,W,H", type=read_box, help="the person's box in pixels (the whole image)")
    parser.add_argument("--split", metavar="SPLIT", type=_read_split, help=f"persons of a split: {', '.join(SPLITS)}")
    parser.add_argument(
        "--count", metavar="N", type=_read_count, help=f"how many ({GRID_COUNT}; attention maps: {ATTENTION_COUNT})"
    )
    parser.add_argument(
        "--failures", metavar="N", type=_read_count, help="the N persons that the network gets most wrong"
    )
    parser.add_argument("--columns", metavar="N", type=_read_count, help=f"persons in a row of a grid ({GRID_COLUMNS})")
    parser.add_argument(
        "--attention", metavar="KEYPOINTS", type=_read_words, help="attention maps of these keypoints (a,b,...)"
    )
    parser.add_argument(
        "--compare", metavar="CHECKPOINT", type=Path, action="append", default=[], help="another network; repeatable"
    )
    parser.add_argument("--names", metavar="A,B", type=_read_words, help="the networks' names (their folders')")
    parser.add_argument(
        "--output", metavar="PATH", type=Path, default=Path(), help="folder of the pictures, or file of a grid (here)"
    )
    parser.add_argument("--score", metavar="S", type=float, default=0.0, help="leave out keypoints scored below S")


def read_box(text: str) -> Box:
    """`x,y,w,h` in image pixels.

    Raises:
        ArgumentTypeError: not four numbers, or no area.
    """
    try:
        x, y, width, height = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be four numbers x,y,w,h, got {text!r}") from None
    if width <= 0 or height <= 0:
        raise argparse.ArgumentTypeError(f"must have a width and a height above 0, got {text!r}")
    return x, y, width, height


def _read_split(text: str) -> str:
    if text not in SPLITS:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(SPLITS)}, got {text!r}{nearest(text, SPLITS)}")
    return text


def _read_count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {text!r}")
    return int(text)


def _read_words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise argparse.ArgumentTypeError(f"must be names separated by commas, got {text!r}")
    return words


def run(args: argparse.Namespace) -> int:
    """Writes the pictures and prints their paths.

    Raises:
        CheckpointError: a checkpoint cannot be used.
        ConfigError: an override is wrong, or the split is empty.
        DataError: the data set or an image cannot be read.
        UserError: arguments that do not go together, an unknown keypoint, or a file that cannot be written.
    """
    _check_combination(args)
    networks = _networks(args)
    keypoints = _keypoint_indices(args.attention or [], networks[0].student.keypoint_set)
    chosen = _chosen(args, networks[0])
    for target, picture in _pictures(args, networks, chosen, keypoints):
        _write(target, picture)
        sys.stdout.write(f"{target}\n")
    return 0


def _check_combination(args: argparse.Namespace) -> None:
    """Every option has an effect, or is refused."""
    if bool(args.images) == bool(args.split):
        raise UserError("predict: give image files or --split, and not both")
    of_a_split = {"--count": args.count, "--failures": args.failures, "--columns": args.columns}
    if args.images and any(of_a_split.values()):
        given = next(option for option, value in of_a_split.items() if value)
        raise UserError(f"{given}: goes with --split, not with image files")
    if args.split and args.box:
        raise UserError("--box: goes with image files; persons of a split have their boxes")
    if args.count and args.failures:
        raise UserError("--count: --failures says already how many persons are drawn")
    if args.columns and args.attention:
        raise UserError("--columns: attention maps are one picture a person, without a grid")
    is_folder = args.images or args.attention
    if is_folder and args.output.suffix.lower() in PICTURE_SUFFIXES:
        raise UserError(f"--output {args.output}: must be a folder, because every person gets a picture")
    count = 1 + len(args.compare)
    if args.names and len(args.names) != count:
        raise UserError(f"--names: must name {count} network{'s'[: count - 1]}, got {', '.join(args.names)}")


def _networks(args: argparse.Namespace) -> list[Network]:
    from cdkd.gallery import Network
    from cdkd.inference import load_student

    files = [args.checkpoint, *args.compare]
    names = args.names or [default_name(file) for file in files]
    overrides = checkpoint_overrides(args)
    networks = [Network(name, load_student(file, overrides), args.score) for name, file in zip(names, files)]
    wanted = networks[0].student.keypoint_set.name
    for file, network in zip(files, networks):
        found = network.student.keypoint_set.name
        if found != wanted:
            raise UserError(f"--compare {file}: predicts {found}, the first network {wanted}")
    return networks


def default_name(checkpoint: Path) -> str:
    """The folder's name, for a `last.pt` with what is not the best of it."""
    path = checkpoint.resolve()
    if path.is_dir():
        return path.name
    return path.parent.name if path.stem == "best" else f"{path.parent.name}/{path.stem}"


def _keypoint_indices(names: Sequence[str], keypoint_set: KeypointSet) -> list[int]:
    for name in names:
        if name not in keypoint_set.names:
            known = ", ".join(keypoint_set.names)
            hint = nearest(name, keypoint_set.names)
            raise UserError(f"--attention: {keypoint_set.name} has no keypoint {name!r}{hint}; it has {known}")
    return [keypoint_set.names.index(name) for name in names]


def _chosen(args: argparse.Namespace, network: Network) -> Chosen:
    """Who is drawn."""
    if args.images:
        return persons_in_images(args.images, args.box, network)
    if args.failures:
        table = _sheet_file(args).with_suffix(".csv")
        chosen = worst_persons(network, args.split, args.failures, table)
        sys.stdout.write(f"{table}\n")
        return chosen
    return spread_persons(network, args.split, args.count or (ATTENTION_COUNT if args.attention else GRID_COUNT))


def _pictures(
    args: argparse.Namespace, networks: Sequence[Network], chosen: Chosen, keypoints: Sequence[int]
) -> Iterator[tuple[Path, Image]]:
    """Every picture and its file."""
    from cdkd.gallery import attention_picture, grid, image_picture

    if args.split and not args.attention:
        columns = args.columns or max(1, GRID_COLUMNS // len(networks))
        yield _sheet_file(args), grid(networks, chosen.persons, chosen.captions, chosen.title, columns=columns)
        return
    kind = "attention" if args.attention else "pose"
    targets = [args.output / f"{stem}-{kind}.png" for stem in chosen.stems]
    if len(set(targets)) < len(targets):
        raise UserError(f"--output {args.output}: two of the images have the same name")
    for person, caption, target in zip(chosen.persons, chosen.captions, targets):
        if args.attention:
            yield target, attention_picture(networks, person, keypoints, caption)
        else:
            yield target, image_picture(networks, person)


def _sheet_file(args: argparse.Namespace) -> Path:
    """The file of a grid; the errors lie beside it."""
    output: Path = args.output
    if output.suffix.lower() in PICTURE_SUFFIXES:
        return output
    return output / f"{args.split}-{'failures' if args.failures else 'grid'}.png"


def _write(target: Path, picture: Image) -> None:
    import cv2

    is_encoded, content = cv2.imencode(target.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not is_encoded:
        height, width = picture.shape[:2]
        raise UserError(f"{target}: a picture of {width}x{height} pixels cannot be stored as {target.suffix}")
    with writing(target):
        target.write_bytes(content.tobytes())
