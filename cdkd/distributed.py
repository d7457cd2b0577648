"""Data-parallel training whose result does not depend on the number of workers.

Three things make the sum over ranks equal to one process with the whole batch: normalisers counted
over all ranks (`global_count`), batch statistics over all ranks (`synchronise_batch_norm`) and
batches that are dealt out from one global order (`cdkd.data.dataset.epoch_batches`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class World:
    """This process's place among the workers of one training."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """True on the worker that writes files."""
        return self.rank == 0


ALONE = World()


def is_parallel() -> bool:
    """True when several workers share this training."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def global_count(count: Tensor) -> Tensor:
    """The mean over ranks of a count, so that averaging `sum / count` over ranks gives the global mean.

    Args:
        count: () the number of terms on this rank; gets no gradient.
    """
    if not is_parallel():
        return count
    total = count.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def mean_over_ranks(values: Tensor) -> Tensor:
    """Elementwise mean of a tensor over all ranks (no gradient)."""
    return global_count(values)


def gather(part: Any) -> list[Any]:
    """Every rank's `part`, in rank order, on every rank."""
    if not is_parallel():
        return [part]
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, part)
    return parts


def agree(answer: bool) -> bool:
    """The first rank's answer, on every rank."""
    return bool(gather(answer)[0])


class _SumOverRanks(torch.autograd.Function):
    """All-reduce with its adjoint, which is again an all-reduce."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


class CrossRankBatchNorm(nn.BatchNorm2d):
    """Batch normalisation with statistics over all ranks, for any device.

    torch.nn.SyncBatchNorm refuses CPU tensors; this one runs over gloo as well. Parameters, buffers
    and state-dict names are those of BatchNorm2d, and with one worker it is BatchNorm2d.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, H, W) by the mean and variance of all ranks' batches."""
        if not (self.training and is_parallel()):
            return super().forward(input)
        values = input.float()
        mean, variance, count = _moments_over_ranks(values)
        self._update_running(mean.detach(), variance.detach(), count)
        scale, shape = torch.rsqrt(variance + self.eps), (1, -1, 1, 1)
        if not self.affine:
            return ((values - mean.view(shape)) * scale.view(shape)).to(input.dtype)
        scale = scale * self.weight
        return ((values - mean.view(shape)) * scale.view(shape) + self.bias.view(shape)).to(input.dtype)

    def _update_running(self, mean: Tensor, variance: Tensor, count: float) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        momentum = self.momentum if self.momentum is not None else 0.1
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * (count / max(count - 1.0, 1.0)), momentum)


def _moments_over_ranks(values: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean (C,), biased variance (C,) and the number of values per channel, over all ranks."""
    local = torch.tensor([values.numel() / values.shape[1]], dtype=torch.float64)
    dist_count = local.to(values.device)
    dist.all_reduce(dist_count)
    count = float(dist_count)
    mean = _sum_over_ranks(values.sum(dim=(0, 2, 3))) / count
    centred = values - mean.view(1, -1, 1, 1)
    variance = _sum_over_ranks((centred * centred).sum(dim=(0, 2, 3))) / count
    return mean, variance, count


def _sum_over_ranks(tensor: Tensor) -> Tensor:
    total: Tensor = _SumOverRanks.apply(tensor)  # type: ignore[no-untyped-call]
    return total


def synchronise_batch_norm(module: nn.Module) -> None:
    """Replace every BatchNorm2d below `module` by one with statistics over all ranks, in place."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            setattr(module, name, _cross_rank(child))
        else:
            synchronise_batch_norm(child)


def _cross_rank(norm: nn.BatchNorm2d) -> CrossRankBatchNorm:
    replacement = CrossRankBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    state = norm.state_dict()
    replacement.load_state_dict(state)
    device = next((tensor.device for tensor in state.values()), torch.device("cpu"))
    return replacement.to(device).train(norm.training)
