"""The arguments by which every verb that takes a study file names it."""

from __future__ import annotations

import argparse

from orchestrator.library import find_study
from orchestrator.study import Study, load_study

SET_HELP = "change a training option (train.epochs=5) or a study key (ablation.seeds=[0,1]); may be repeated"


def add_study_arguments(parser: argparse.ArgumentParser) -> None:
    """STUDY, --set and --profile."""
    parser.add_argument("study", metavar="STUDY", help="a study file, or the name of one that ships with cdkd")
    add_change_arguments(parser)


def add_change_arguments(parser: argparse.ArgumentParser) -> None:
    """--set and --profile."""
    parser.add_argument("--set", dest="overrides", metavar="KEY=VALUE", action="append", default=[], help=SET_HELP)
    parser.add_argument("--profile", metavar="NAME", help="a variant that the study file describes under `profiles`")


def load(args: argparse.Namespace) -> Study:
    """The study that the arguments name.

    Raises:
        UserError: with every fault of it.
    """
    return load_study(find_study(args.study), args.overrides, args.profile)
