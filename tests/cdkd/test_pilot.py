from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from cdkd.config import TrainingConfig, resolve
from cdkd.options import to_mapping
from cdkd.pilot import Timing, main, pilot
from cdkd.training import EpochReport, train

CONFIG = {
    "data.synthetic": {"train_images": 96, "val_images": 12, "image_size": 64},
    "student": {"backbone": "hrnet_w16", "input_size": 32},
    "teacher": {"backbone": "hrnet_w16", "input_size": 64},
    "simcc.split_ratio": 2.0,
    "train": {"epochs": 2, "batch_size": 4},
    "runtime": {"device": "cpu", "threads": 1},
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainingConfig:
    return resolve(CONFIG, {"data.root": str(tmp_path_factory.mktemp("drawn"))})


def test_a_pilot_tells_every_part_of_a_training(config: TrainingConfig) -> None:
    found = pilot(config)
    assert 0 < found.low <= found.epoch <= found.high
    assert found.setup > 0
    assert found.end > 0


def test_it_foretells_the_order_of_magnitude(config: TrainingConfig, tmp_path: Path) -> None:
    plain = resolve(to_mapping(config), {"distill.sape.enabled": False, "distill.cca.enabled": False})
    seconds: list[float] = []

    def report(epoch: EpochReport) -> bool:
        seconds.append(epoch.metrics["time/epoch_seconds"])
        return False

    train(plain, report, folder=tmp_path)
    assert seconds[-1] / 5 < pilot(plain).epoch < seconds[-1] * 5  # a factor of steps forgotten would be 6 and more


def test_workers_share_the_steps(config: TrainingConfig) -> None:
    plain = resolve(to_mapping(config), {"distill.sape.enabled": False, "distill.cca.enabled": False})
    from cdkd.pilot import _Pilot
    from cdkd.training import Training

    training = Training(plain, lambda _: False, Path("unused"), None)
    alone, shared = _Pilot(training, 1), _Pilot(training, 2)
    assert len(alone.batches) == len(shared.batches) == 24
    assert len(alone.batches[0]) == 2 * len(shared.batches[0]) == 4


def test_the_command_prints_a_line_for_each_configuration(
    config: TrainingConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = resolve(to_mapping(config), {"distill.sape.enabled": False, "distill.cca.enabled": False})
    file = tmp_path / "configs.json"
    file.write_text(json.dumps([to_mapping(plain), to_mapping(plain)]))
    main(str(file))
    start, *lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert start == {"start": 0.0}  # nobody said when this process was asked for
    assert [set(line) for line in lines] == [{item.name for item in fields(Timing)}] * 2
