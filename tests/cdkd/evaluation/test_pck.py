"""PCK and PCKh against slow loops and MPII's own numbers."""

import json
from pathlib import Path

import numpy as np
import pytest

from cdkd.evaluation.pck import KeypointCounts, mpii_pckh, pck, pckh, segment_length, summary
from cdkd.keypoints import KEYPOINT_SETS

GOLDEN = Path(__file__).parents[4] / "shared" / "data" / "golden" / "mpii"


def people(count: int = 40, keypoints: int = 14, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Predictions, truth, visibility and normalisers; some keypoints and some persons do not count."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 100, (count, keypoints, 2))
    predictions = truth + rng.normal(0, 6, truth.shape)
    visibility = rng.integers(0, 3, (count, keypoints))
    normaliser = rng.uniform(5, 30, count)
    normaliser[[3, 7]], normaliser[5] = np.nan, 0.0
    return predictions, truth, visibility, normaliser


def test_pck_agrees_with_a_loop_over_persons_and_keypoints():
    predictions, truth, visibility, normaliser = people()
    correct, counted = np.zeros(14, int), np.zeros(14, int)
    for person in range(len(truth)):
        if not normaliser[person] > 0:
            continue
        for keypoint in range(14):
            if visibility[person, keypoint] == 0:
                continue
            offset = predictions[person, keypoint] - truth[person, keypoint]
            counted[keypoint] += 1
            correct[keypoint] += int((offset**2).sum() ** 0.5 <= 0.5 * normaliser[person])
    counts = pck(predictions, truth, visibility, normaliser, 0.5)
    assert counts.correct.tolist() == correct.tolist()
    assert counts.counted.tolist() == counted.tolist()
    assert 0 < counts.correct.sum() < counts.counted.sum()
    assert counts.left_out == 3


def test_a_distance_equal_to_the_threshold_is_correct_and_a_larger_one_is_not():
    truth = np.zeros((1, 2, 2))
    predictions = np.array([[[3.0, 4.0], [3.0, 4.001]]])
    counts = pckh(predictions, truth, np.ones((1, 2)), [10.0], 0.5)
    assert counts.correct.tolist() == [1, 0]


def test_overall_is_the_mean_over_keypoints_weighted_by_how_often_they_are_labelled():
    counts = pck(*people(), 0.5)
    weighted = np.nansum(counts.per_keypoint() * counts.counted) / counts.counted.sum()
    assert counts.overall() == pytest.approx(weighted, abs=1e-12)
    kept = [index for index in range(14) if index not in (6, 7)]
    assert counts.overall((6, 7)) == pytest.approx(counts.correct[kept].sum() / counts.counted[kept].sum())
    assert counts.overall((6, 7)) != counts.overall()


def test_unlabelled_keypoints_may_hold_anything_and_never_count():
    predictions, truth, visibility, normaliser = people()
    before = pck(predictions, truth, visibility, normaliser, 0.5)
    predictions[visibility == 0], truth[visibility == 0] = np.nan, np.inf
    after = pck(predictions, truth, visibility, normaliser, 0.5)
    assert after.correct.tolist() == before.correct.tolist()
    assert after.counted.tolist() == before.counted.tolist()


@pytest.mark.parametrize("name", ["prediction", "truth"])
def test_a_labelled_keypoint_that_is_not_finite_is_refused(name):
    predictions, truth, visibility, normaliser = people()
    visibility[2, 4] = 1
    (predictions if name == "prediction" else truth)[2, 4, 1] = np.nan
    with pytest.raises(ValueError, match=f"the {name} of labelled keypoint 4 of person 2 is not finite"):
        pck(predictions, truth, visibility, normaliser, 0.5)


def counts_of(correct: dict[str, tuple[int, int]], names: tuple[str, ...]) -> KeypointCounts:
    """Ten of ten for every keypoint, but those named."""
    pairs = np.array([correct.get(name, (10, 10)) for name in names])
    return KeypointCounts(pairs[:, 0], pairs[:, 1], 0)


@pytest.mark.parametrize("name", sorted(KEYPOINT_SETS))
def test_every_set_has_the_tables_columns_but_coco_no_head(name):
    names = KEYPOINT_SETS[name].names
    groups = {"head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"} - ({"head"} if name == "coco17" else set())
    assert summary(counts_of({}, names), names).keys() == {*names, *groups, "mean", "unweighted"}


def test_a_column_is_the_plain_mean_of_left_and_right_and_the_head_is_its_top():
    names = KEYPOINT_SETS["lsp14"].names
    values = summary(counts_of({"left_knee": (1, 2), "right_knee": (2, 10), "head_top": (3, 10)}, names), names)
    assert values["knee"] == pytest.approx((0.5 + 0.2) / 2)
    assert values["head"] == values["head_top"] == pytest.approx(0.3)
    assert values["ankle"] == 1.0


def test_both_means_leave_out_pelvis_and_thorax_and_only_one_weighs_by_labels():
    names = KEYPOINT_SETS["mpii16"].names
    counts = counts_of({"pelvis": (0, 10), "thorax": (0, 10), "left_knee": (1, 2)}, names)
    values = summary(counts, names)
    assert values["mean"] == pytest.approx(131 / 132)
    assert values["unweighted"] == pytest.approx(13.5 / 14)


def test_what_nobody_has_labelled_is_absent_and_its_column_is_the_other_side():
    names = KEYPOINT_SETS["lsp14"].names
    values = summary(counts_of({"left_knee": (0, 0), "right_knee": (1, 2), "head_top": (0, 0)}, names), names)
    assert not {"left_knee", "head_top", "head"} & values.keys()
    assert values["knee"] == 0.5
    assert values["unweighted"] == pytest.approx(11.5 / 12)


def test_nobody_gives_no_counts_and_a_nan_score():
    counts = pck(np.zeros((0, 14, 2)), np.zeros((0, 14, 2)), np.zeros((0, 14)), np.zeros(0), 0.5)
    assert counts.counted.tolist() == [0] * 14
    assert counts.left_out == 0
    assert np.isnan(counts.overall())
    assert np.isnan(counts.per_keypoint()).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [(0, "must both be"), (2, "visibility must be"), (3, "one normaliser a person")],
)
def test_arrays_that_do_not_fit_are_refused(changed, message):
    arrays = list(people())
    arrays[changed] = arrays[changed][:-1]
    with pytest.raises(ValueError, match=message):
        pck(*arrays, 0.5)


