"""The teacher cache's benchmark: that its arms do what they say, at small sizes."""

from pathlib import Path

import pytest

from benchmarks import teacher_cache

SMALL = {"student": 32, "teacher": 64, "batch": 4}


def test_all_arms_are_compared_and_what_is_kept_is_weighed(tmp_path: Path):
    report = teacher_cache.measure(tmp_path, steps=2, pairs=1, sizes=SMALL)
    assert list(report["arms"]) == ["asks the teacher", "asks and keeps", "recalls"]
    feature, logits = 16 * 16 * 16, 2 * 16 * 128
    assert report["kilobytes_per_view"] == pytest.approx(4 * (feature + logits) / 1e3, rel=0.1)


def test_an_arm_that_computes_something_else_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    recall = teacher_cache.TeacherCache.recall

    def with_an_error(self, images, ask, device):
        teaching = recall(self, images, ask, device)
        teaching.feature.mul_(1.001)
        return teaching

    monkeypatch.setattr(teacher_cache.TeacherCache, "recall", with_an_error)
    with pytest.raises(ValueError, match="losses differ"):
        teacher_cache.measure(tmp_path, steps=1, pairs=1, sizes=SMALL)
