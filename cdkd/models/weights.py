"""Weights from files: public HRNet, SimCC and torchvision checkpoints, and this project's own.

Files are read with `torch.load(weights_only=True)`, which runs no code from them, and loaded strictly:
what a file may lack or hold in excess is listed here, anything else is an error before the network
has been touched.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cdkd.models.pose import PoseNet, part_names

CLASSIFIER_PREFIXES = ("head.", "fc.", "incre_modules.", "downsamp_modules.", "classifier.")
"""Classification heads of the ImageNet files, which differ in their names.

hrnet_w32-36af842e.pth and hrnet_w48-8ef0771d.pth have `head.` and `fc.`, torchvision's ResNets `fc.`; HRNet's
later files and timm's have the others, and a `final_layer.` that is not the pose network's.
"""

HEAD_PREFIXES = ("final_layer.", "mlp_head_x.", "mlp_head_y.", "transformer.", "fc_coord.", "fc_sigma.", "flow.")
"""Heads of the public pose checkpoints."""

COARSE_OUTPUTS = re.compile(r"stage4\.\d+\.fuse_layers\.[123]\.")
"""Fused coarse outputs of stage 4, which ImageNet HRNets have after the last module and pose nets have not."""

OWN_PREFIXES = ("deconv_layers.", "transition3_offset.", "stage4_offset.")
"""Transposed convolutions of pose ResNets and the second stream of CAL's HRNet, which ImageNet files lack."""

BATCH_COUNTER = ".num_batches_tracked"
"""Absent from files written before PyTorch 0.4.1, and unused with a fixed batch-normalisation momentum."""

LANDMARK = "layer1.0.conv1.weight"
"""A name in every HRNet and ResNet: what a file has before it stands before all names."""

MAX_KEYS_NAMED = 3
MAX_KEY_LENGTH = 80

RESNETS: Mapping[tuple[bool, tuple[int, ...]], str] = {
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
    (True, (3, 8, 36, 3)): "resnet152",
}
"""Name by (has bottlenecks, blocks of each layer)."""

State = dict[str, Tensor]


class WeightsError(ValueError):
    """A weights file that cannot be used, in one line that names the file and what is wrong with it."""

    def __init__(self, message: str) -> None:
        # Names out of a file may hold line breaks.
        super().__init__(" ".join(message.split()))


def load_pose_weights(net: PoseNet, file: Path) -> None:
    """Load a whole pose network, head included, from a public checkpoint of its kind or one of this project.

    Raises:
        WeightsError: the file cannot be read, or is not exactly of this network; the network is unchanged.
    """
    state = read_state(file)
    expected = dict(net.state_dict())
    _load(net, file, state, expected)


def load_backbone(net: PoseNet, file: Path) -> None:
    """Load the backbone from an ImageNet or pose checkpoint; the head keeps its weights.

    Left out of the file are classification and pose heads and the coarse outputs of stage 4; the
    transposed convolutions of a ResNet, and the second stream of a CAL network, keep their weights when the file has
    none at all.

    Raises:
        WeightsError: the file cannot be read, or is not exactly of this backbone; the network is unchanged.
    """
    own_head = tuple(f"{name}." for name in part_names(net.head))
    ignored = (*CLASSIFIER_PREFIXES, *HEAD_PREFIXES, *own_head)
    state = {key: value for key, value in read_state(file).items() if not key.startswith(ignored)}
    expected = {key: value for key, value in net.state_dict().items() if not key.startswith(own_head)}
    state = {key: value for key, value in state.items() if key in expected or not COARSE_OUTPUTS.match(key)}
    absent = tuple(prefix for prefix in OWN_PREFIXES if not any(key.startswith(prefix) for key in state))
    expected = {key: value for key, value in expected.items() if not key.startswith(absent)}
    _load(net, file, state, expected)


def read_state(file: Path) -> State:
    """The state dict in a file, bare or under the key `state_dict`, without the `module.` of DataParallel.

    Raises:
        WeightsError: no such file, not a PyTorch file, damaged, in need of code to be read, or without a state dict.
    """
    loaded = _read(file)
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping):
        raise WeightsError(f"{file}: holds no state dict (it holds a {type(loaded).__name__})")
    if not loaded:
        raise WeightsError(f"{file}: holds no state dict (it is empty)")
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise WeightsError(f"{file}: is no state dict: its entry {_short(key)} is a {type(value).__name__}")
    prefix = "module." if all(key.startswith("module.") for key in loaded) else ""
    return {key.removeprefix(prefix): value for key, value in loaded.items()}


