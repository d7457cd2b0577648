"""Rescoring and OKS suppression against loops over their definitions."""

import numpy as np
import pytest

from cdkd.evaluation.suppression import box_areas, person_scores, suppress
from cdkd.keypoints import KEYPOINT_SETS

SIGMAS = KEYPOINT_SETS["coco17"].sigmas


def oks_of_two(a, b, area_a, area_b):
    squared = ((a - b) ** 2).sum(axis=1)
    return np.mean(np.exp(-squared / (2 * np.array(SIGMAS)) ** 2 / ((area_a + area_b) / 2 + np.spacing(1)) / 2))


def slow_suppress(images, points, scores, areas, threshold):
    """Take the surest, drop what is too similar to it, go on with the rest."""
    kept = np.zeros(len(points), dtype=bool)
    for image in set(images):
        waiting = sorted((row for row in range(len(points)) if images[row] == image), key=lambda row: -scores[row])
        while waiting:
            best = waiting.pop(0)
            kept[best] = True
            waiting = [
                row for row in waiting if oks_of_two(points[best], points[row], areas[best], areas[row]) <= threshold
            ]
    return kept


def crowd(seed, count=60):
    """Predictions of a few persons in three images, most of them several times and about as alike as 0.9."""
    rng = np.random.default_rng(seed)
    people = rng.uniform(0, 100, (5, 17, 2))
    points = people[rng.integers(0, 5, count)] + rng.normal(0, 2.0, (count, 17, 2))
    return rng.integers(0, 3, count).tolist(), points, rng.random(count), rng.uniform(2000, 12000, count)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("threshold", "digits"), [(0.8, 9), (0.9, 9), (0.9, 1)])
def test_suppression_agrees_with_a_loop_also_where_scores_are_equal(seed, threshold, digits):
    images, points, scores, areas = crowd(seed)
    scores = scores.round(digits)
    kept = suppress(images, points, scores, areas, SIGMAS, threshold)
    assert kept.tolist() == slow_suppress(images, points, scores, areas, threshold).tolist()
    assert 10 < kept.sum() < 58


def test_who_is_dropped_drops_nobody():
    """B is too similar to A and C to B, but C not to A: C stays."""
    step = np.sqrt(-2 * np.log(0.93)) * 2 * np.array(SIGMAS) * 100.0  # neighbours: OKS 0.93, ends: 0.93 ** 4
    points = np.stack([np.column_stack([step * place, np.zeros(17)]) for place in range(3)])
    kept = suppress(["a"] * 3, points, [0.9, 0.8, 0.7], [1e4] * 3, SIGMAS, 0.9)
    assert kept.tolist() == [True, False, True]
    assert suppress(["a"] * 3, points, [0.7, 0.9, 0.8], [1e4] * 3, SIGMAS, 0.9).tolist() == [False, True, False]


def test_equal_predictions_of_equal_scores_leave_the_first_and_other_images_are_left_alone():
    kept = suppress([1, 2] * 150, np.zeros((300, 17, 2)), [0.5] * 300, [100.0] * 300, SIGMAS, 0.9)
    assert kept.tolist() == [True, True] + [False] * 298


def test_at_a_threshold_of_one_and_of_nobody_nothing_is_dropped():
    assert suppress([1, 1], np.zeros((2, 17, 2)), [0.5, 0.4], [100.0] * 2, SIGMAS, 1.0).all()
    assert suppress([], np.zeros((0, 17, 2)), [], [], SIGMAS, 0.9).shape == (0,)


def test_an_area_is_that_of_the_padded_square():
    assert box_areas([(5, 5, 40, 20), (0, 0, 10, 30)], 1.25).tolist() == [2500.0, 37.5**2]
    assert box_areas([], 1.25).shape == (0,)


def test_a_persons_score_is_the_mean_keypoint_score_above_the_threshold_times_the_boxs():
    keypoints = [[0.02, 0.5, 0.7], [0.0, 0.01, 0.02], [1.0, 1.0, 1.0]]
    assert person_scores(keypoints, [1.0, 1.0, 0.3], 0.02).tolist() == pytest.approx([0.6, 0.0, 0.3])
    assert person_scores(keypoints, [0.5, 1.0, 1.0], 0.5).tolist() == pytest.approx([0.35, 0.0, 1.0])
