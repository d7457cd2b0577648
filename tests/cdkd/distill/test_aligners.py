"""Which module each choice of the configuration is built as."""

import pytest
from torch import nn

from cdkd.config import field_at, resolve
from cdkd.data.streams import torch_generator
from cdkd.distill import aligners
from cdkd.distill.aligners import (
    FEATURE_ALIGNMENTS,
    LOGIT_ALIGNMENTS,
    FeatureSizes,
    build_feature_aligner,
    build_logit_aligner,
)
from cdkd.distill.cca import CrossClassAlignment
from cdkd.distill.conv_downsample import build_avgpool
from cdkd.distill.feature_fully_connected import FullyConnectedLift
from cdkd.distill.logit_fully_connected import FullyConnectedLogits
from cdkd.distill.same_class_number import SameClassNumber
from cdkd.distill.sape import Sape

SIZES = FeatureSizes(channels=3, student_side=2, teacher_side=8)
SMALL = {"distill.sape.hidden": 4, "distill.sape.kernels": [3]}


def feature_aligner(method, overrides=None):
    return build_feature_aligner(resolve(SMALL, {"distill.feature_alignment": method}, overrides or {}), SIZES)


@pytest.mark.parametrize(
    ("path", "methods"),
    [("distill.feature_alignment", FEATURE_ALIGNMENTS), ("distill.logit_alignment", LOGIT_ALIGNMENTS)],
)
def test_every_choice_has_a_method(path, methods):
    assert set(methods) == set(field_at(path).metadata["choices"]) != set()


def test_feature_methods_adapt_the_side_the_paper_says():
    assert isinstance(feature_aligner("sape"), Sape)
    down, pooled, lifted = (feature_aligner(name) for name in ("conv_downsample", "avgpool", "fully_connected"))
    assert [isinstance(each.student_adapter, nn.Identity) for each in (down, pooled, lifted)] == [True, True, False]
    assert isinstance(down.teacher_adapter, nn.Sequential)
    assert pooled.teacher_adapter.kernel_size == build_avgpool(2, 8).kernel_size == 4
    assert isinstance(lifted.student_adapter, FullyConnectedLift)
    assert isinstance(lifted.teacher_adapter, nn.Identity)


@pytest.mark.parametrize("method", FEATURE_ALIGNMENTS)
def test_every_feature_method_takes_the_shared_options(method):
    options = {"distill.sape.cosine": "channel", "distill.sape.eps": 0.5, "distill.sape.detach_student": True}
    aligner = feature_aligner(method, options)
    assert (aligner.distance.loss, aligner.distance.cosine, aligner.distance.eps) == ("cosine", "channel", 0.5)
    assert aligner.detach_student
    assert feature_aligner(method, {"distill.sape.loss": "mse"}).distance.loss == "mse"


@pytest.mark.parametrize("method", [name for name in FEATURE_ALIGNMENTS if name != "avgpool"])
@pytest.mark.parametrize("trainable", [True, False])
def test_trainable_decides_whether_gradients_are_asked_for(method, trainable):
    aligner = feature_aligner(method, {"distill.sape.trainable": trainable})
    assert {parameter.requires_grad for parameter in aligner.parameters()} == {trainable}


@pytest.mark.parametrize(
    ("method", "changes", "kind"),
    [
        ("cca", {}, CrossClassAlignment),
        ("same_class_number", {"simcc.split_ratio": 12.0, "teacher.split_ratio": 3.0}, SameClassNumber),
        ("same_class_number", {"teacher.split_ratio": 0.75}, SameClassNumber),
        ("same_class_number", {"teacher.input_size": 64}, SameClassNumber),
        ("fully_connected", {}, FullyConnectedLogits),
    ],
)
def test_every_logit_method_takes_the_shared_options(method, changes, kind):
    options = {
        "distill.cca.class_reduction": "mean",
        "distill.cca.batch_reduction": "sum",
        "distill.cca.mask_invisible": True,
        "distill.cca.tau_grad_teacher": False,
    }
    config = resolve(changes, options, {"distill.logit_alignment": method, "distill.sape.enabled": False})
    aligner = build_logit_aligner(config)
    assert isinstance(aligner, kind)
    assert aligner.divergence == type(aligner.divergence)("mean", "sum", True, False)


def test_feature_and_logit_adapters_of_one_name_draw_from_streams_of_their_own(monkeypatch):
    purposes = []

    def recorded(seed, *purpose):
        purposes.append((seed, *purpose))
        return torch_generator(seed, *purpose)

    monkeypatch.setattr(aligners, "torch_generator", recorded)
    both = {"distill.feature_alignment": "fully_connected", "distill.logit_alignment": "fully_connected"}
    config = resolve(both, {"seed": 3, "student.input_size": 32, "teacher.input_size": 64})
    build_feature_aligner(config, SIZES)
    build_logit_aligner(config)
    assert purposes == [(3, "feature_fully_connected"), (3, "logit_fully_connected")]
