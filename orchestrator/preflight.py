"""What is looked at before a study starts: everything that would otherwise fail its first trial an hour later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from cdkd.config import TrainingConfig
from cdkd.options import from_mapping
from orchestrator.errors import Place, Problem, UserError
from orchestrator.plan import Plan

PlaceOf = Callable[[str], Place]
"""Where a training option was written."""


def preflight(plan: Plan, place_of: PlaceOf) -> None:
    """Load every weights file that the plan's trainings name into the network it is meant for.

    Raises:
        UserError: a file does not fit, or a batch does not divide among the workers; one line each.
    """
    found: set[tuple[str, str]] = set()
    looked_at: set[str] = set()
    for spec in (*plan.trials, *plan.teachers):
        config = from_mapping(TrainingConfig, spec.config)
        found.update(_batch_problems(config, plan.resources.num_workers))
        teacher = config.teacher if config.needs_teacher else None
        needs = repr((teacher, config.student, config.head, config.simcc.split_ratio))
        if needs not in looked_at:
            looked_at.add(needs)
            found.update(_file_problems(config))
    if found:
        raise UserError.of(Problem(place_of(key), key, message) for key, message in sorted(found))


def _batch_problems(config: TrainingConfig, num_workers: int) -> Iterator[tuple[str, str]]:
    if config.train.batch_size % num_workers:
        yield "train.batch_size", f"must be a multiple of the {num_workers} workers, got {config.train.batch_size}"


def _file_problems(config: TrainingConfig) -> Iterator[tuple[str, str]]:
    if not (config.needs_teacher and config.teacher.checkpoint) and not config.student.pretrained:
        return
    from cdkd.checkpoint import CheckpointError
    from cdkd.keypoints import KEYPOINT_SETS
    from cdkd.models.weights import WeightsError
    from cdkd.training import load_teacher

    key = "teacher.checkpoint"
    try:
        if config.needs_teacher and config.teacher.checkpoint:
            load_teacher(config, Path(config.teacher.checkpoint), KEYPOINT_SETS[config.data.keypoint_set])
        if config.student.pretrained:
            key = "student.pretrained"
            _load_pretrained(config)
    except (CheckpointError, WeightsError) as error:
        yield key, str(error)


def _load_pretrained(config: TrainingConfig) -> None:
    from cdkd.data.streams import torch_generator
    from cdkd.heads.table import build_pose_net
    from cdkd.keypoints import KEYPOINT_SETS
    from cdkd.models.weights import load_backbone

    count = KEYPOINT_SETS[config.data.keypoint_set].count
    net = build_pose_net(config, count, generator=torch_generator(config.seed, "student"))
    load_backbone(net, Path(config.student.pretrained))
