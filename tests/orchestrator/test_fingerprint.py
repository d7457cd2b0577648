"""Fingerprints change with everything that changes a result, and with nothing else."""

from __future__ import annotations

import pytest

from cdkd.config import TrainingConfig, resolve
from orchestrator import fingerprint as module
from orchestrator.fingerprint import PROTOCOL_FIELDS, file_digest, fingerprint, protocol
from orchestrator.plan import Metric

METRIC = Metric("val/pckh@0.5", "max", "best")


def identity(*layers, data_digest="d", teacher="t"):
    return fingerprint(resolve({"simcc.split_ratio": 2.0}, *layers), data_digest=data_digest, teacher=teacher)


def test_it_is_sixteen_hexadecimal_digits():
    assert len(identity()) == 16
    int(identity(), 16)


def test_it_does_not_depend_on_the_process_that_computes_it():
    assert fingerprint(TrainingConfig(), data_digest="d", teacher="t") == fingerprint(
        resolve({}), data_digest="d", teacher="t"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"train.epochs": 3},
        {"distill.alpha": 0.5},
        {"evaluation.select": "ap"},
        {"student.backbone": "hrnet_w16"},
        {"data.augmentation.flip_probability": 0.0},
        {"data.synthetic.seed": 3},
        {"distill.cca.enabled": False, "head.kind": "heatmap"},
        {"distill.cca.enabled": False, "data.warp": "size_minus_one"},
        {"preset": "official"},
    ],
)
def test_what_changes_the_result_changes_it(change):
    assert identity(change) != identity()


@pytest.mark.parametrize(
    "change",
    [
        {"runtime.device": "cuda"},
        {"runtime.threads": 4},
        {"evaluation.batch_size": 8},
        {"data.root": "/somewhere"},
        {"preset": "paper"},
        {"data.holdout": 0.3},  # read only with coco_layout
    ],
)
def test_where_and_how_fast_it_runs_does_not(change):
    assert identity(change) == identity()


def test_options_of_a_part_that_is_off_do_not_count():
    off = {"distill.sape.enabled": False}
    assert identity(off, {"distill.sape.projectors": 7}) == identity(off)


def test_results_from_before_there_were_kinds_of_heads_keep_their_identity():
    """Recorded then."""
    assert fingerprint(resolve({}), data_digest="d", teacher="t") == "16194cbc30eba38e"


def test_results_from_before_a_teacher_had_its_own_schedule_keep_their_identity():
    """What teacher.milestones changes is the teacher, whose identity is in the student's."""
    assert identity({"teacher.milestones": [0.5]}) == identity()
    plain, other = (resolve({"teacher.milestones": milestones}).for_teacher() for milestones in ([0.8], [0.5]))
    assert fingerprint(plain, data_digest="d", teacher="") != fingerprint(other, data_digest="d", teacher="")


def test_data_teacher_and_method_count(monkeypatch):
    assert identity(data_digest="other") != identity()
    assert identity(teacher="other") != identity()
    before = identity()
    monkeypatch.setattr(module, "METHOD_VERSION", 10_000)
    assert identity() != before


def test_weights_files_count_by_content(tmp_path):
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
    same, moved, other = (identity({"student.pretrained": str(tmp_path / name)}) for name in "abc")
    assert same == moved != other
    assert same != identity()


def test_equal_tensors_are_the_same_weights_however_they_were_saved(tmp_path):
    torch = pytest.importorskip("torch")
    state = {"state_dict": {"a": torch.arange(5.0), "b": torch.ones(2, 3)}, "epoch": 3}
    other = {**state, "state_dict": {**state["state_dict"], "a": torch.arange(5.0) + 1}}
    renamed = {**state, "state_dict": {"c": state["state_dict"]["a"], "b": state["state_dict"]["b"]}}
    found = []
    for name, content in (("x.pt", state), ("y.pt", state), ("z.pt", other), ("w.pt", renamed)):
        torch.save(content, tmp_path / name)
        found.append(identity({"student.pretrained": str(tmp_path / name)}))
    assert (tmp_path / "x.pt").read_bytes() != (tmp_path / "y.pt").read_bytes()
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_a_file_that_changes_is_read_again(tmp_path):
    file = tmp_path / "weights"
    file.write_bytes(b"1")
    before = file_digest(file)
    file.write_bytes(b"22")
    assert file_digest(file) != before


class TestProtocol:
    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"student.input_size": 128}, "input_size"),
            ({"evaluation.flip_test": False}, "flip_test"),
            ({"simcc.flip_shift": "official"}, "flip_shift"),
            ({"train.epochs": 3}, "epochs"),
            ({"evaluation.select": "ap"}, "select_by"),
            ({"data.box_padding": 1.5}, "boxes"),
            ({"simcc.split_ratio": 2.0}, "decoding"),
            ({"data.keypoint_set": "lsp14"}, "keypoints"),
        ],
    )
    def test_what_makes_two_results_incomparable_is_in_it(self, change, field):
        one, other = (protocol(resolve(layer), METRIC, "d") for layer in ({}, change))
        assert one[field] != other[field]

    @pytest.mark.parametrize(
        ("change", "field", "expected"),
        [
            ({}, "decoding", "heatmap argmax, quarter offset"),
            ({}, "flip_shift", "1 heatmap cell"),
            ({"heatmap.shift_flipped": False}, "flip_shift", "none"),
            ({"evaluation.flip_test": False}, "flip_shift", "none"),
            ({"head.kind": "dark"}, "decoding", "heatmap argmax, DARK step after a blur of 11 cells"),
            ({"head.kind": "dark"}, "flip_shift", "none"),
            ({"head.kind": "cal"}, "decoding", "heatmap argmax, its offset"),
            ({"head.kind": "cal"}, "flip_shift", "none"),
            ({"head.kind": "tokenpose"}, "decoding", "heatmap argmax, DARK step after a blur of 11 cells"),
            ({"head.kind": "tokenpose", "dark.shift_flipped": True}, "flip_shift", "1 heatmap cell"),
            ({"head.kind": "rle", "distill.sape.enabled": False}, "decoding", "regression"),
            ({"head.kind": "rle", "distill.sape.enabled": False}, "flip_shift", "1 pixel"),
        ],
    )
    def test_decoding_is_that_of_the_kind_of_head(self, change, field, expected):
        config = resolve({"head.kind": "heatmap", "distill.cca.enabled": False}, change)
        assert protocol(config, METRIC, "d")[field] == expected

    def test_its_fields_are_those_a_study_may_name(self):
        assert set(protocol(resolve({}), METRIC, "d")) == set(PROTOCOL_FIELDS)

    def test_data_metric_and_epoch_are_in_it(self):
        one = protocol(resolve({}), METRIC, "d")
        other = protocol(resolve({}), Metric("val/ap", "max", "last"), "e")
        assert {name for name in one if one[name] != other[name]} == {"data", "metric", "select"}

    def test_what_an_ablation_varies_is_not(self):
        arms = ({}, {"distill.sape.enabled": False}, {"distill.alpha": 3.0, "seed": 4})
        first, *others = (protocol(resolve(layer), METRIC, "d") for layer in arms)
        assert all(other == first for other in others)
