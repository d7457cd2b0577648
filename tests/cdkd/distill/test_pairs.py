"""Pairs of the paper's Tables VIII and IX: a teacher of another family, and feature alignment of heatmaps."""

import functools

import pytest
import torch

from cdkd.config import TrainingConfig, resolve
from cdkd.data.streams import torch_generator
from cdkd.distill.distiller import DistillerOutput, build_distiller, build_optimizers
from cdkd.heads.table import build_pose_net
from cdkd.options import ConfigError

KEYPOINTS = 3

TABLE_VIII = {
    "student": {"backbone": "resnet50", "input_size": 32},
    "teacher": {"backbone": "hrnet_w48", "input_size": 64},
    "simcc": {"split_ratio": 3.0},
    "distill": {"sape": {"hidden": 4}, "etht": {"learn": []}},
}
TABLE_IX = {
    "student": {"backbone": "hrnet_w16", "input_size": 64},
    "teacher": {"backbone": "hrnet_w16", "input_size": 256},
    "distill": {"cca": {"enabled": False}, "sape": {"hidden": 4}, "etht": {"learn": []}},
}


@functools.cache
def teacher_of(backbone: str, size: int, kind: str):
    config = resolve(TABLE_VIII if backbone == "hrnet_w48" else TABLE_IX, {"head.kind": kind}).for_teacher()
    assert (config.student.backbone, config.student.input_size) == (backbone, size)
    net = build_pose_net(config, KEYPOINTS, generator=torch_generator(1, "teacher"))
    net.head.final_layer.weight.data.mul_(500.0)  # so that the tiny initial weights say something
    return net


def step(config: TrainingConfig) -> tuple[DistillerOutput, dict[str, float], bool]:
    """One step: its output, the distillation losses' gradients at the student's first layer, and whether all moved."""
    teacher = teacher_of(config.teacher.backbone, config.teacher.input_size, config.head.kind)
    distiller = build_distiller(config, KEYPOINTS, teacher).train()
    distiller.set_epoch(5, 10)
    before = {name: value.clone() for name, value in distiller.named_parameters() if value.requires_grad}
    generator = torch_generator(3, "batch")
    sizes = config.student.input_size, config.teacher.input_size
    student_images, teacher_images = (torch.randn(2, 3, size, size, generator=generator) for size in sizes)
    keypoints = torch.rand(2, KEYPOINTS, 2, generator=generator, dtype=torch.float64) * sizes[0]
    output = distiller(student_images, teacher_images, keypoints, torch.tensor([[2, 1, 0], [1, 2, 2]]))
    first = distiller.student.backbone.conv1.weight
    gradients = {
        name: torch.autograd.grad(loss, first, retain_graph=True)[0].abs().sum().item()
        for name, loss in output.losses.items()
        if name != "task"
    }
    output.total.backward()
    for optimizer in build_optimizers(distiller, config):
        optimizer.step()
    moved = all(not torch.equal(value, before[name]) for name, value in distiller.named_parameters() if name in before)
    return output, gradients, moved


def test_a_resnet_is_taught_logits_and_the_final_layers_feature_by_a_wider_hrnet():
    output, gradients, moved = step(resolve(TABLE_VIII))
    assert output.student.prediction.x.shape == (2, KEYPOINTS, 96)
    assert gradients.keys() == {"feature", "logit"}
    assert min(gradients.values()) > 0
    assert moved


@pytest.mark.parametrize("kind", ["heatmap", "dark", "cal"])
def test_heatmaps_at_64_are_taught_by_heatmaps_at_256(kind):
    output, gradients, moved = step(resolve(TABLE_IX, {"head.kind": kind}))
    assert output.losses["feature"].isfinite()
    assert gradients.keys() == {"feature"}
    assert gradients["feature"] > 0
    assert moved


def test_cal_is_taught_its_offsets_beside_its_heatmaps():
    """The aligned feature has three maps a keypoint; the loss alone reaches the layer that makes the offsets."""
    config = resolve(TABLE_IX, {"head.kind": "cal", "distill.sape.feature": "heads"})
    distiller = build_distiller(config, KEYPOINTS, teacher_of("hrnet_w16", 256, "cal"))
    output = distiller.student(torch.randn(2, 3, 64, 64, generator=torch_generator(3, "batch")))
    feature = distiller.feature_of(output)
    assert feature.shape == (2, 3 * KEYPOINTS, 16, 16)
    assert torch.equal(feature[:, :KEYPOINTS], output.prediction.maps)
    assert torch.equal(feature[:, KEYPOINTS + 1], output.prediction.offsets[:, 0, 1])
    done, gradients, moved = step(config)
    (reached,) = torch.autograd.grad(feature[:, KEYPOINTS:].square().sum(), distiller.student.head.offset_layer.weight)
    assert reached.any()
    assert done.losses["feature"].isfinite()
    assert gradients["feature"] > 0
    assert moved


@pytest.mark.parametrize("kind", ["simcc", "heatmap", "dark", "tokenpose", "rle"])
def test_heads_without_offsets_refuse_to_align_them(kind):
    with pytest.raises(ConfigError) as raised:
        resolve(TABLE_IX, {"head.kind": kind, "distill.sape.feature": "heads"})
    assert str(raised.value) == f"distill.sape.feature: heads belongs to head.kind cal: {kind} has no offsets to align"
