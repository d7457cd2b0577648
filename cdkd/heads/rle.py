"""RLE (Li et al. 2021; method section 8): coordinates and their spread by regression, and a learned error density.

Coordinates are fractions of the input around its middle: u = x/S - 1/2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdkd.config import TrainingConfig
from cdkd.heads.codec import Codec
from cdkd.models.head import Head, PoseOutput, Prediction
from cdkd.models.pose import FEATURE_STRIDE
from cdkd.models.real_nvp import RealNVP, initialise_linear


@dataclass(frozen=True)
class Regression(Prediction):
    """Coordinates with their spread, in single precision.

    Attributes:
        places: (B, J, 2), u and v, about -1/2 to 1/2 inside the input.
        spread_logits: (B, J, 2); their sigmoids are the standard deviations sigma of u and v.
        flow: density of the errors in sigmas; the loss alone needs it.
    """

    places: Tensor
    spread_logits: Tensor
    flow: RealNVP


class Regressor(nn.Module):
    """A linear layer on a vector, which may first be brought to length 1; in single precision."""

    def __init__(self, in_features: int, out_features: int, *, has_unit_input: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.has_unit_input = has_unit_input

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_features) to (B, out_features)."""
        # bfloat16 would round a coordinate to an eighth of a pixel at 64x64.
        with single_precision(x):
            value = x.float()
            output: Tensor = self.linear(F.normalize(value, dim=1) if self.has_unit_input else value)
        return output


class RleHead(Head):
    """Two linear layers on the whole feature, and the flow of the loss, which a prediction does not run.

    A sigma's logit sums over thousands of numbers, so that one step of Adam moves it far. A network of random weights
    is ruined at a step size of 1e-3 (every sigma becomes 1 and stays there) and trained at 1e-4.

    Args:
        channels: of the backbone's feature.
        keypoint_count: J.
        input_size: S, pixels.
    """

    def __init__(self, channels: int, *, keypoint_count: int, input_size: int) -> None:
        super().__init__()
        numbers = channels * (input_size // FEATURE_STRIDE) ** 2
        self.fc_coord = Regressor(numbers, 2 * keypoint_count, has_unit_input=True)
        self.fc_sigma = Regressor(numbers, 2 * keypoint_count, has_unit_input=False)
        self.flow = RealNVP()

    def forward(self, feature: Tensor) -> PoseOutput:
        numbers = feature.flatten(1)
        places, spread_logits = (layer(numbers).unflatten(1, (-1, 2)) for layer in (self.fc_coord, self.fc_sigma))
        return PoseOutput(feature, None, Regression(places, spread_logits, self.flow))

    def initialise(self, generator: torch.Generator) -> None:
        initialise_linear(self.fc_coord.linear, generator)
        initialise_linear(self.fc_sigma.linear, generator)
        self.flow.initialise(generator)


@dataclass(frozen=True)
class RleCodec(Codec[Regression]):
    """Residual log-likelihood; a keypoint is where its coordinates say.

    Args:
        input_size: S, pixels.
    """

    input_size: int
    evidence_name: ClassVar[str] = "1 minus mean sigma"

    def encode(self, keypoints_input: Tensor, visibility: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates (B, J, 2), and weights (B, J), 1 for a labelled keypoint, inside the input or not.

        Raises:
            ValueError: the two shapes do not fit.
        """
        if keypoints_input.shape != (*visibility.shape, 2):
            raise ValueError(
                f"keypoints must have the shape of visibility and a last dimension of 2, "
                f"got {tuple(keypoints_input.shape)} and {tuple(visibility.shape)}"
            )
        places = torch.nan_to_num(keypoints_input).float() / self.input_size - 0.5
        return places, (visibility > 0).float()

    def loss(self, prediction: Regression, keypoints_input: Tensor, visibility: Tensor) -> Tensor:
        return residual_likelihood_loss(prediction, *self.encode(keypoints_input, visibility))

    def decode(
        self, prediction: Regression, flipped: Regression | None, flip_permutation: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        places, scores = prediction.places, confidence(prediction)
        if flipped is not None:
            order = list(flip_permutation)
            places = (places + self._unflipped(flipped.places[:, order])) / 2
            scores = (scores + confidence(flipped)[:, order]) / 2
        return self._pixels(places), scores

    def evidence(self, prediction: Regression) -> tuple[Tensor, Tensor]:
        return confidence(prediction), self._pixels(prediction.places)

    def _pixels(self, places: Tensor) -> Tensor:
        return (places + 0.5) * self.input_size

    def _unflipped(self, places: Tensor) -> Tensor:
        """A pixel x is mirrored to S - 1 - x, so u to -u - 1/S: the middle of the pixels is half a pixel from 0."""
        u, v = places.unbind(-1)
        return torch.stack((-u - 1 / self.input_size, v), -1)


def confidence(prediction: Regression) -> Tensor:
    """Score (B, J) of a keypoint, 1 minus the mean of its sigmas."""
    return 1 - prediction.spread_logits.sigmoid().mean(-1)


def residual_likelihood_loss(prediction: Regression, targets: Tensor, weight: Tensor) -> Tensor:
    """Residual log-likelihood, summed over keypoints and coordinates, the mean over instances, ().

    Of a coordinate with error e it is log sigma - log phi + log(sigma sqrt(2 pi)) + |e| / (sqrt(2) sigma), where phi
    is the flow's density of both errors in sigmas. As the authors compute it, phi counts once for either coordinate,
    and the Laplace density Q of the last two terms has a Gaussian's constant.

    Args:
        prediction: of B images.
        targets: (B, J, 2), u and v.
        weight: (B, J), 0 or 1.

    Raises:
        ValueError: the shapes do not fit.
    """
    if prediction.places.shape != targets.shape or weight.shape != targets.shape[:2]:
        raise ValueError(
            f"places, targets and weight must be (B, J, 2), the same and (B, J), "
            f"got {tuple(prediction.places.shape)}, {tuple(targets.shape)} and {tuple(weight.shape)}"
        )
    is_counted = weight[..., None] > 0
    log_sigma = F.logsigmoid(prediction.spread_logits)
    error = torch.where(is_counted, prediction.places - targets, 0) * torch.exp(-log_sigma)
    with single_precision(error):
        log_phi = prediction.flow(error.flatten(0, 1)).view(weight.shape)
    laplace = log_sigma + math.log(2 * math.pi) / 2 + error.abs() / math.sqrt(2)
    return torch.where(is_counted, log_sigma - log_phi[..., None] + laplace, 0).sum((1, 2)).mean()


def single_precision(like: Tensor) -> AbstractContextManager[object]:
    """No automatic half precision on a tensor's device; the meta device, where costs are counted, has none."""
    return nullcontext() if like.is_meta else torch.autocast(like.device.type, enabled=False)


def build_head(config: TrainingConfig, channels: int, keypoint_count: int) -> RleHead:
    """The head of a configuration's student."""
    return RleHead(channels, keypoint_count=keypoint_count, input_size=config.student.input_size)


def build_codec(config: TrainingConfig) -> RleCodec:
    """The codec of a configuration's student."""
    return RleCodec(config.student.input_size)
