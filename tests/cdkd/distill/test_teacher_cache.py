"""Entries that fit the pixels or are not found, limits, and damage."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from cdkd.config import TrainingConfig, resolve
from cdkd.distill import teacher_cache
from cdkd.distill.distiller import Teaching
from cdkd.distill.teacher_cache import RESERVE_BYTES, TeacherCache, identity_of
from cdkd.heads.simcc import SimCCLogits

CPU = torch.device("cpu")
GB = 10**9
IMAGES = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).view(2, 3, 4, 4)


class Teacher:
    """Answers by how often it was asked."""

    def __init__(self, *, has_feature: bool = True, has_logits: bool = True) -> None:
        self.has_feature, self.has_logits, self.asked = has_feature, has_logits, 0

    def __call__(self) -> Teaching:
        self.asked += 1
        values = torch.arange(2 * 5 * 3 * 3).view(2, 5, 3, 3) + self.asked / 3
        feature = values.to(memory_format=torch.channels_last)
        logits = SimCCLogits(values.flatten(2), -values.flatten(2))
        return Teaching(feature if self.has_feature else None, logits if self.has_logits else None)


def cache(folder: Path, limit: int = GB, **identity: str) -> TeacherCache:
    return TeacherCache(folder, limit, {"teacher": "a", **identity})


def test_an_answer_comes_back_bit_by_bit_and_as_it_lay_in_memory(tmp_path: Path) -> None:
    teacher = Teacher()
    said = cache(tmp_path).recall(IMAGES, teacher, CPU)
    again = cache(tmp_path).recall(IMAGES.clone(), teacher, CPU)
    assert teacher.asked == 1
    assert said.feature is not None
    assert again.feature is not None
    assert said.logits is not None
    assert again.logits is not None
    assert torch.equal(said.feature, again.feature)
    assert again.feature.stride() == said.feature.stride()
    assert torch.equal(said.logits.x, again.logits.x)
    assert torch.equal(said.logits.y, again.logits.y)


@pytest.mark.parametrize(("has_feature", "has_logits"), [(False, True), (True, False)])
def test_what_a_teacher_does_not_say_stays_unsaid(tmp_path: Path, has_feature: bool, has_logits: bool) -> None:
    teacher = Teacher(has_feature=has_feature, has_logits=has_logits)
    for _ in range(2):
        said = cache(tmp_path).recall(IMAGES, teacher, CPU)
        assert (said.feature is not None, said.logits is not None) == (has_feature, has_logits)
    assert teacher.asked == 1


def test_one_other_pixel_another_order_or_another_teacher_is_another_question(tmp_path: Path) -> None:
    teacher = Teacher()
    brighter = IMAGES.clone()
    brighter[1, 2, 3, 3] += 1
    for images in (IMAGES, brighter, IMAGES.flip(0), IMAGES[:1], IMAGES.reshape(2, 3, 2, 8)):
        cache(tmp_path).recall(images, teacher, CPU)
    cache(tmp_path, precision="bf16").recall(IMAGES, teacher, CPU)
    assert teacher.asked == 6


def test_a_full_cache_asks_the_teacher_and_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache(tmp_path).recall(IMAGES, Teacher(), CPU)
    size = sum(file.stat().st_size for file in tmp_path.rglob("*.teaching"))
    teacher, full = Teacher(), cache(tmp_path, 2 * size)
    with caplog.at_level(logging.WARNING):
        for value in range(4):
            full.recall(torch.full_like(IMAGES, value), teacher, CPU)
        full.recall(torch.zeros_like(IMAGES), teacher, CPU)
    assert teacher.asked == 4, "one more had room and was recalled"
    assert [record.message.count("runtime.teacher_cache_gb") for record in caplog.records] == [1]
    assert len(list(tmp_path.rglob("*.teaching"))) == 2


def test_a_damaged_entry_is_written_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    teacher = Teacher()
    cache(tmp_path).recall(IMAGES, teacher, CPU)
    (file,) = tmp_path.rglob("*.teaching")
    for content in (file.read_bytes()[:-9], b"", bytes(4), bytes(64)):
        file.write_bytes(content)
        asked = teacher.asked
        with caplog.at_level(logging.WARNING):
            cache(tmp_path).recall(IMAGES, teacher, CPU)
        assert teacher.asked == asked + 1
        assert caplog.records[-1].message.endswith("is damaged; the teacher is asked again")
        cache(tmp_path).recall(IMAGES, teacher, CPU)
        assert teacher.asked == asked + 1


@pytest.mark.parametrize("name", ["", "0" * 16])
def test_a_disk_that_takes_nothing_stops_no_training(tmp_path: Path, name: str, caplog: Any) -> None:
    opened = cache(tmp_path / "teachers")
    file = opened.entries if name else tmp_path / "teachers"  # a file where a folder should be
    file.parent.mkdir(exist_ok=True)
    file.touch()
    teacher = Teacher()
    with caplog.at_level(logging.WARNING):
        for value in range(2):
            opened.recall(torch.full_like(IMAGES, value), teacher, CPU)
    assert teacher.asked == 2
    assert len(caplog.records) == 1
    assert "Not a directory" in caplog.text


def test_an_entry_that_cannot_be_read_is_asked_for_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    teacher, opened = Teacher(), cache(tmp_path)
    opened.recall(IMAGES, teacher, CPU)
    (file,) = tmp_path.rglob("*.teaching")
    file.unlink()
    file.mkdir()
    with caplog.at_level(logging.WARNING):
        opened.recall(IMAGES, teacher, CPU)
    assert teacher.asked == 2
    assert "cannot be read: Is a directory" in caplog.text
    assert not list(tmp_path.rglob("*.draft"))


def test_room_is_left_on_the_disk(tmp_path: Path) -> None:
    teacher = Teacher()
    for free in (RESERVE_BYTES, RESERVE_BYTES + 10**6):
        opened = TeacherCache(tmp_path, GB, {}, lambda folder, free=free: free)
        opened.recall(IMAGES, teacher, CPU)
        assert len(list(tmp_path.rglob("*.teaching"))) == (free > RESERVE_BYTES)


def test_trainings_side_by_side_keep_the_limit_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_cache, "MEASURED_EVERY", 1)
    cache(tmp_path).recall(IMAGES, Teacher(), CPU)
    (first,) = tmp_path.rglob("*.teaching")
    opened = [cache(tmp_path, 5 * first.stat().st_size) for _ in range(3)]
    for value in range(9):
        opened[value % 3].recall(torch.full_like(IMAGES, value), Teacher(), CPU)
    assert len(list(tmp_path.rglob("*.teaching"))) == 5


def test_what_a_teacher_said_long_ago_is_removed(tmp_path: Path) -> None:
    old, young = cache(tmp_path, teacher="b"), cache(tmp_path, teacher="c")
    for opened in (old, young):
        opened.recall(IMAGES, Teacher(), CPU)
    os.utime(old.entries, (0, 0))
    cache(tmp_path).recall(IMAGES, Teacher(), CPU)
    assert not old.entries.exists()
    assert len(list(young.entries.iterdir())) == 1


@pytest.mark.parametrize(
    ("overrides", "is_same"),
    [
        ({"distill.alpha": 0.5, "seed": 3, "distill.sape.projectors": 1}, True),
        ({"distill.sape.feature": "stage4"}, False),
        ({"train.precision": "bf16"}, False),
    ],
)
def test_the_identity_holds_what_the_teachers_bits_depend_on(overrides: dict[str, Any], is_same: bool) -> None:
    before, now = (identity_of(config, "digest", CPU) for config in (resolve(), resolve(overrides)))
    assert (before == now) is is_same


def test_the_identity_holds_teacher_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    config: TrainingConfig = resolve()
    found = [identity_of(config, "digest", CPU), identity_of(config, "another", CPU)]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 17)
    found.append(identity_of(config, "digest", CPU))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX9")
    found.append(identity_of(config, "digest", CPU))
    assert all(found[i] != found[k] for i in range(4) for k in range(i))


def test_the_share_of_batches_recalled_begins_anew_when_taken(tmp_path: Path) -> None:
    opened = cache(tmp_path)
    assert opened.take_share() == 0
    for images in (IMAGES, IMAGES, IMAGES, IMAGES.flip(0)):
        opened.recall(images, Teacher(), CPU)
    assert opened.take_share() == 0.5
    assert opened.take_share() == 0
