"""What a network costs: parameters, multiply-accumulates, and the "GFLOPs" printed in the pose literature.

Counted are convolutions, transposed convolutions and linear layers, biases left out. The network runs
once on the meta device, where tensors have shapes and no values, so counting takes no memory and no
arithmetic whatever the size of the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

SUMMARY_GIGA = 1024**3
"""HRNet's summary divides by this, not by 1e9 (method 0.9)."""


@dataclass(frozen=True)
class Cost:
    """One forward pass: true multiply-accumulates, and those of HRNet's `get_model_summary`."""

    macs: int
    summary_macs: int


def parameter_count(module: nn.Module) -> int:
    """Numbers in all parameters of `module`, shared ones once; buffers are not counted."""
    return sum(parameter.numel() for parameter in module.parameters())


def macs(module: nn.Module, input_size: int) -> int:
    """True multiply-accumulates of one image (3, input_size, input_size)."""
    return forward_cost(module, image(input_size)).macs


def summary_gflops(module: nn.Module, input_size: int) -> float:
    """The "GFLOPs" of one image as HRNet's `get_model_summary` prints them (method 0.9).

    They are multiply-accumulates / 1024**3, with two miscounts that the published tables share: a
    transposed convolution counts its whole kernel at every output position, and a linear layer
    multiplies its outputs by dimension 1 of its input, whatever that is.
    """
    return forward_cost(module, image(input_size)).summary_macs / SUMMARY_GIGA


def image(input_size: int) -> Tensor:
    """One image without values, (1, 3, input_size, input_size) on the meta device."""
    return torch.empty(1, 3, input_size, input_size, device="meta")


def forward_cost(module: nn.Module, *inputs: Tensor) -> Cost:
    """Cost of `module(*inputs)` in evaluation mode; a layer that runs twice is counted twice.

    Neither the module's weights, buffers nor modes are changed.
    """
    tensors = chain(module.named_parameters(), module.named_buffers())
    shapes = {name: tensor.detach().to("meta") for name, tensor in tensors}
    with evaluation_mode(module), counting(module) as layer_costs, _WithoutBatchNorm(), torch.no_grad():
        functional_call(module, shapes, tuple(value.to("meta") for value in inputs))
    return Cost(sum(cost.macs for cost in layer_costs), sum(cost.summary_macs for cost in layer_costs))


@contextmanager
def counting(*modules: nn.Module) -> Iterator[list[Cost]]:
    """Counts what `modules` compute meanwhile: the cost of every layer of theirs that runs, in order."""
    found: list[Cost] = []

    def count(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        found.append(layer_cost(layer, args[0], output))

    with ExitStack() as hooks:
        for module in modules:
            hooks.enter_context(_forward_hooks(module, count))
        yield found


def layer_cost(layer: nn.Module, value: Tensor, output: Tensor) -> Cost:
    """Cost of one convolution or linear layer from its weight and the shapes of its input and output."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    if isinstance(layer, nn.Linear):
        return Cost(output.numel() * layer.in_features, output.numel() * value.shape[1])
    batch = value.shape[0]
    at_output = weight.numel() * math.prod(output.shape[2:])
    at_input = weight.numel() * math.prod(value.shape[2:])
    true_macs = batch * (at_input if isinstance(layer, nn.ConvTranspose2d) else at_output)
    return Cost(true_macs, at_output)


COUNTED = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


class _WithoutBatchNorm(TorchFunctionMode):
    """Passes batch normalisations by: they keep every shape, and take 10 ms each on the meta device."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return args[0] if func is F.batch_norm else func(*args, **(kwargs or {}))


ForwardHook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]


@contextmanager
def _forward_hooks(module: nn.Module, hook: ForwardHook) -> Iterator[None]:
    handles = [layer.register_forward_hook(hook) for layer in module.modules() if isinstance(layer, COUNTED)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; afterwards every part has its own mode back (a frozen teacher's too)."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training
