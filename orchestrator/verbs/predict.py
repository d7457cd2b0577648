"""`cdkd predict CHECKPOINT IMAGE...`: pictures with the predicted skeleton drawn."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import UserError
from orchestrator.verbs.evaluate import add_checkpoint_arguments, checkpoint_overrides

if TYPE_CHECKING:
    from cdkd.instances import PersonInstance
    from cdkd.training import TrainedStudent

Box = tuple[float, float, float, float]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.description = "Draw the pose of one person in each image. The person's box is the whole image unless given."
    parser.epilog = "Example: cdkd predict results/trained/synthetic_tiny person.jpg --box 40,20,200,310 --output drawn"
    add_checkpoint_arguments(parser)
    parser.add_argument("images", metavar="IMAGE", nargs="+", type=Path, help="image files")
    parser.add_argument("--box", metavar="X,Y,W,H", type=read_box, help="the person's box in image pixels")
    parser.add_argument("--output", metavar="DIR", type=Path, default=Path(), help="folder of the pictures (here)")
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


def run(args: argparse.Namespace) -> int:
    """Writes `<image>-pose.png` for every image.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        DataError: an image cannot be read.
        UserError: two pictures would have the same name.
    """
    from cdkd.training import load_student

    student = load_student(args.checkpoint, checkpoint_overrides(args))
    targets = {image: args.output / f"{image.stem}-pose.png" for image in args.images}
    if len(set(targets.values())) < len(targets):
        raise UserError(f"--output {args.output}: two of the images have the same name")
    args.output.mkdir(parents=True, exist_ok=True)
    for image, target in targets.items():
        _draw(student, image, target, args.box, args.score)
        sys.stdout.write(f"{target}\n")
    return 0


def _draw(student: TrainedStudent, image: Path, target: Path, box: Box | None, threshold: float) -> None:
    import cv2

    from cdkd.data.images import ImageCache
    from cdkd.drawing import draw_skeleton
    from cdkd.training import predict_instances

    pixels = ImageCache(False).load(image)
    height, width = pixels.shape[:2]
    instance = _instance(image, box or (0.0, 0.0, float(width), float(height)), student.keypoint_set.count)
    found = predict_instances(student, [instance])
    drawn = draw_skeleton(
        pixels, found.keypoints_image[0], found.scores[0], student.keypoint_set, score_threshold=threshold
    )
    cv2.imwrite(str(target), cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))


def _instance(image: Path, box: Box, keypoints: int) -> PersonInstance:
    """A person of whom only the box is known."""
    import numpy as np

    from cdkd.instances import PersonInstance

    return PersonInstance(
        image=image,
        image_id=0,
        annotation_id=0,
        box=box,
        area=box[2] * box[3],
        keypoints_image=np.zeros((keypoints, 2), np.float32),
        visibility=np.zeros(keypoints, np.int64),
    )
