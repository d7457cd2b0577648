"""Same Class Number: bin against bin, one to one, between classifiers of equal length (paper Table V).

The lengths are made equal by the split ratios, in either of two readings of the paper: the student's is
raised (at 64 pixels 12 bins per pixel, 768 classes, against a teacher of 256 pixels and 3), or the
teacher's is lowered (0.75, 192 classes). Student and teacher of one input size and split ratio give plain
logit distillation at equal resolution.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from cdkd.distill.divergence import Divergence
from cdkd.simcc import class_count


class SameClassNumber(nn.Module):
    """The divergence of two classifiers of one length; the teacher's logits get no gradient."""

    def __init__(self, *, divergence: Divergence) -> None:
        super().__init__()
        self.divergence = divergence

    def forward(
        self, student_logits: Sequence[Tensor], teacher_logits: Sequence[Tensor], weight: Tensor, tau: Tensor
    ) -> Tensor:
        """The divergence, (); arguments as those of `Divergence`, with C_s = C_t."""
        teacher = [logits.detach() for logits in teacher_logits]
        return self.divergence(student_logits, teacher, weight, tau)


def build_same_class_number(
    divergence: Divergence, *, student: tuple[int, float], teacher: tuple[int, float]
) -> SameClassNumber:
    """One-to-one alignment.

    Args:
        divergence: of the two distributions.
        student: input size in pixels and bins per pixel.
        teacher: likewise.

    Raises:
        ValueError: the two have different class counts.
    """
    student_bins, teacher_bins = class_count(*student), class_count(*teacher)
    if student_bins != teacher_bins:
        raise ValueError(f"same_class_number needs equal class counts, got {student_bins} and {teacher_bins}")
    return SameClassNumber(divergence=divergence)
