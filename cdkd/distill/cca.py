"""CCA, cross-class alignment: logit alignment between classifiers of different length (paper Eq. 6-7, method 4).

The teacher's distribution over C_t bins is merged into the student's C_s bins, and the student's
distribution is drawn to it by the Kullback-Leibler divergence at a temperature.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from cdkd.config import CcaConfig
from cdkd.distributed import is_parallel
from cdkd.simcc import class_count, visible_count

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
    """Divergence of the student's distribution from the teacher's merged one, both at one temperature.

    Without the factor tau^2, which the distiller multiplies in with beta.

    The teacher's logits never get a gradient; the temperature always does: through the student's
    softmax, and through the teacher's only when `tau_grad_teacher`. With it the gradient is that of the
    whole loss. Without it (released code) the teacher's distribution counts as a constant, and the
    gradient can even have the wrong sign (method section 0, fact 4).

    Args:
        merge: from teacher to student bins.
        class_reduction: `sum` over bins, or `mean` (released code).
        batch_reduction: `mean` over instances, keypoints and axes, or `sum` (released code).
        mask_invisible: leave out keypoints of weight 0; the mean is then over the visible ones of all workers.
        tau_grad_teacher: see above.
    """

    def __init__(
        self,
        *,
        merge: BinMerge,
        class_reduction: str = "sum",
        batch_reduction: str = "mean",
        mask_invisible: bool = False,
        tau_grad_teacher: bool = True,
    ) -> None:
        super().__init__()
        self.merge = merge
        self.class_reduction = class_reduction
        self.batch_reduction = batch_reduction
        self.mask_invisible = mask_invisible
        self.tau_grad_teacher = tau_grad_teacher

    def forward(
        self, student_logits: Sequence[Tensor], teacher_logits: Sequence[Tensor], weight: Tensor, tau: Tensor
    ) -> Tensor:
        """The divergence, ().

        Args:
            student_logits: one (B, J, C_s) per axis.
            teacher_logits: one (B, J, C_t) per axis.
            weight: (B, J) 0 or 1; read only with `mask_invisible`.
            tau: () temperature.
        """
        student, teacher = torch.stack(tuple(student_logits)), torch.stack(tuple(teacher_logits))
        precision = torch.promote_types(student.dtype, torch.float32)
        with torch.autocast(student.device.type, enabled=False):
            divergence = self._divergence(student.to(precision), teacher.detach().to(precision), tau)
            return self._reduce(divergence, weight)

    def _divergence(self, student: Tensor, teacher: Tensor, tau: Tensor) -> Tensor:
        """(axes, B, J) from (axes, B, J, C_s) and (axes, B, J, C_t)."""
        teacher_tau = tau if self.tau_grad_teacher else tau.detach()
        target = self.merge((teacher / teacher_tau).softmax(-1))
        # a probability that underflows to 0 must give 0 * log(0) = 0, and a gradient that is finite
        log_target = target.clamp_min(torch.finfo(target.dtype).tiny).log()
        terms: Tensor = target * (log_target - (student / tau).log_softmax(-1))
        return terms.sum(-1) if self.class_reduction == "sum" else terms.mean(-1)

    def _reduce(self, divergence: Tensor, weight: Tensor) -> Tensor:
        if self.mask_invisible:
            divergence = divergence * weight
        if self.batch_reduction == "sum":
            # gradients are averaged over workers, so each worker's sum counts once for every worker
            workers: int = dist.get_world_size() if is_parallel() else 1
            return divergence.sum() * workers
        if self.mask_invisible:
            return divergence.sum() / (divergence.shape[0] * visible_count(weight))
        return divergence.mean()


def build_cca(config: CcaConfig, *, student: tuple[int, float], teacher: tuple[int, float]) -> CrossClassAlignment:
    """Logit alignment of a configuration.

    Args:
        config: the options.
        student: input size in pixels and bins per pixel.
        teacher: likewise.

    Raises:
        ValueError: the bins do not divide while `config.merge` needs them to.
    """
    merge = BinMerge(
        class_count(*teacher),
        class_count(*student),
        config.merge,
        ratio=teacher[0] * teacher[1] / (student[0] * student[1]),
    )
    return CrossClassAlignment(
        merge=merge,
        class_reduction=config.class_reduction,
        batch_reduction=config.batch_reduction,
        mask_invisible=config.mask_invisible,
        tau_grad_teacher=config.tau_grad_teacher,
    )
