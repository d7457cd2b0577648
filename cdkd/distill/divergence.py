"""The divergence of two classifiers at one temperature, which every method of logit alignment ends in (paper Eq. 7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from cdkd.distributed import is_parallel
from cdkd.simcc import visible_count


def _unchanged(probabilities: Tensor) -> Tensor:
    return probabilities


@dataclass(frozen=True)
class Divergence:
    """Kullback-Leibler divergence of the student's distribution from the teacher's, both at one temperature.

    Without the factor tau^2, which the distiller multiplies in with beta.

    Both sides' logits get a gradient; who wants a constant teacher detaches it. The temperature gets it
    through the student's softmax, and through the teacher's only when `tau_grad_teacher`. With it the
    gradient is that of the whole loss. Without it (released code) the teacher's distribution counts as a
    constant in tau, and the gradient can even have the wrong sign (method section 0, fact 4).

    Attributes:
        class_reduction: `sum` over bins, or `mean` (released code).
        batch_reduction: `mean` over instances, keypoints and axes, or `sum` (released code).
        mask_invisible: leave out keypoints of weight 0; the mean is then over the visible ones of all workers.
        tau_grad_teacher: see above.
    """

    class_reduction: str = "sum"
    batch_reduction: str = "mean"
    mask_invisible: bool = False
    tau_grad_teacher: bool = True

    def __call__(
        self,
        student_logits: Sequence[Tensor],
        teacher_logits: Sequence[Tensor],
        weight: Tensor,
        tau: Tensor,
        merge: Callable[[Tensor], Tensor] = _unchanged,
    ) -> Tensor:
        """The divergence, (), in single precision at least.

        Args:
            student_logits: one (B, J, C_s) per axis.
            teacher_logits: one (B, J, C_t) per axis.
            weight: (B, J) 0 or 1; read only with `mask_invisible`.
            tau: () temperature.
            merge: from the teacher's distribution (..., C_t) to (..., C_s).

        Raises:
            ValueError: the two distributions differ in length.
        """
        student, teacher = torch.stack(tuple(student_logits)), torch.stack(tuple(teacher_logits))
        precision = torch.promote_types(student.dtype, torch.float32)
        with torch.autocast(student.device.type, enabled=False):
            teacher_tau = tau if self.tau_grad_teacher else tau.detach()
            target = merge((teacher.to(precision) / teacher_tau).softmax(-1))
            log_probability = (student.to(precision) / tau).log_softmax(-1)
            return self._reduce(self._over_bins(log_probability, target), weight)

    def _over_bins(self, log_probability: Tensor, target: Tensor) -> Tensor:
        """(axes, B, J) from two (axes, B, J, C)."""
        if log_probability.shape != target.shape:
            raise ValueError(
                f"student and teacher must have the same bins, got shapes {tuple(log_probability.shape)} "
                f"and {tuple(target.shape)}"
            )
        # a probability that underflows to 0 must give 0 * log(0) = 0, and a gradient that is finite
        log_target = target.clamp_min(torch.finfo(target.dtype).tiny).log()
        terms: Tensor = target * (log_target - log_probability)
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
