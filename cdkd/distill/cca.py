"""CCA, cross-class alignment: logit alignment between classifiers of different length (paper Eq. 6-7, method 4).

The teacher's distribution over C_t bins is merged into the student's C_s bins, and the student's
distribution is drawn to it by the Kullback-Leibler divergence at a temperature.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cdkd.distill.divergence import Divergence
from cdkd.simcc import class_count

MERGES = ("floor", "centred", "split", "matrix")


class BinMerge(nn.Module):
    """Merge a distribution over the teacher's bins into the student's bins. No mass is lost.

    Labels are rounded positions, so teacher bin i lies at i / r student bins, with r teacher bins to one
    student bin, and student bin j really covers the positions from r j - r/2 to r j + r/2:
        floor: bins r j to r j + r - 1 (paper Eq. 6, released code); almost half a student bin off;
        centred: bins r j - r/2 to r j + r/2 - 1;
        split: as centred, with the bins on an edge shared half and half (the same as centred for odd r);
        matrix: overlap of the bins' true supports, for any r, also a fraction.
    Mass beyond the last student bin is counted to it; likewise before the first.

    Args:
        teacher_bins: C_t.
        student_bins: C_s.
        merge: one of MERGES.
        ratio: r where it is not C_t / C_s exactly (bins are rounded down to whole numbers); used by `matrix`.

    Raises:
        ValueError: an unknown merge, or bins that do not divide while the merge needs them to.
    """

    def __init__(self, teacher_bins: int, student_bins: int, merge: str, ratio: float | None = None) -> None:
        super().__init__()
        if merge not in MERGES:
            raise ValueError(f"merge must be one of {', '.join(MERGES)}, got {merge!r}")
        if merge != "matrix" and teacher_bins % student_bins:
            raise ValueError(
                f"merge {merge} needs teacher bins that divide into student bins; "
                f"got {teacher_bins} and {student_bins}; use merge matrix"
            )
        self.teacher_bins = teacher_bins
        self.student_bins = student_bins
        self.shifts = _group_shifts(teacher_bins // student_bins, merge)
        overlap = rebinning_matrix(teacher_bins, student_bins, ratio) if merge == "matrix" else None
        self.register_buffer("overlap", overlap, persistent=False)

    def forward(self, probabilities: Tensor) -> Tensor:
        """(..., C_t) to (..., C_s).

        Raises:
            ValueError: the last dimension is not C_t.
        """
        if probabilities.shape[-1] != self.teacher_bins:
            raise ValueError(f"probabilities must have {self.teacher_bins} bins, got {probabilities.shape[-1]}")
        if isinstance(self.overlap, Tensor):
            return probabilities @ self.overlap.to(probabilities.dtype).T
        merged = [self._sum_groups(probabilities, shift) for shift in self.shifts]
        return torch.stack(merged).mean(0) if len(merged) > 1 else merged[0]

    def _sum_groups(self, probabilities: Tensor, shift: int) -> Tensor:
        """Sum groups that begin `shift` bins early; the last `shift` bins are counted to the last group."""
        groups = (*probabilities.shape[:-1], self.student_bins, self.teacher_bins // self.student_bins)
        if shift == 0:
            return probabilities.reshape(groups).sum(-1)
        padded = F.pad(probabilities[..., :-shift], (shift, 0))
        tail = probabilities[..., -shift:].sum(-1, keepdim=True)
        return padded.reshape(groups).sum(-1) + F.pad(tail, (self.student_bins - 1, 0))


def _group_shifts(size: int, merge: str) -> Sequence[int]:
    """How many bins early the groups begin; `split` is the mean of the two ways to centre an even group."""
    if merge == "centred":
        return (size // 2,)
    if merge == "split":
        return tuple(sorted({size // 2, (size - 1) // 2}))
    return (0,)


def rebinning_matrix(teacher_bins: int, student_bins: int, ratio: float | None = None) -> Tensor:
    """Overlap of bin supports, float64 (C_s, C_t), each column summing to 1.

    In student bins, teacher bin i covers (i - 1/2) / r to (i + 1/2) / r and student bin j covers
    j - 1/2 to j + 1/2; the first and last student bins reach to infinity.

    Raises:
        ValueError: a ratio that is not positive.
    """
    ratio = teacher_bins / student_bins if ratio is None else ratio
    if ratio <= 0:
        raise ValueError(f"ratio must be greater than 0, got {ratio}")
    edges = torch.arange(student_bins + 1, dtype=torch.float64) - 0.5
    edges[0], edges[-1] = -torch.inf, torch.inf
    centres = torch.arange(teacher_bins, dtype=torch.float64)
    lower, upper = (centres - 0.5) / ratio, (centres + 0.5) / ratio
    overlap = torch.minimum(upper, edges[1:, None]) - torch.maximum(lower, edges[:-1, None])
    return overlap.clamp_min(0.0) * ratio


class CrossClassAlignment(nn.Module):
    """Divergence of the student's distribution from the teacher's merged one; the teacher's logits get no gradient.

    Args:
        merge: from teacher to student bins.
        divergence: of the two distributions.
    """

    def __init__(self, *, merge: BinMerge, divergence: Divergence) -> None:
        super().__init__()
        self.merge = merge
        self.divergence = divergence

    def forward(
        self, student_logits: Sequence[Tensor], teacher_logits: Sequence[Tensor], weight: Tensor, tau: Tensor
    ) -> Tensor:
        """The divergence, (); arguments as those of `Divergence`."""
        teacher = [logits.detach() for logits in teacher_logits]
        return self.divergence(student_logits, teacher, weight, tau, self.merge)


def build_cca(
    merge: str, divergence: Divergence, *, student: tuple[int, float], teacher: tuple[int, float]
) -> CrossClassAlignment:
    """Cross-class alignment of two classifiers.

    Args:
        merge: one of MERGES.
        divergence: of the two distributions.
        student: input size in pixels and bins per pixel.
        teacher: likewise.

    Raises:
        ValueError: the bins do not divide while `merge` needs them to.
    """
    ratio = teacher[0] * teacher[1] / (student[0] * student[1])
    bins = BinMerge(class_count(*teacher), class_count(*student), merge, ratio)
    return CrossClassAlignment(merge=bins, divergence=divergence)
