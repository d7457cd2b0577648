"""One pass over the data: `train_one_epoch` and `predict`. Loops that return plain numbers and arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cdkd.config import EvaluationConfig
from cdkd.distill.distiller import Distiller, Teaching
from cdkd.distill.teacher_cache import TeacherCache
from cdkd.distributed import gather, mean_over_ranks
from cdkd.evaluation.scores import Predictions
from cdkd.heads.codec import Codec
from cdkd.keypoints import KeypointSet
from cdkd.models.head import Prediction
from cdkd.models.pose import PoseNet

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
RATIO_STEPS = 4
"""Steps of an epoch, evenly spaced, at which the gradient ratios are measured."""
CHECK_EVERY_CUDA = 16
"""Steps between looks at the losses on a GPU, where each look waits for the device."""


class Diverged(RuntimeError):
    """A loss became infinite or not a number. `loss` names it; `epoch` counts from 1."""

    def __init__(self, loss: str, epoch: int) -> None:
        self.loss = loss
        self.epoch = epoch
        super().__init__(f"the {loss} loss is not finite in epoch {epoch}")

    def __reduce__(self) -> tuple[type[Diverged], tuple[str, int]]:
        """Rebuild from loss and epoch when the error crosses to another process."""
        return type(self), (self.loss, self.epoch)


@dataclass(frozen=True)
class Arithmetic:
    """Where and in which precision the forward passes run."""

    device: torch.device
    precision: str = "fp32"

    def autocast(self) -> torch.autocast:
        """The context of a forward pass."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def synchronise(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def normalise(images: Tensor, device: torch.device) -> Tensor:
    """RGB bytes (B, 3, S, S) to ImageNet-normalised floats on `device`, channels last in memory."""
    width = images.shape[3]
    # Whole rows of red, green, blue: a mean that is broadcast over three values takes a CPU sixteen times as long.
    mean, std = (
        (torch.tensor(values, device=device) * 255.0).repeat(width) for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    rows = images.to(device, non_blocking=True).permute(0, 2, 3, 1).flatten(2).float()
    return rows.sub_(mean).div_(std).view(*rows.shape[:2], width, 3).permute(0, 3, 1, 2)


class LossTotals:
    """Running sums of named losses. Steps wait on the device until `check`, so that none has to wait for it."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.steps = 0
        self.sums: dict[str, float] = {}
        self._names: tuple[str, ...] = ()
        self._unchecked: list[Tensor] = []

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Add one step's losses."""
        self._names = tuple(losses)
        self._unchecked.append(torch.stack([loss.detach().double() for loss in losses.values()]))

    def check(self) -> None:
        """Look at the steps since the last look, over all ranks.

        Raises:
            Diverged: naming the first loss that is not finite in the earliest such step; from the next step on
                its gradient has made every other loss not finite too.
        """
        if not self._unchecked:
            return
        steps = mean_over_ranks(torch.stack(self._unchecked)).tolist()
        self._unchecked.clear()
        for values in steps:
            for name, value in zip(self._names, values, strict=True):
                if not np.isfinite(value):
                    raise Diverged(name, self.epoch)
                self.sums[name] = self.sums.get(name, 0.0) + value
            self.steps += 1

    def means(self) -> dict[str, float]:
        """Mean of every loss over steps and ranks.

        Raises:
            Diverged: as `check`.
        """
        self.check()
        return {name: total / self.steps for name, total in self.sums.items()}


def train_one_epoch(
    model: nn.Module,
    distiller: Distiller,
    batches: Sequence[Any] | Iterable[Any],
    optimizers: Sequence[torch.optim.Optimizer],
    *,
    arithmetic: Arithmetic,
    epoch: int,
    steps: int,
    teacher_cache: TeacherCache | None = None,
) -> dict[str, float]:
    """Train for one pass over `batches`.

    Args:
        model: the distiller, or its data-parallel wrapper.
        distiller: the module inside `model`.
        batches: collated examples of `cdkd.data.dataset.PoseDataset`.
        optimizers: all stepped after every batch.
        arithmetic: device and precision.
        epoch: number of this epoch, from 1 (for messages).
        steps: number of batches.
        teacher_cache: what the teacher has said of batches before.

    Returns:
        `train/loss`, `train/loss_<name>` (weighted, as in the total), `diag/gradient_ratio_<name>` and the
        distiller's own diagnostics.

    Raises:
        Diverged: a loss is not finite.
    """
    distiller.train()
    totals = LossTotals(epoch)
    check_every = CHECK_EVERY_CUDA if arithmetic.device.type == "cuda" else 1
    ratio_steps = {round(index * (steps - 1) / max(RATIO_STEPS - 1, 1)) for index in range(min(RATIO_STEPS, steps))}
    ratios: list[dict[str, float]] = []
    for step, batch in enumerate(batches):
        teaching = None if teacher_cache is None else _recalled(teacher_cache, distiller, batch, arithmetic)
        output = run_step(model, batch, arithmetic, teaching)
        totals.add({**output.losses, "total": output.total})
        if (step + 1) % check_every == 0:
            totals.check()
        if step in ratio_steps:
            ratios.append(distiller.gradient_ratios(output))
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        output.total.backward()
        for optimizer in optimizers:
            optimizer.step()
    means = totals.means()
    metrics = {"train/loss": means.pop("total")}
    metrics |= {f"train/loss_{name}": value for name, value in means.items()}
    metrics |= {f"diag/gradient_ratio_{name}": float(np.mean([ratio[name] for ratio in ratios])) for name in ratios[0]}
    return metrics | {f"diag/{name}": value for name, value in distiller.diagnostics().items()}


def run_step(
    model: nn.Module, batch: Mapping[str, Tensor], arithmetic: Arithmetic, teaching: Teaching | None = None
) -> Any:
    """The forward pass of one training step: a collated batch through the distiller, or its data-parallel wrapper.

    The teacher looks at the batch unless what it says is known (`teaching`).
    """
    device = arithmetic.device
    asks_teacher = teaching is None and "teacher_image" in batch
    teacher_images = normalise(batch["teacher_image"], device) if asks_teacher else None
    with arithmetic.autocast():
        return model(
            normalise(batch["student_image"], device),
            teacher_images,
            batch["keypoints_input"].to(device, non_blocking=True),
            batch["visibility"].to(device, non_blocking=True),
            teaching,
        )


def _recalled(
    cache: TeacherCache, distiller: Distiller, batch: Mapping[str, Tensor], arithmetic: Arithmetic
) -> Teaching:
    def ask() -> Teaching:
        with arithmetic.autocast():
            return distiller.teach(normalise(batch["teacher_image"], arithmetic.device))

    return cache.recall(batch["teacher_image"], ask, arithmetic.device)


@torch.inference_mode()
def predict(
    net: PoseNet,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    arithmetic: Arithmetic,
    codec: Codec[Any],
    evaluation: EvaluationConfig,
    keypoint_set: KeypointSet,
) -> Predictions:
    """Keypoints of every example, in image pixels and in the data set's order.

    With several workers each predicts its own batches and all receive the whole.
    """
    net.eval()
    indices, keypoints, scores = [], [], []
    for batch in batches:
        images = normalise(batch["student_image"], arithmetic.device)
        with arithmetic.autocast():
            prediction = _prediction(net, images)
            flipped = _prediction(net, images.flip(3)) if evaluation.flip_test else None
        points, confidence = codec.decode(prediction, flipped, keypoint_set.flip_permutation)
        indices.append(batch["index"].numpy())
        keypoints.append(to_image(points.float().cpu(), batch["to_image"]).numpy())
        scores.append(confidence.float().cpu().numpy())
    parts = gather((indices, keypoints, scores))
    order = np.argsort(_joined(parts, 0))
    return Predictions(keypoints_image=_joined(parts, 1)[order], scores=_joined(parts, 2)[order])


def _joined(parts: Sequence[tuple[list[NDArray[Any]], ...]], item: int) -> NDArray[Any]:
    return np.concatenate([array for part in parts for array in part[item]])


def _prediction(net: PoseNet, images: Tensor) -> Prediction:
    prediction: Prediction = net(images).prediction
    return prediction.float()


def to_image(keypoints_input: Tensor, matrix: Tensor) -> Tensor:
    """Map keypoints (B, J, 2) from network input to image pixels by affine matrices (B, 2, 3)."""
    return torch.einsum("bkc,bjc->bjk", matrix[:, :, :2], keypoints_input) + matrix[:, None, :, 2]
