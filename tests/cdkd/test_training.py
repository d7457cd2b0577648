"""The whole of one training: resume, identity of streams, stop, divergence, export, data parallelism."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from cdkd.checkpoint import CheckpointFolder, load_tensors
from cdkd.config import TrainingConfig, resolve
from cdkd.data.errors import DataError
from cdkd.distributed import World
from cdkd.engine import Diverged
from cdkd.inference import evaluate_checkpoint, load_student
from cdkd.keypoints import KEYPOINT_SETS
from cdkd.models.weights import WeightsError
from cdkd.options import ConfigError, to_mapping
from cdkd.training import (
    EpochReport,
    converged_epoch,
    cost_of,
    train,
)

TINY: dict[str, Any] = {
    "data": {"kind": "synthetic", "synthetic": {"train_images": 48, "val_images": 16, "image_size": 96}},
    "student": {"backbone": "hrnet_w16", "input_size": 32},
    "teacher": {"backbone": "hrnet_w16", "input_size": 64, "epochs": 1, "batch_size": 16},
    "simcc": {"split_ratio": 2.0},
    "train": {"epochs": 3, "batch_size": 16},
    "distill": {"etht": {"learn": ["tau", "alpha", "beta"], "learning_rate": 1.0}},
    "runtime": {"threads": 1, "device": "cpu"},
}
PLAIN = {"distill": {"sape": {"enabled": False}, "cca": {"enabled": False}}}


class Recorder:
    """A report function that remembers, and asks to stop after a given epoch."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.reports: list[EpochReport] = []
        self.stop_after = stop_after

    def __call__(self, report: EpochReport) -> bool:
        self.reports.append(report)
        return report.epoch >= self.stop_after

    def series(self, name: str) -> list[float]:
        return [report.metrics[name] for report in self.reports]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TrainingConfig:
    root = tmp_path_factory.mktemp("synthetic")
    return resolve(TINY, {"data.root": str(root)})


