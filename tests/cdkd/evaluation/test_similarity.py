"""OKS against its definition, written as a loop."""

import numpy as np
import pytest

from cdkd.evaluation.similarity import mean_similarity, truth_similarity, variances_of
from cdkd.keypoints import KEYPOINT_SETS

SIGMAS = KEYPOINT_SETS["coco17"].sigmas


def slow_oks(points: np.ndarray, truth: np.ndarray, area: float) -> float:
    terms = []
    for keypoint in range(17):
        if truth[keypoint, 2] > 0:
            squared = float(((points[keypoint] - truth[keypoint, :2]) ** 2).sum())
            terms.append(np.exp(-squared / (2 * area * (2 * SIGMAS[keypoint]) ** 2)))
    return float(np.mean(terms))


def test_similarity_is_the_mean_over_labelled_keypoints_of_the_definition():
    rng = np.random.default_rng(0)
    truth = np.concatenate([rng.uniform(0, 100, (6, 17, 2)), rng.integers(0, 3, (6, 17, 1))], axis=2)
    truth[0, :, 2], truth[1, 1:, 2], truth[1, 0, 2] = 2, 0, 1
    points = truth[..., :2] + rng.normal(0, 5, (6, 17, 2))
    areas = rng.uniform(500, 9000, 6)
    first, second = np.repeat(np.arange(6), 6), np.tile(np.arange(6), 6)
    values = truth_similarity(points, truth, np.zeros((6, 4)), areas, SIGMAS, (first, second))
    expected = [slow_oks(points[a], truth[b], areas[b]) for a, b in zip(first, second)]
    assert values.tolist() == pytest.approx(expected, abs=1e-12)
    assert 0.05 < values.max() < 1


def test_a_region_is_as_similar_as_the_keypoints_are_near_to_its_box_enlarged_by_its_own_size():
    truth, boxes = np.zeros((1, 17, 3)), np.array([[10.0, 20.0, 5.0, 8.0]])  # enlarged: x 5..20, y 12..36
    inside, outside = np.full((17, 2), 15.0), np.full((17, 2), 15.0)
    inside[:2], outside[:4] = (5.0, 12.0), [(2.0, 15.0), (24.0, 15.0), (15.0, 10.0), (15.0, 42.0)]
    values = truth_similarity(
        np.stack([inside, outside]), truth, boxes, np.array([300.0]), SIGMAS, (np.array([0, 1]), np.array([0, 0]))
    )
    beyond = np.array([3.0, 4.0, 2.0, 6.0] + [0.0] * 13)
    expected = np.mean(np.exp(-(beyond**2) / (2 * 300.0 * (2 * np.array(SIGMAS)) ** 2)))
    assert values.tolist() == pytest.approx([1.0, expected], abs=1e-12)


def test_at_one_standard_deviation_similarity_is_exp_of_minus_a_half():
    squared = variances_of(SIGMAS)[None] * 400.0
    assert mean_similarity(squared, variances_of(SIGMAS), np.array([400.0]))[0] == pytest.approx(np.exp(-0.5))


def test_a_person_without_area_is_like_nobody_else_but_herself():
    values = mean_similarity(np.array([[0.0, 0.0], [1e-6, 0.0]]), np.ones(2), np.zeros(2))
    assert values.tolist() == [1.0, 0.5]
