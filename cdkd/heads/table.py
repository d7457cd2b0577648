"""The kinds of pose model, and the one place where a network is built from a configuration.

To add a kind:

1. One file `cdkd/heads/<kind>.py` with
   - its prediction: a frozen dataclass under `cdkd.models.head.Prediction`;
   - its head: a `cdkd.models.head.Head`, from the backbone's feature to a `PoseOutput`; `final_feature` is one map
     per keypoint or None; names of its parts are those of the public checkpoints; `initialise` draws every
     weight, and fills every buffer, that `cdkd.models.initialisation.initialise` does not know;
   - its codec: a `cdkd.heads.codec.Codec` (loss, decode, evidence). What is learned for the loss alone (RLE's flow)
     is part of the head, reaches the codec in a field of the prediction, and so is trained and saved;
   - `build_head` and `build_codec`.
2. One line in KINDS below.
3. One entry in `cdkd.config.HEADS`: which options it reads, and what is known of it without torch. Options of its
   own are a section in `cdkd/config.py`; `orchestrator.schema` is then written anew.

The loop, the distiller, evaluation, `cdkd predict` and the attention maps need no change. Every kind is trained for a
step, decoded and drawn by `tests/cdkd/heads/test_table.py`.

A network is built from the configuration of its own training: a teacher's is `config.for_teacher()`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from cdkd.config import TrainingConfig
from cdkd.heads import cal, dark, heatmap, rle, simcc, tokenpose
from cdkd.heads.codec import Codec, Kind
from cdkd.models.pose import PoseNet, build_two_stream_backbone, check_sizes

KINDS: Mapping[str, Kind] = {
    "simcc": Kind(simcc.build_head, simcc.build_codec),
    "heatmap": Kind(heatmap.build_head, heatmap.build_codec),
    "dark": Kind(heatmap.build_head, dark.build_codec),
    "cal": Kind(cal.build_head, cal.build_codec, build_two_stream_backbone),
    "tokenpose": Kind(tokenpose.build_head, tokenpose.build_codec),
    "rle": Kind(rle.build_head, rle.build_codec),
}
"""By the name in `head.kind`."""


def build_codec(config: TrainingConfig) -> Codec[Any]:
    """How the student of a configuration is trained and read."""
    return KINDS[config.head.kind].build_codec(config)


def assemble_pose_net(config: TrainingConfig, keypoint_count: int) -> PoseNet:
    """The student of a configuration with PyTorch's default weights on the default device.

    Raises:
        ValueError: sizes the network cannot have.
    """
    check_sizes(config.student.input_size, keypoint_count)
    kind = KINDS[config.head.kind]
    backbone = kind.build_backbone(config.student.backbone)
    head = kind.build_head(config, backbone.feature_channels, keypoint_count)
    return PoseNet(backbone, head, keypoint_count=keypoint_count, input_size=config.student.input_size)


def build_pose_net(config: TrainingConfig, keypoint_count: int, *, generator: torch.Generator) -> PoseNet:
    """The student of a configuration on the CPU, with random weights, every one of which is drawn from `generator`.

    The backbone is drawn before the head, so that it does not depend on the head's sizes. The global
    random state is neither read nor changed.

    Args:
        config: names backbone, sizes and head.
        keypoint_count: J.
        generator: source of the weights.

    Raises:
        ValueError: sizes the network cannot have.
    """
    with torch.device("meta"):
        net = assemble_pose_net(config, keypoint_count)
    net = net.to_empty(device="cpu")
    net.initialise(generator)
    return net
