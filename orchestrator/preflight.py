"""What is looked at before a study starts: everything that would otherwise fail its first trial an hour later."""

from __future__ import annotations

from pathlib import Path

from cdkd.config import TrainingConfig, from_mapping
from orchestrator.errors import UserError
from orchestrator.plan import Plan, TrialSpec


def preflight(plan: Plan) -> None:
    """Load every weights file that the plan's trainings name into the network it is meant for.

    Raises:
        UserError: a file does not fit, one line each.
    """
    problems = {_problem(spec) for spec in _with_files(plan)} - {""}
    if problems:
        raise UserError(sorted(problems))


def _with_files(plan: Plan) -> list[TrialSpec]:
    """One trial for each combination of networks and files."""
    found: dict[str, TrialSpec] = {}
    for spec in (*plan.trials, *plan.teachers):
        teacher, student = spec.config["teacher"], spec.config["student"]
        if teacher["checkpoint"] or student["pretrained"]:
            found.setdefault(repr([teacher, student, spec.config["simcc"]["split_ratio"]]), spec)
    return list(found.values())


def _problem(spec: TrialSpec) -> str:
    from cdkd.checkpoint import CheckpointError
    from cdkd.keypoints import KEYPOINT_SETS
    from cdkd.models.weights import WeightsError
    from cdkd.training import load_teacher

    config = from_mapping(TrainingConfig, spec.config)
    try:
        if config.needs_teacher and config.teacher.checkpoint:
            load_teacher(config, Path(config.teacher.checkpoint), KEYPOINT_SETS[config.data.keypoint_set])
        if config.student.pretrained:
            _load_pretrained(config)
    except (CheckpointError, WeightsError) as error:
        return f"{spec.arm}: {error}"
    return ""


def _load_pretrained(config: TrainingConfig) -> None:
    from cdkd.data.streams import torch_generator
    from cdkd.keypoints import KEYPOINT_SETS
    from cdkd.models.pose import build_pose_net
    from cdkd.models.weights import load_backbone

    net = build_pose_net(
        config.student.backbone,
        config.student.input_size,
        config.simcc.split_ratio,
        KEYPOINT_SETS[config.data.keypoint_set].count,
        generator=torch_generator(config.seed, "student"),
    )
    load_backbone(net, Path(config.student.pretrained))
