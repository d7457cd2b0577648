"""Loss totals, divergence by name, and predictions put together from unequal workers."""

from __future__ import annotations

import pickle
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from cdkd.config import EvaluationConfig, SimCCConfig
from cdkd.engine import IMAGENET_MEAN, IMAGENET_STD, Arithmetic, Diverged, LossTotals, normalise, predict, to_image
from cdkd.heads.simcc import SimCCCodec, SimCCLogits
from cdkd.keypoints import KEYPOINT_SETS

CPU = torch.device("cpu")
LSP = KEYPOINT_SETS["lsp14"]


def losses(task: float, feature: float) -> dict[str, Tensor]:
    return {"task": torch.tensor(task), "feature": torch.tensor(feature)}


def test_means_are_over_all_steps_however_often_they_were_looked_at() -> None:
    totals = LossTotals(epoch=1)
    totals.add(losses(1.0, 10.0))
    totals.check()
    totals.add(losses(2.0, 20.0))
    totals.add(losses(6.0, 60.0))
    assert totals.means() == {"task": 3.0, "feature": 30.0}
    assert totals.means() == {"task": 3.0, "feature": 30.0}
    assert LossTotals(epoch=1).means() == {}


def test_the_loss_that_was_not_finite_first_is_named_though_all_are_by_the_time_of_the_look() -> None:
    """On a GPU several steps pass between looks, and the first bad gradient ruins every loss after it."""
    totals = LossTotals(epoch=4)
    totals.add(losses(1.0, 1.0))
    totals.add(losses(1.0, float("inf")))
    totals.add(losses(float("nan"), float("nan")))
    with pytest.raises(Diverged) as caught:
        totals.check()
    assert (caught.value.loss, caught.value.epoch) == ("feature", 4)


def test_divergence_keeps_its_name_on_the_way_to_another_process() -> None:
    error = pickle.loads(pickle.dumps(Diverged("logit", 3)))
    assert (error.loss, error.epoch, str(error)) == ("logit", 3, "the logit loss is not finite in epoch 3")


def test_images_are_normalised_by_channel() -> None:
    images = torch.tensor([0, 128, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    expected = [(value / 255 - mean) / std for value, mean, std in zip((0, 128, 255), IMAGENET_MEAN, IMAGENET_STD)]
    assert normalise(images, CPU).flatten().tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_normalised_images_are_channels_last_whatever_they_were(memory_format: torch.memory_format) -> None:
    images = torch.arange(2 * 3 * 5 * 7, dtype=torch.uint8).view(2, 3, 5, 7).contiguous(memory_format=memory_format)
    before = images.clone()
    normalised = normalise(images, CPU)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) * 255.0 for values in (IMAGENET_MEAN, IMAGENET_STD))
    assert torch.equal(normalised, (images.float() - mean) / std)
    assert torch.equal(images, before)
    assert normalised.is_contiguous(memory_format=torch.channels_last)


def test_keypoints_go_to_the_image_by_each_examples_own_map() -> None:
    matrices = torch.tensor([[[2.0, 0, 1], [0, 3, -1]], [[0.0, 1, 0], [1, 0, 0]]])
    points = torch.tensor([[[1.0, 2.0]], [[1.0, 2.0]]])
    assert to_image(points, matrices).tolist() == [[[3.0, 5.0]], [[2.0, 1.0]]]


class FirstPixel(nn.Module):
    """Puts every keypoint at the bin that the image's first value (after normalisation) names."""

    def forward(self, images: Tensor) -> Any:
        values = images[:, 0, 0, 0] * IMAGENET_STD[0] * 255 + IMAGENET_MEAN[0] * 255
        logits = nn.functional.one_hot(values.round().long(), 8).float()[:, None].expand(-1, LSP.count, -1)
        return SimpleNamespace(prediction=SimCCLogits(logits, logits))


def batch(indices: list[int]) -> dict[str, Tensor]:
    images = torch.tensor(indices, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    return {
        "student_image": images,
        "to_image": torch.eye(2, 3).expand(len(indices), 2, 3),
        "index": torch.tensor(indices),
    }


def predicted(batches: list[dict[str, Tensor]]) -> np.ndarray[Any, Any]:
    predictions = predict(
        FirstPixel(),  # type: ignore[arg-type]
        batches,
        arithmetic=Arithmetic(CPU),
        codec=SimCCCodec(SimCCConfig(split_ratio=1.0), 4),
        evaluation=EvaluationConfig(flip_test=False),
        keypoint_set=LSP,
    )
    assert predictions.scores.shape == (len(predictions.keypoints_image), LSP.count)
    return predictions.keypoints_image[:, 0, 0]


def test_predictions_come_in_the_data_sets_order() -> None:
    assert predicted([batch([3, 1]), batch([2]), batch([0])]).tolist() == [0, 1, 2, 3]


def worker(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    np.save(Path(folder) / f"{rank}.npy", predicted([batch([0])] if rank == 0 else []))
    dist.destroy_process_group()


def test_a_worker_without_examples_receives_the_predictions_of_the_others(tmp_path: Path) -> None:
    """A validation split smaller than the number of workers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(worker, args=(port, str(tmp_path)), nprocs=2)
    assert [np.load(tmp_path / f"{rank}.npy").tolist() for rank in (0, 1)] == [[0], [0]]
