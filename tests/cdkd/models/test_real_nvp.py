"""The flow is a density: closed form at the identity, Jacobians, and an integral of one."""

import pytest
import torch

from cdkd.data.streams import torch_generator
from cdkd.evaluation.cost import parameter_count
from cdkd.models.real_nvp import RealNVP


def points(count: int = 20) -> torch.Tensor:
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2


def bent_flow() -> RealNVP:
    """Far from the identity."""
    flow, generator = RealNVP().double(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return flow


def identity_flow() -> RealNVP:
    flow = RealNVP()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.zero_()
    return flow


def test_without_scale_and_shift_it_is_the_normal_density():
    normal = torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2))
    values = points().float()
    torch.testing.assert_close(identity_flow()(values), normal.log_prob(values))


def test_its_log_determinant_is_that_of_the_jacobian():
    flow = bent_flow()
    _, found = flow.to_normal(points())
    jacobians = [torch.autograd.functional.jacobian(lambda x: flow.to_normal(x[None])[0][0], x) for x in points()]
    expected = torch.stack([jacobian.det().log() for jacobian in jacobians])
    torch.testing.assert_close(found, expected)
    assert expected.std() > 0.01


def test_its_density_integrates_to_one_and_is_no_normal_one():
    flow, step = bent_flow(), 0.25
    axis = torch.arange(-8, 8, step, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        density = flow(grid).exp()
    assert density.sum().item() * step**2 == pytest.approx(1, abs=1e-3)
    assert (density - identity_flow().double()(grid).exp()).abs().max() > 0.02


def test_layers_take_turns_and_the_last_one_is_undone_first():
    flow = identity_flow()
    assert flow.mask.tolist() == [[0, 1], [1, 0]] * 3
    with torch.no_grad():
        flow.t[5][4].bias.fill_(3.0)  # leaves x, so it shifts y
    assert flow.to_normal(torch.tensor([[1.0, 1.0]]))[0].tolist() == [[1.0, -2.0]]
    with torch.no_grad():
        flow.s[4][4].bias.fill_(100.0)  # tanh of it is 1; leaves y, so it shrinks x
    z, log_determinant = flow.to_normal(torch.tensor([[1.0, 1.0]]))
    assert z[0].tolist() == pytest.approx([torch.e**-1, -2.0])
    assert log_determinant.tolist() == pytest.approx([-1.0])
    with torch.no_grad():  # shifts by y where it is positive, as it was before the last layer was undone
        flow.t[4][0].weight[0, 1], flow.t[4][2].weight[0, 0], flow.t[4][4].weight[0, 0] = 1.0, 1.0, 1.0
    assert flow.to_normal(torch.tensor([[1.0, 1.0]]))[0][0].tolist() == pytest.approx([torch.e**-1, -2.0], abs=1e-3)


def test_its_names_and_sizes_are_the_authors():
    flow = RealNVP()
    nets = [f"{part}.{layer}.{index}" for part in "st" for layer in range(6) for index in (0, 2, 4)]
    assert flow.state_dict().keys() == {"mask", *(f"{net}.{kind}" for net in nets for kind in ("weight", "bias"))}
    assert parameter_count(flow) == 53_784


def test_first_weights_are_small_drawn_from_the_generator_and_start_from_nothing():
    with torch.device("meta"):
        flow = RealNVP()
    flow = flow.to_empty(device="cpu")
    flow.initialise(torch_generator(0, "flow"))
    assert flow.mask.tolist() == [[0, 1], [1, 0]] * 3
    middle = flow.s[3][2]
    bound = 0.01 * (6 / 128) ** 0.5
    assert 0.9 * bound < middle.weight.abs().max() <= bound
    assert 0.8 / 8 < middle.bias.abs().max() <= 1 / 8
    other = RealNVP()
    other.initialise(torch_generator(0, "flow"))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in flow.state_dict().items())
