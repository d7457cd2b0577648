"""Pose networks of a few sizes, for tests."""

from __future__ import annotations

from typing import Any

import torch

from cdkd.config import TrainingConfig, resolve
from cdkd.heads.table import assemble_pose_net, build_pose_net
from cdkd.models.pose import PoseNet


def plain_config(backbone: str, input_size: int, kind: str = "simcc", **changes: Any) -> TrainingConfig:
    """The configuration of a network that is trained without distillation; sections by keyword."""
    return resolve(
        {"student": {"backbone": backbone, "input_size": input_size}, "head": {"kind": kind}},
        {"distill": {"sape": {"enabled": False}, "cca": {"enabled": False}}},
        changes,
    )


def simcc_net(
    backbone: str,
    input_size: int,
    split_ratio: float,
    keypoint_count: int,
    *,
    generator: torch.Generator | None = None,
    **simcc: Any,
) -> PoseNet:
    """A SimCC network with random weights; without a generator, assembled on the default device."""
    config = plain_config(backbone, input_size, simcc={"split_ratio": split_ratio, **simcc})
    if generator is None:
        return assemble_pose_net(config, keypoint_count)
    return build_pose_net(config, keypoint_count, generator=generator)
