"""The data pipeline's benchmark: that its arms do what they say, on small images."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import pipeline
from cdkd.data.images import ImageCache


@pytest.fixture(autouse=True)
def small_images(monkeypatch) -> None:
    monkeypatch.setattr(pipeline, "WIDTH", 160)
    monkeypatch.setattr(pipeline, "HEIGHT", 120)
    monkeypatch.setattr(pipeline, "MEDIAN_BOX", 80.0)


def test_all_arms_are_compared_and_the_cache_is_described(tmp_path: Path):
    report = pipeline.measure(tmp_path, count=3, pairs=1)
    assert report["largest_difference"] == 0
    assert len(report["arms"]) == 6
    assert report["units"] == 3
    assert report["build"]["cache_mb_per_image"] == pytest.approx(160 * 120 * 3 / 1e6, rel=0.1)
    assert report["least_psnr_to_mirrored_image_db"] > 40


def test_a_crop_that_differs_is_noticed(tmp_path: Path):
    rng = np.random.default_rng(0)
    people = pipeline.draw_people(pipeline.write_images(tmp_path, 2, rng), rng)
    sound, source = pipeline.dataset_of(people, ImageCache(False)), ImageCache()
    changed = source.load(people[1].image)
    changed.setflags(write=True)
    changed ^= 1
    assert pipeline.largest_difference(sound, sound) == 0
    assert pipeline.largest_difference(sound, pipeline.dataset_of(people, source)) >= 1


def test_the_peers_cut_the_same_crops_but_for_rounding_in_flipped_ones(tmp_path: Path):
    rng = np.random.default_rng(0)
    people = pipeline.draw_people(pipeline.write_images(tmp_path, 8, rng), rng)
    dataset = pipeline.dataset_of(people, ImageCache())
    flips = set()
    for index, person in enumerate(people):
        view = dataset.view(index)
        flips.add(view.is_flipped)
        mirrored, mapped = (
            pipeline.peer_crops(person.image, view, mirrors_image=mirrors_image) for mirrors_image in (True, False)
        )
        assert all(cut.any() for cut in mapped)
        for one, other in zip(mirrored, mapped, strict=True):
            assert np.abs(one.astype(int) - other).max() <= view.is_flipped
    assert flips == {True, False}
