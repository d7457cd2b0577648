"""Predictions fit the persons they are of, or are refused."""

import numpy as np
import pytest

from cdkd.evaluation.predictions import Predictions
from cdkd.keypoints import KEYPOINT_SETS

MPII = KEYPOINT_SETS["mpii16"]


def test_predictions_of_as_many_persons_and_keypoints_are_accepted(make_person):
    Predictions(np.zeros((2, 16, 2)), np.zeros((2, 16))).require_of([make_person("mpii16")] * 2, MPII)


@pytest.mark.parametrize(("points", "scores"), [((1, 16, 2), (2, 16)), ((2, 14, 2), (2, 16)), ((2, 16, 2), (2, 14))])
def test_predictions_of_another_number_are_refused(make_person, points, scores):
    with pytest.raises(ValueError, match="2 persons of keypoint set mpii16 need predictions"):
        Predictions(np.zeros(points), np.zeros(scores)).require_of([make_person("mpii16")] * 2, MPII)


@pytest.mark.parametrize("name", ["keypoints_image", "scores"])
def test_a_value_that_is_not_finite_is_refused(make_person, name):
    predictions = Predictions(np.zeros((1, 16, 2)), np.zeros((1, 16)))
    getattr(predictions, name)[0, 3] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        predictions.require_of([make_person("mpii16")], MPII)
