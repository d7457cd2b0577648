"""Random views: what each option does, and that it does nothing else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cdkd.config import AugmentationConfig
from cdkd.data.augmentation import View, plain_view, sample_view
from cdkd.data.crops import warp_points
from cdkd.data.streams import generator
from cdkd.instances import PersonInstance
from cdkd.keypoints import KEYPOINT_SETS

COCO = KEYPOINT_SETS["coco17"]
STILL = AugmentationConfig(0.0, 0.0, 0.0, 0.0, 0.0)


def person(visible: range | list[int] = range(17)) -> PersonInstance:
    """Upper body at x = 100..110, lower body at y = 300..305."""
    keypoints = np.array([[100 + index, 40 + index] if index < 11 else [90, 289 + index] for index in range(17)])
    visibility = np.array([2 if index in visible else 0 for index in range(17)])
    return PersonInstance(Path("a.png"), 1, 1, (80.0, 40.0, 50.0, 280.0), 1.0, keypoints.astype(np.float32), visibility)


def views(config: AugmentationConfig, instance: PersonInstance | None = None, count: int = 2000) -> list[View]:
    instance = instance or person()
    return [sample_view(instance, config, COCO, 1.25, generator(0, "test", index)) for index in range(count)]


def test_without_augmentation_the_view_is_the_padded_box():
    assert plain_view(person(), 1.25) == View((105.0, 180.0), 280 * 1.25 / 200)
    assert set(views(STILL, count=20)) == {plain_view(person(), 1.25)}


def test_scale_is_normal_and_clipped():
    plain = plain_view(person(), 1.25).scale
    factors = np.array([view.scale for view in views(replace(STILL, scale_factor=0.25))]) / plain
    assert factors.min() == pytest.approx(0.75)
    assert factors.max() == pytest.approx(1.25)
    assert np.mean(np.isclose(factors, 1.25)) == pytest.approx(0.159, abs=0.03)
    assert np.mean(factors) == pytest.approx(1, abs=0.01)


def test_rotation_is_normal_clipped_at_two_spreads_and_applied_with_its_probability():
    degrees = np.array(
        [view.rotation_degrees for view in views(replace(STILL, rotation_degrees=30.0, rotation_probability=0.6))]
    )
    assert np.mean(degrees != 0) == pytest.approx(0.6, abs=0.04)
    assert abs(degrees).max() == pytest.approx(60)
    assert degrees[degrees != 0].std() == pytest.approx(30, rel=0.1)


def test_flip_probability():
    assert np.mean([view.is_flipped for view in views(replace(STILL, flip_probability=0.5))]) == pytest.approx(
        0.5, abs=0.04
    )


def test_half_body_chooses_the_upper_body_in_69_percent_of_cases():
    """P(N(0, 1) < 0.5) = 0.691: the quirk of the released recipe."""
    drawn = views(replace(STILL, half_body_probability=1.0))
    upper = View((105.0, 45.0), pytest.approx(10 * 1.5 / 200))
    is_upper = [view.center == pytest.approx(upper.center) for view in drawn]
    assert np.mean(is_upper) == pytest.approx(0.691, abs=0.03)
    for view, chosen in zip(drawn, is_upper):
        assert view.center == pytest.approx((105, 45) if chosen else (90, 302.5))
        assert view.scale == pytest.approx((10 if chosen else 5) * 1.5 / 200)


def test_half_body_needs_more_than_eight_keypoints():
    config = replace(STILL, half_body_probability=1.0)
    assert set(views(config, person(range(8)), 20)) == {plain_view(person(), 1.25)}
    assert plain_view(person(), 1.25) not in views(config, person(range(9)), 20)


def test_half_body_takes_the_upper_body_where_the_lower_is_hardly_labelled():
    config = replace(STILL, half_body_probability=1.0)
    centers = {view.center for view in views(config, person([*range(11), 15, 16]), 50)}
    assert centers == {(105.0, 45.0)}


def test_half_body_probability():
    config = replace(STILL, half_body_probability=0.3)
    kept = np.mean([view == plain_view(person(), 1.25) for view in views(config)])
    assert kept == pytest.approx(0.7, abs=0.04)


def test_an_option_leaves_the_others_as_they_were():
    everything = AugmentationConfig(0.0, 0.25, 30.0, 0.6, 0.5)
    full = views(everything, count=50)
    assert [view.is_flipped for view in full] == [
        view.is_flipped for view in views(replace(everything, scale_factor=0.0, rotation_degrees=0.0), count=50)
    ]
    assert [view.rotation_degrees for view in full] == [
        view.rotation_degrees for view in views(replace(everything, flip_probability=0.0, scale_factor=0), count=50)
    ]


def test_the_map_of_a_view_puts_its_centre_in_the_middle():
    view = View((12.0, 50.0), 0.3, 33.0, True)
    assert warp_points([12, 50], view.affine(64)) == pytest.approx([32, 32])