def test_a_segment_has_no_length_where_one_end_is_not_labelled():
    truth = np.array([[[0.0, 0.0], [3.0, 4.0]], [[0.0, 0.0], [3.0, 4.0]]])
    length = segment_length(truth, [[1, 2], [2, 0]], (0, 1))
    assert length[0] == 5.0
    assert np.isnan(length[1])


@pytest.fixture(scope="module")
def mpii() -> dict[str, np.ndarray]:
    """MPII's validation truth and one published prediction set, persons first."""
    if not GOLDEN.is_dir():
        pytest.skip(f"real data is not at hand: {GOLDEN} does not exist")
    io = pytest.importorskip("scipy.io")
    truth = io.loadmat(GOLDEN / "gt_valid.mat")
    with np.load(GOLDEN / "hg_s2_b1_predictions.npz") as file:
        predictions = file["pred"]
    return {
        "predictions": predictions,
        "truth": truth["pos_gt_src"].transpose(2, 0, 1),
        "missing": truth["jnt_missing"].T,
        "head_boxes": truth["headboxes_src"].transpose(2, 0, 1),
    }


@pytest.mark.parametrize("threshold", [0.5, 0.1])
def test_mpii_pckh_gives_the_golden_numbers_to_the_digit(mpii, threshold):
    golden = json.loads((GOLDEN / "expected.json").read_text())[f"pckh_{threshold}"]
    values = mpii_pckh(**mpii, threshold=threshold)
    expected = {name: value for name, value in golden.items() if not name.startswith("mean")}
    expected["mean"] = golden["mean_weighted_by_visible"]
    expected["unweighted"] = golden["mean_unweighted14"]
    assert {name: round(100 * values[name], 4) for name in expected} == expected


def test_mpiis_threshold_of_eleven_hundredths_lies_above_that_of_ten(mpii):
    at_10, at_11 = (mpii_pckh(**mpii, threshold=threshold)["mean"] for threshold in (0.1, 0.11))
    assert 0.01 < at_11 - at_10 < 0.05


def test_mpii_pckh_refuses_another_number_of_keypoints():
    with pytest.raises(ValueError, match="16 keypoints"):
        mpii_pckh(np.zeros((1, 14, 2)), np.zeros((1, 14, 2)), np.zeros((1, 14)), np.zeros((1, 2, 2)), 0.5)
