"""`cdkd evaluate CHECKPOINT`: the scores of a trained network."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from orchestrator.verbs.train import SET_HELP, read_overrides

SPLITS = ("train", "val", "test")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.description = (
        "Score a trained network on a split of the data set it was trained on, or on another one; in the annotated\n"
        "boxes and, where the data set names a person detector's, in those (`ap@det`)."
    )
    parser.epilog = "Example: cdkd evaluate results/trained/synthetic_tiny --split val --set evaluation.flip_test=false"
    add_checkpoint_arguments(parser)
    parser.add_argument("--split", choices=SPLITS, default="val", help="part of the data set (%(default)s)")
    parser.add_argument(
        "--predictions",
        metavar="DIR",
        type=Path,
        help="write the predictions too, in the data set's submission format (COCO's JSON, MPII's .mat)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, per-keypoint scores included")


def add_checkpoint_arguments(parser: argparse.ArgumentParser) -> None:
    """CHECKPOINT, --set and --data.root."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="best.pt, last.pt, or a training's folder")
    parser.add_argument("--set", dest="overrides", metavar="KEY=VALUE", action="append", default=[], help=SET_HELP)
    parser.add_argument("--data.root", dest="data_root", metavar="DIR", help="the same as --set data.root=DIR")


def checkpoint_overrides(args: argparse.Namespace) -> dict[str, object]:
    """The changes to the checkpoint's configuration that the arguments ask for."""
    return read_overrides(args.overrides) | ({"data.root": args.data_root} if args.data_root else {})


def run(args: argparse.Namespace) -> int:
    """Prints the scores.

    Raises:
        CheckpointError: the file cannot be used.
        ConfigError: an override is wrong, or the split is empty.
        DataError: the data set is missing or broken.
    """
    from cdkd.inference import evaluate_checkpoint

    scores = evaluate_checkpoint(args.checkpoint, args.split, checkpoint_overrides(args), predictions=args.predictions)
    if args.json:
        sys.stdout.write(json.dumps(scores, indent=1) + "\n")
        return 0
    for name, value in scores.items():
        if "/" not in name:
            sys.stdout.write(f"{name}\t{value:.4f}\n")
    return 0
