"""Fully Connected Layer, logits: one linear layer per axis between the classifiers (paper Table V).

After bridge distillation. The layer is trained beside the student and dropped with the teacher.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from cdkd.distill.cca import rebinning_matrix
from cdkd.distill.divergence import Divergence
from cdkd.models.initialisation import initialise
from cdkd.simcc import class_count

AXES = 2
SIDES = ("student", "teacher")


class FullyConnectedLogits(nn.Module):
    """The divergence after one linear layer per axis, shared by the keypoints, on one side's logits.

    The gradient reaches the layers and the student's logits; the teacher's logits get none.

    Args:
        inputs: classes of the side that the layers are on.
        outputs: classes of the other side.
        side: one of SIDES.
        divergence: of the two distributions.

    Raises:
        ValueError: an unknown side.
    """

    def __init__(self, inputs: int, outputs: int, *, side: str, divergence: Divergence) -> None:
        super().__init__()
        if side not in SIDES:
            raise ValueError(f"side must be one of {', '.join(SIDES)}, got {side!r}")
        self.side = side
        self.divergence = divergence
        layers = [skip_init(nn.Linear, inputs, outputs) for _ in range(AXES)]  # type: ignore[no-untyped-call]
        self.layers = nn.ModuleList(layers)

    def forward(
        self, student_logits: Sequence[Tensor], teacher_logits: Sequence[Tensor], weight: Tensor, tau: Tensor
    ) -> Tensor:
        """The divergence, (); arguments as those of `Divergence`."""
        student, teacher = list(student_logits), [logits.detach() for logits in teacher_logits]
        if self.side == "student":
            student = self.adapt(student)
        else:
            teacher = self.adapt(teacher)
        return self.divergence(student, teacher, weight, tau)

    def adapt(self, logits: Sequence[Tensor]) -> list[Tensor]:
        """One (B, J, inputs) per axis to one (B, J, outputs)."""
        return [layer(each) for layer, each in zip(self.layers, logits, strict=True)]


def build_fully_connected_logits(
    side: str,
    divergence: Divergence,
    *,
    student: tuple[int, float],
    teacher: tuple[int, float],
    generator: torch.Generator,
) -> FullyConnectedLogits:
    """The layers with their first weights.

    On the student's side PyTorch's default, drawn from `generator`. On the teacher's side the mean of the
    teacher's logits over each student bin, bias 0: layers that turn the target itself could else agree
    with the student on anything.

    Args:
        side: one of SIDES.
        divergence: of the two distributions.
        student: input size in pixels and bins per pixel.
        teacher: likewise.
        generator: source of the weights.

    Raises:
        ValueError: an unknown side.
    """
    ours, theirs = class_count(*student), class_count(*teacher)
    if side == "teacher":
        aligner = FullyConnectedLogits(theirs, ours, side=side, divergence=divergence)
        _begin_as_bin_means(aligner, teacher[0] * teacher[1] / (student[0] * student[1]))
        return aligner
    aligner = FullyConnectedLogits(ours, theirs, side=side, divergence=divergence)
    initialise(aligner, generator)
    return aligner


@torch.no_grad()
def _begin_as_bin_means(aligner: FullyConnectedLogits, ratio: float) -> None:
    for layer in (module for module in aligner.modules() if isinstance(module, nn.Linear)):
        overlap = rebinning_matrix(layer.in_features, layer.out_features, ratio)
        # a student bin beyond the teacher's last one, of a much coarser teacher, begins at 0
        layer.weight.copy_(overlap / overlap.sum(1, keepdim=True).clamp_min(torch.finfo(overlap.dtype).tiny))
        layer.bias.zero_()