def _read(file: Path) -> Any:
    if not file.is_file():
        raise WeightsError(f"{file}: no such file")
    try:
        content = io.BytesIO(file.read_bytes())
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read ({error.strerror})") from error
    try:
        with torch.serialization.safe_globals(_numpy_scalars()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a foreign pickle's protocol is told in the error
            return torch.load(content, map_location="cpu", weights_only=True)
    # Whatever the bytes of a damaged or foreign file make the unpickler raise: there is no common class.
    except Exception as error:
        raise WeightsError(f"{file}: {_reason(error)}; a state dict saved by torch.save is wanted") from error


def _reason(error: Exception) -> str:
    """Why reading failed: torch says only in words whether a file wants something imported."""
    if "Unsupported global" in str(error) or "Unsupported class" in str(error):
        return "needs code to be read, which is refused"
    return "is not a PyTorch file or is damaged"


def _numpy_scalars() -> list[Any]:
    """What the score in the training scripts' `checkpoint.pth` is made of: numbers, no code."""
    scalar = np.float64(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    kinds = [type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int64)]
    return [*((scalar, name) for name in names), np.dtype, *kinds]


@dataclass(frozen=True)
class Difference:
    """Keys by which a file's state differs from a network's; all empty when it fits."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshapen)

    def __str__(self) -> str:
        named = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": self.misshapen}
        return "; ".join(f"{what}: {_enumerate(keys)}" for what, keys in named.items() if keys)


def compare(state: State, expected: State) -> Difference:
    """How `state` differs from `expected` in keys and shapes."""
    missing = (key for key in expected if key not in state and not key.endswith(BATCH_COUNTER))
    unexpected = (key for key in state if key not in expected)
    shared = (key for key in expected if key in state)
    misshapen = (
        f"{key} {tuple(state[key].shape)} for {tuple(expected[key].shape)}"
        for key in shared
        if state[key].shape != expected[key].shape
    )
    return Difference(tuple(missing), tuple(unexpected), tuple(misshapen))


def architecture(state: State) -> str:
    """The backbone a state dict seems to belong to, such as `hrnet_w32`; empty when it is none of these families."""
    finest = state.get("stage4.0.branches.0.0.conv1.weight")
    if finest is not None and finest.ndim == 4:
        return f"hrnet_w{finest.shape[0]}"
    counts = tuple(len({key.split(".")[1] for key in state if key.startswith(f"layer{n}.")}) for n in range(1, 5))
    return RESNETS.get(("layer4.0.conv3.weight" in state, counts), "")


def _load(net: PoseNet, file: Path, state: State, expected: State) -> None:
    difference = compare(state, expected)
    if difference:
        raise WeightsError(f"{file}: {_mismatch(state, expected)} ({difference})")
    bad = [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if bad:
        raise WeightsError(f"{file}: holds weights that are not finite: {_enumerate(bad)}")
    net.load_state_dict({**net.state_dict(), **state})


def _mismatch(state: State, expected: State) -> str:
    wanted = architecture(expected)
    prefix = next((key.removesuffix(LANDMARK) for key in state if key.endswith(LANDMARK)), "")
    found = architecture({key.removeprefix(prefix): value for key, value in state.items()})
    if not found:
        return f"holds no {wanted}, nor another backbone known here"
    if found != wanted:
        return f"looks like {found}, the network is {wanted}"
    if prefix:
        writer = ", as mmpose writes it" if prefix == "backbone." else ""
        remedy = "save that part without the prefix, to start a backbone from it"
        return f"holds a {found} under the prefix {_short(prefix)!r}{writer}: {remedy}"
    return f"does not fit this {wanted}"


def _enumerate(keys: Sequence[str]) -> str:
    named = ", ".join(_short(key) for key in keys[:MAX_KEYS_NAMED])
    more = len(keys) - MAX_KEYS_NAMED
    return f"{named} and {more} more" if more > 0 else named


def _short(key: object) -> str:
    text = str(key)
    return text if len(text) <= MAX_KEY_LENGTH else text[: MAX_KEY_LENGTH - 3] + "..."
