"""Keypoint sets: COCO-17, MPII-16, CrowdPose-14 and LSP-14. Data only, standard library only.

"Left" and "right" are the person's own throughout. All indices count from 0. The sets at the end of the
file are written in keypoint names; indices, flip pairs and sigmas are looked up from them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class KeypointSet:
    """One convention of naming and ordering the keypoints of a person.

    Attributes:
        name: the convention's name in a configuration.
        names: keypoint names in the order of the annotation files.
        flip_pairs: pairs of keypoints that change places in a mirrored image.
        skeleton: limbs, as pairs of keypoints.
        sigmas: per-keypoint constants of OKS (COCO's `sigma`; OKS uses 2 sigma).
        upper_body: keypoints of the upper body, for half-body augmentation.
        head_segment: (upper neck or neck, top of the head), whose length normalises PCKh; None where not annotated.
        torso: (left shoulder, right hip), whose distance normalises PCK.

    Raises:
        ValueError: an index outside the set, a keypoint in two flip pairs, or not one sigma per keypoint.
    """

    name: str
    names: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    skeleton: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    upper_body: tuple[int, ...]
    head_segment: tuple[int, int] | None
    torso: tuple[int, int] | None

    def __post_init__(self) -> None:
        if len(self.sigmas) != self.count or not all(math.isfinite(sigma) and sigma > 0 for sigma in self.sigmas):
            raise ValueError(f"{self.name}: needs {self.count} positive sigmas, got {self.sigmas}")
        paired = [index for pair in self.flip_pairs for index in pair]
        if len(set(paired)) != len(paired):
            raise ValueError(f"{self.name}: a keypoint is in two flip pairs: {self.flip_pairs}")
        segments = [segment for segment in (self.head_segment, self.torso) if segment]
        used = [*paired, *self.upper_body, *(index for pair in (*self.skeleton, *segments) for index in pair)]
        if not all(0 <= index < self.count for index in used):
            raise ValueError(f"{self.name}: an index lies outside 0..{self.count - 1}")

    @property
    def count(self) -> int:
        """Number of keypoints (J)."""
        return len(self.names)

    @property
    def flip_permutation(self) -> tuple[int, ...]:
        """For each keypoint, the keypoint whose place it takes in a mirrored image (an involution)."""
        order = list(range(self.count))
        for first, second in self.flip_pairs:
            order[first], order[second] = second, first
        return tuple(order)

    @property
    def groups(self) -> dict[str, tuple[int, ...]]:
        """`printed_groups` of this set."""
        return printed_groups(self.names)


PRINTED_GROUPS = ("head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
"""Columns of the paper's tables, in their order."""


def printed_groups(names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The keypoints of each printed column: left and right, or the top of the head; columns without any are absent."""
    bearers = {group: (group, f"{group}_top", f"left_{group}", f"right_{group}") for group in PRINTED_GROUPS}
    members = {
        group: tuple(index for index, name in enumerate(names) if name in bearers[group]) for group in PRINTED_GROUPS
    }
    return {group: indices for group, indices in members.items() if indices}


SIGMAS: dict[str, float] = {
    # COCO's constants, as on the keypoint evaluation page of cocodataset.org and in pycocotools.
    "nose": 0.026,
    "eye": 0.025,
    "ear": 0.035,
    "shoulder": 0.079,
    "elbow": 0.072,
    "wrist": 0.062,
    "hip": 0.107,
    "knee": 0.087,
    "ankle": 0.089,
    # COCO has no head top and no neck; CrowdPose's evaluation gives both 0.079, and so do MPII and LSP here.
    "head": 0.079,
    "head_top": 0.079,
    "neck": 0.079,
    "upper_neck": 0.079,
    # Only MPII has pelvis and thorax, and it publishes no sigmas (its score is PCKh): a pelvis is as hard to
    # place as the hips it lies between, a thorax as the shoulders. OKS on MPII and LSP is this project's own.
    "pelvis": 0.107,
    "thorax": 0.079,
}
"""OKS sigma of each body part; left and right share one."""


def _keypoint_set(
    name: str, names: str, *, limbs: tuple[str, ...], lower_body: str, head_segment: tuple[str, str] | None
) -> KeypointSet:
    """Build a set from keypoint names separated by blanks; each of `limbs` is a chain of joined keypoints."""
    ordered = tuple(names.split())
    index = {keypoint: position for position, keypoint in enumerate(ordered)}
    chains = [[index[keypoint] for keypoint in limb.split()] for limb in limbs]
    mirrored = [keypoint.replace("left_", "right_") for keypoint in ordered if keypoint.startswith("left_")]
    pairs = sorted(sorted((index[right], index[right.replace("right_", "left_")])) for right in mirrored)
    return KeypointSet(
        name=name,
        names=ordered,
        flip_pairs=tuple((first, second) for first, second in pairs),
        skeleton=tuple(limb for chain in chains for limb in pairwise(chain)),
        sigmas=tuple(SIGMAS[keypoint.removeprefix("left_").removeprefix("right_")] for keypoint in ordered),
        upper_body=tuple(position for keypoint, position in index.items() if keypoint not in lower_body.split()),
        head_segment=(index[head_segment[0]], index[head_segment[1]]) if head_segment else None,
        torso=(index["left_shoulder"], index["right_hip"]),
    )


_LEGS = "left_hip right_hip left_knee right_knee left_ankle right_ankle"

_COCO17 = _keypoint_set(
    "coco17",
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow "
    "left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle",
    limbs=(
        "nose left_eye left_ear left_shoulder left_elbow left_wrist",
        "nose right_eye right_ear right_shoulder right_elbow right_wrist",
        "left_shoulder left_hip left_knee left_ankle",
        "right_shoulder right_hip right_knee right_ankle",
        "left_eye right_eye",
        "left_shoulder right_shoulder",
        "left_hip right_hip",
    ),
    lower_body=_LEGS,
    head_segment=None,
)
_MPII16 = _keypoint_set(
    "mpii16",
    "right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax upper_neck head_top "
    "right_wrist right_elbow right_shoulder left_shoulder left_elbow left_wrist",
    limbs=(
        "right_ankle right_knee right_hip pelvis left_hip left_knee left_ankle",
        "pelvis thorax upper_neck head_top",
        "right_wrist right_elbow right_shoulder thorax left_shoulder left_elbow left_wrist",
    ),
    lower_body=f"{_LEGS} pelvis",
    head_segment=("upper_neck", "head_top"),
)
_CROWDPOSE14 = _keypoint_set(
    "crowdpose14",
    # As in the published files: "head" is the top of the head.
    "left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist "
    "left_hip right_hip left_knee right_knee left_ankle right_ankle head neck",
    limbs=(
        "head neck",
        "left_wrist left_elbow left_shoulder neck right_shoulder right_elbow right_wrist",
        "left_shoulder left_hip left_knee left_ankle",
        "right_shoulder right_hip right_knee right_ankle",
        "left_hip right_hip",
    ),
    lower_body=_LEGS,
    head_segment=("neck", "head"),
)
_LSP14 = _keypoint_set(
    "lsp14",
    "right_ankle right_knee right_hip left_hip left_knee left_ankle "
    "right_wrist right_elbow right_shoulder left_shoulder left_elbow left_wrist neck head_top",
    limbs=(
        "head_top neck",
        "right_wrist right_elbow right_shoulder neck left_shoulder left_elbow left_wrist",
        "right_shoulder right_hip right_knee right_ankle",
        "left_shoulder left_hip left_knee left_ankle",
        "left_hip right_hip",
    ),
    lower_body=_LEGS,
    head_segment=("neck", "head_top"),
)

KEYPOINT_SETS: dict[str, KeypointSet] = {
    keypoint_set.name: keypoint_set for keypoint_set in (_COCO17, _MPII16, _CROWDPOSE14, _LSP14)
}
"""Every keypoint set by the name a configuration gives it."""
