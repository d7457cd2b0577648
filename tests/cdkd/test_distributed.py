"""Two workers over gloo compute what one worker computes with the whole batch."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from cdkd.distributed import CrossRankBatchNorm, agree, gather, global_count, synchronise_batch_norm


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def small_net() -> nn.Sequential:
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 1))
    net.append(nn.BatchNorm2d(3, affine=False))
    for index, parameter in enumerate(net.parameters()):
        values = torch.sin(torch.arange(parameter.numel(), dtype=torch.float32) * 0.3 + index)
        parameter.data.copy_(values.view_as(parameter) + (1.0 if parameter.dim() == 1 else 0.0))
    return net


def images() -> Tensor:
    return torch.cos(torch.arange(8 * 2 * 36, dtype=torch.float32) * 0.11).view(8, 2, 6, 6)


def masked_loss(output: Tensor, weight: Tensor) -> Tensor:
    """Mean over the weighted instances, which are unevenly spread over the ranks."""
    return (output.square().mean(dim=(1, 2, 3)) * weight).sum() / global_count(weight.sum())


WEIGHT = torch.tensor([1.0, 0, 1, 0, 1, 0, 0, 1])


def work(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    net = small_net()
    synchronise_batch_norm(net)
    parallel = nn.parallel.DistributedDataParallel(net)
    loss = masked_loss(parallel(images()[rank::2]), WEIGHT[rank::2])
    loss.backward()
    total = loss.detach().clone()
    dist.all_reduce(total)
    answers = (agree(rank == 0), agree(rank == 1), gather(rank * 10))
    if rank == 1:
        result = {
            "loss": total / 2,
            "gradients": [p.grad for p in net.parameters()],
            "buffers": dict(net.named_buffers()),
        }
        torch.save(result | {"answers": answers}, Path(folder) / "result.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(work, args=(free_port(), str(folder)), nprocs=2)
    return dict(torch.load(folder / "result.pt", weights_only=True))


@pytest.fixture(scope="module")
def one_worker() -> dict[str, object]:
    net = small_net()
    loss = masked_loss(net(images()), WEIGHT)
    loss.backward()
    return {
        "loss": loss.detach(),
        "gradients": [p.grad for p in net.parameters()],
        "buffers": dict(net.named_buffers()),
    }


def test_loss_gradients_and_running_statistics_agree(
    two_workers: dict[str, object], one_worker: dict[str, object]
) -> None:
    torch.testing.assert_close(two_workers["loss"], one_worker["loss"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(two_workers["gradients"], one_worker["gradients"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(two_workers["buffers"], one_worker["buffers"], rtol=1e-5, atol=1e-6)


def test_the_first_rank_decides_and_all_ranks_receive_all_parts(two_workers: dict[str, object]) -> None:
    assert two_workers["answers"] == (True, False, [0, 10])


def test_one_worker_needs_no_process_group() -> None:
    assert global_count(torch.tensor(3.0)) == 3
    assert gather("x") == ["x"]
    assert agree(True)


def test_synchronised_normalisation_keeps_names_values_and_mode() -> None:
    net = small_net().eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    synchronise_batch_norm(net)
    assert isinstance(net[1], CrossRankBatchNorm)
    assert not net[1].training
    torch.testing.assert_close(dict(net.state_dict()), before)