@pytest.fixture(scope="module")
def teacher_file(tiny: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    train(tiny.for_teacher(), Recorder(), folder=folder)
    return folder / "best.pt"


@pytest.fixture(scope="module")
def whole(tiny: TrainingConfig, teacher_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recorder]:
    """One uninterrupted distillation with everything switched on."""
    folder, recorder = tmp_path_factory.mktemp("whole"), Recorder()
    train(tiny, recorder, folder=folder, teacher_file=teacher_file)
    return folder, recorder


def weights_of(folder: Path, name: str = "last.pt") -> dict[str, torch.Tensor]:
    return dict(load_tensors(folder / name)["state_dict"])


def changed(config: TrainingConfig, *layers: dict[str, Any]) -> TrainingConfig:
    return resolve(to_mapping(config), *layers)


def test_every_epoch_reports_losses_scores_and_diagnostics(whole: tuple[Path, Recorder]) -> None:
    names = set(whole[1].reports[0].metrics)
    assert {"train/loss", "train/loss_task", "train/loss_feature", "train/loss_logit", "val/pckh@0.5"} <= names
    assert {"diag/gradient_ratio_feature", "diag/gradient_ratio_logit", "diag/tau", "diag/xi"} <= names
    assert [report.epoch for report in whole[1].reports] == [1, 2, 3]
    assert all(ratio > 0 for ratio in whole[1].series("diag/gradient_ratio_feature"))
    assert all(ratio > 0 for ratio in whole[1].series("diag/gradient_ratio_logit"))
    assert len(set(whole[1].series("diag/tau"))) > 1


def test_the_task_loss_falls(whole: tuple[Path, Recorder]) -> None:
    losses = whole[1].series("train/loss_task")
    assert losses[-1] < losses[0]


def test_stopping_and_resuming_gives_the_same_weights_as_going_through(
    tiny: TrainingConfig, teacher_file: Path, whole: tuple[Path, Recorder], tmp_path: Path
) -> None:
    stopped = train(tiny, Recorder(stop_after=1), folder=tmp_path, teacher_file=teacher_file)
    assert stopped["final/epoch"] == 1
    finished = json.loads((whole[0] / "summary.json").read_text())["summary"]
    costs = {"params_m", "gmacs", "teacher_params_m", "teacher_gmacs", "adapter_params_m", "adapter_gmacs"}
    assert {name: stopped[name] for name in costs} == {name: finished[name] for name in costs}
    assert not (tmp_path / "summary.json").exists()
    again = Recorder()
    train(tiny, again, folder=tmp_path, teacher_file=teacher_file)
    assert again.series("train/loss") == whole[1].series("train/loss")
    torch.testing.assert_close(weights_of(tmp_path), weights_of(whole[0]), rtol=0, atol=0)
    final, expected = (CheckpointFolder(folder).load() for folder in (tmp_path, whole[0]))
    assert final is not None
    assert expected is not None
    torch.testing.assert_close(final["distiller"], expected["distiller"], rtol=0, atol=0)


def test_a_process_killed_in_the_middle_and_restarted_gives_the_same_weights(
    tiny: TrainingConfig, teacher_file: Path, whole: tuple[Path, Recorder], tmp_path: Path
) -> None:
    script = (
        "import json, sys; from pathlib import Path; from cdkd.config import resolve; from cdkd.training import train\n"
        "train(resolve(json.loads(sys.argv[1])), lambda report: print(report.epoch, flush=True) or False,"
        " folder=Path(sys.argv[2]), teacher_file=Path(sys.argv[3]))\n"
    )
    command = [sys.executable, "-c", script, json.dumps(to_mapping(tiny)), str(tmp_path), str(teacher_file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        time.sleep(0.3)
        os.kill(process.pid, signal.SIGKILL)
    assert not (tmp_path / "summary.json").exists()
    train(tiny, Recorder(), folder=tmp_path, teacher_file=teacher_file)
    torch.testing.assert_close(weights_of(tmp_path), weights_of(whole[0]), rtol=0, atol=0)


def test_a_finished_training_is_reported_again_and_not_repeated(
    tiny: TrainingConfig, teacher_file: Path, whole: tuple[Path, Recorder]
) -> None:
    before = (whole[0] / "last.pt").stat().st_mtime_ns
    again = Recorder()
    train(tiny, again, folder=whole[0], teacher_file=teacher_file)
    assert again.reports == whole[1].reports
    assert (whole[0] / "last.pt").stat().st_mtime_ns == before


def test_the_folder_of_another_training_is_refused(
    tiny: TrainingConfig, teacher_file: Path, whole: tuple[Path, Recorder]
) -> None:
    with pytest.raises(ConfigError, match=r"other values of distill\.alpha"):
        train(changed(tiny, {"distill.alpha": 0.5}), Recorder(), folder=whole[0], teacher_file=teacher_file)


def steps(epoch: int, **values: float) -> list[dict[str, Any]]:
    """A schedule that changes options from an epoch on; `__` stands for a dot."""
    return [{"epoch": epoch, "option": name.replace("__", "."), "value": value} for name, value in values.items()]


def test_a_checkpoint_is_gone_on_with_under_a_schedule_that_agrees_with_it_so_far(
    tiny: TrainingConfig, teacher_file: Path, whole: tuple[Path, Recorder], tmp_path: Path
) -> None:
    """A training that is changed after an epoch, and stopped twice, ends as the same schedule from the start."""
    changes = {"distill__alpha": 3.0, "distill__etht__init_tau": 6.0}
    second = changed(tiny, {"schedule": steps(2, **changes)})
    third = changed(tiny, {"schedule": [*steps(2, **changes), *steps(3, train__learning_rate=2e-3)]})
    for config, last in ((tiny, 1), (second, 2), (third, 3)):
        train(config, Recorder(last), folder=tmp_path / "pieces", teacher_file=teacher_file)
        if last == 2:
            with pytest.raises(ConfigError, match="other values of schedule"):
                train(tiny, Recorder(), folder=tmp_path / "pieces", teacher_file=teacher_file)
    at_once = Recorder()
    train(third, at_once, folder=tmp_path / "at_once", teacher_file=teacher_file)
    found, expected = (CheckpointFolder(tmp_path / name).load() for name in ("pieces", "at_once"))
    assert found is not None
    assert expected is not None
    torch.testing.assert_close(found["distiller"], expected["distiller"], rtol=0, atol=0)
    torch.testing.assert_close(found["optimizers"][0]["state"], expected["optimizers"][0]["state"], rtol=0, atol=0)
    assert at_once.series("train/loss")[0] == whole[1].series("train/loss")[0]
    assert at_once.series("diag/alpha")[1] > 2.5
    assert at_once.series("diag/tau")[1] < whole[1].series("diag/tau")[1] - 5
    assert at_once.series("train/learning_rate") == pytest.approx([1e-3, 1e-3, 2e-4])  # the milestone is after 2.4


@pytest.fixture(scope="module")
def unscheduled(tiny: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses of two epochs without distillation."""
    recorder = Recorder()
    train(changed(tiny, PLAIN, {"train.epochs": 2}), recorder, folder=tmp_path_factory.mktemp("plain"))
    return recorder.series("train/loss")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("simcc__label_smoothing", 0.5),
        ("data__augmentation__rotation_degrees", 80.0),
        ("train__learning_rate", 1e-2),
        ("train__weight_decay", 0.5),
    ],
)
def test_a_step_acts_from_its_epoch_on_and_not_before(
    tiny: TrainingConfig, unscheduled: list[float], tmp_path: Path, option: str, value: float
) -> None:
    recorder = Recorder()
    config = changed(tiny, PLAIN, {"train.epochs": 2, "schedule": steps(2, **{option: value})})
    train(config, recorder, folder=tmp_path)
    losses = recorder.series("train/loss")
    assert losses[0] == unscheduled[0]
    assert losses[1] != unscheduled[1]


def test_arms_of_a_seed_start_from_the_same_student_and_see_the_same_views(
    tiny: TrainingConfig, teacher_file: Path, whole: tuple[Path, Recorder], tmp_path: Path
) -> None:
    """With no weight on the distillation losses, the student is the plain student to the last bit."""
    plain, idle = tmp_path / "plain", tmp_path / "idle"
    train(changed(tiny, PLAIN, {"train.epochs": 1}), Recorder(), folder=plain)
    nothing = {"distill": {"alpha": 0.0, "beta": 0.0, "etht": {"learn": []}}}
    train(changed(tiny, nothing, {"train.epochs": 1}), Recorder(), folder=idle, teacher_file=teacher_file)
    torch.testing.assert_close(weights_of(plain), weights_of(idle), rtol=0, atol=0)
    different = tmp_path / "different"
    train(changed(tiny, PLAIN, {"train.epochs": 1, "seed": 1}), Recorder(), folder=different)
    assert not torch.equal(weights_of(plain)["conv1.weight"], weights_of(different)["conv1.weight"])


def test_best_and_last_epoch_are_both_kept_and_can_be_scored_again(
    tiny: TrainingConfig, whole: tuple[Path, Recorder]
) -> None:
    summary = json.loads((whole[0] / "summary.json").read_text())["summary"]
    scores = whole[1].series("val/pckh@0.5")
    assert summary["best/epoch"] == scores.index(max(scores)) + 1
    assert summary["best/val/pckh@0.5"] == max(scores)
    assert summary["final/val/pckh@0.5"] == scores[-1]
    assert evaluate_checkpoint(whole[0] / "best.pt")["pckh@0.5"] == pytest.approx(max(scores), abs=1e-9)
    assert evaluate_checkpoint(whole[0] / "last.pt")["pckh@0.5"] == pytest.approx(scores[-1], abs=1e-9)
    assert load_student(whole[0]).epoch == summary["best/epoch"]
    assert summary["params_m"] > 0
    assert summary["gflops"] > 0


def test_a_loss_that_is_not_finite_stops_the_training_by_its_name(tiny: TrainingConfig, tmp_path: Path) -> None:
    hot = changed(tiny, PLAIN, {"train.learning_rate": 1e30})
    with pytest.raises(Diverged, match="task loss is not finite in epoch 1"):
        train(hot, Recorder(), folder=tmp_path)


def test_weights_ruined_by_the_last_step_of_an_epoch_are_named_too(tiny: TrainingConfig, tmp_path: Path) -> None:
    """Every loss of the epoch is finite; only the validation meets the new weights."""
    hot = changed(tiny, PLAIN, {"train.learning_rate": 1e30, "train.batch_size": 48})
    with pytest.raises(Diverged, match="task loss is not finite in epoch 1"):
        train(hot, Recorder(), folder=tmp_path)


def test_a_teacher_of_another_architecture_is_refused_in_one_line(
    tiny: TrainingConfig, teacher_file: Path, tmp_path: Path
) -> None:
    other = changed(tiny, {"teacher.backbone": "resnet18"})
    with pytest.raises(WeightsError) as caught:
        train(other, Recorder(), folder=tmp_path, teacher_file=teacher_file)
    assert "\n" not in str(caught.value)


def test_a_damaged_teacher_is_refused(tiny: TrainingConfig, teacher_file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "teacher"
    copy.mkdir()
    (copy / "summary.json").write_bytes((teacher_file.parent / "summary.json").read_bytes())
    content = bytearray(teacher_file.read_bytes())
    content[-5000] ^= 1
    (copy / "best.pt").write_bytes(bytes(content))
    with pytest.raises(WeightsError, match="SHA-256"):
        train(tiny, Recorder(), folder=tmp_path / "run", teacher_file=copy / "best.pt")


def test_a_missing_teacher_and_missing_data_are_named(tiny: TrainingConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="teacher"):
        train(tiny, Recorder(), folder=tmp_path)
    source = {"annotations": "absent.json", "images": "absent"}
    real = changed(tiny, PLAIN, {"data": {"kind": "coco_layout", "train": [source], "root": str(tmp_path)}})
    with pytest.raises(DataError, match=r"absent\.json"):
        train(real, Recorder(), folder=tmp_path / "run")


def test_the_cache_of_decoded_images_changes_no_number(
    tiny: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDKD_CACHE", str(tmp_path / "cache"))
    plain = changed(tiny, PLAIN, {"train": {"epochs": 1}})
    weights = []
    for name, is_cached in (("files", False), ("cache", True)):
        train(changed(plain, {"runtime.crop_cache": is_cached}), Recorder(), folder=tmp_path / name)
        weights.append(weights_of(tmp_path / name))
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
    assert len(list((tmp_path / "cache" / "pixels").iterdir())) == 1


def test_what_the_teacher_said_to_one_arm_serves_the_next_and_changes_no_number(
    tiny: TrainingConfig,
    teacher_file: Path,
    whole: tuple[Path, Recorder],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CDKD_CACHE", str(tmp_path / "cache"))
    cached = changed(tiny, {"runtime.teacher_cache_gb": 1.0})
    logits_only = changed(cached, {"distill": {"sape": {"enabled": False}}})
    first, second, other_seed = Recorder(), Recorder(), Recorder()
    train(logits_only, first, folder=tmp_path / "first", teacher_file=teacher_file)
    train(cached, second, folder=tmp_path / "second", teacher_file=teacher_file)
    train(changed(cached, {"seed": 1, "train.epochs": 1}), other_seed, folder=tmp_path / "o", teacher_file=teacher_file)

    assert first.series("time/teacher_cached") == [0, 0, 0]
    assert second.series("time/teacher_cached") == [1, 1, 1]
    assert other_seed.series("time/teacher_cached") == [0]
    names = [name for name in second.reports[0].metrics if not name.startswith("time/")]
    assert all(second.series(name) == whole[1].series(name) for name in names)
    uncached = weights_of(whole[0])
    assert all(torch.equal(value, uncached[key]) for key, value in weights_of(tmp_path / "second").items())


def test_a_score_the_keypoints_cannot_have_is_refused(tiny: TrainingConfig, tmp_path: Path) -> None:
    """COCO keypoints have no head segment, so no PCKh."""
    coco = changed(tiny, PLAIN, {"data.keypoint_set": "coco17", "train.epochs": 1})
    recorder = Recorder()
    with pytest.raises(ConfigError, match=r"pckh@0\.5 is not a score of coco17; it has ap, .*pck@0\.2"):
        train(coco, recorder, folder=tmp_path)
    assert not recorder.reports
    assert not list(tmp_path.iterdir()), "refused before the first epoch"


def test_a_batch_that_workers_cannot_share_is_refused(tiny: TrainingConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.batch_size: must be a multiple of the 3 workers, got 16"):
        train(changed(tiny, PLAIN), Recorder(), folder=tmp_path, world=World(0, 3))


def test_bf16_losses_stay_close_to_fp32(
    tiny: TrainingConfig, teacher_file: Path, whole: tuple[Path, Recorder], tmp_path: Path
) -> None:
    recorder = Recorder(stop_after=1)
    half = changed(tiny, {"train.precision": "bf16"})
    train(half, recorder, folder=tmp_path, teacher_file=teacher_file)
    assert recorder.series("train/loss_task")[0] == pytest.approx(whole[1].series("train/loss_task")[0], rel=2e-2)


def parallel_worker(rank: int, port: int, config: dict[str, Any], folder: str, teacher: str) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    recorder = Recorder()
    train(resolve(config), recorder, folder=Path(folder), teacher_file=Path(teacher), world=World(rank, 2))
    if rank == 1:
        Path(folder, "reports.json").write_text(json.dumps([report.metrics for report in recorder.reports]))
    dist.destroy_process_group()


def test_two_workers_give_the_losses_of_one(
    tiny: TrainingConfig, teacher_file: Path, whole: tuple[Path, Recorder], tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    one_epoch = changed(tiny, {"train.epochs": 1})
    mp.spawn(parallel_worker, args=(port, to_mapping(one_epoch), str(tmp_path), str(teacher_file)), nprocs=2)
    (metrics,) = json.loads((tmp_path / "reports.json").read_text())
    # Rounding differs between one batch and two halves, and Adam's first steps amplify it.
    for name, tolerance in (("task", 2e-4), ("feature", 2e-4), ("logit", 5e-3)):
        expected = whole[1].series(f"train/loss_{name}")[0]
        assert metrics[f"train/loss_{name}"] == pytest.approx(expected, rel=tolerance), name
    assert metrics["val/pckh@0.5"] == pytest.approx(whole[1].series("val/pckh@0.5")[0], abs=0.05)


def test_the_cost_of_a_training_is_told_apart_from_what_is_deployed(
    tiny: TrainingConfig, teacher_file: Path, whole: tuple[Path, Recorder], tmp_path: Path
) -> None:
    one = changed(tiny, {"distill.sape.projectors": 1, "distill.sape.sau": False, "train.epochs": 1})
    alone = changed(tiny, {"distill.sape.enabled": False, "distill.cca.enabled": False, "train.epochs": 1})
    projected = train(one, Recorder(), folder=tmp_path / "one", teacher_file=teacher_file)
    plain = train(alone, Recorder(), folder=tmp_path / "plain")
    student, teacher = (size // 4 for size in (tiny.student.input_size, tiny.teacher.input_size))
    assert projected["adapter_params_m"] == pytest.approx((student**2 + 1) * teacher**2 / 1e6)
    assert projected["adapter_gmacs"] == pytest.approx(16 * student**2 * teacher**2 / 1e9)
    assert projected["teacher_params_m"] == pytest.approx(
        cost_of(tiny.for_teacher(), KEYPOINT_SETS["mpii16"])["params_m"]
    )
    for name in ("params_m", "gmacs", "gflops"):
        assert projected[name] == plain[name]  # what is deployed costs what the baseline costs
    assert plain["teacher_gmacs"] == plain["adapter_gmacs"] == plain["adapter_params_m"] == 0.0
    assert plain["epoch_seconds"] == pytest.approx(plain["train_seconds"])
    assert plain["peak_memory_mb"] > 10
    assert plain["converged_epoch"] == 1


@pytest.mark.parametrize(
    ("scores", "epoch"),
    [([0.1], 1), ([0.1, 0.5, 0.502], 2), ([0.1, 0.5, 0.51], 3), ([0.6, 0.5, 0.51], 1)],
)
def test_a_training_has_converged_when_it_is_close_to_its_best(scores: list[float], epoch: int) -> None:
    assert converged_epoch(scores) == epoch
