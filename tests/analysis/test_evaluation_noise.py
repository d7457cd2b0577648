"""Scores per person against COCO's evaluation, by hand, and against SciPy's bootstrap."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy import stats

from analysis.evaluation_noise import (
    OKS_THRESHOLDS,
    Instances,
    InstancesError,
    PairedImages,
    average_precision,
    correct_part,
    instances_file,
    read_instances,
    score_of,
)

SIGMA, AREA = 0.1, 10_000.0


def instances(seed: int = 0, *, images: int = 40, quality: float = 0.75, per_image: int = 3) -> Instances:
    rng = np.random.default_rng(seed)
    count = images * per_image
    return Instances.of(
        {
            "image_id": np.repeat(np.arange(images), per_image),
            "annotation_id": np.arange(count),
            "score": rng.random(count),
            "oks": np.clip(rng.normal(quality, 0.2, count), 0.01, 1.0),
            "counted": rng.integers(5, 17, count),
            "correct@0.5": rng.integers(0, 5, count),
            "correct@0.1": rng.integers(0, 3, count),
        }
    )


def ones(found: Instances) -> np.ndarray:
    return np.ones((1, len(found.oks)))


def by_coco(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """pycocotools' statistics of one person an image whose only keypoint is off by what gives it this OKS."""
    off = np.sqrt(-2 * AREA * (2 * SIGMA) ** 2 * np.log(arrays["oks"]))
    ids = range(1, len(off) + 1)
    truth = {
        "images": [{"id": one} for one in ids],
        "categories": [{"id": 1, "name": "person", "keypoints": ["nose"]}],
        "annotations": [
            {"id": one, "image_id": one, "category_id": 1, "keypoints": [500, 500, 2], "num_keypoints": 1, "iscrowd": 0,
             "area": AREA, "bbox": [450, 450, 100, 100]} for one in ids
        ],
    }  # fmt: skip
    results = [
        {"image_id": one, "category_id": 1, "keypoints": [500 + x, 500, 1], "score": score}
        for one, x, score in zip(ids, off.tolist(), arrays["score"].tolist())
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array([SIGMA])
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize("count", [1, 7, 100])
def test_average_precision_agrees_with_pycocotools(count: int) -> None:
    rng = np.random.default_rng(count)
    arrays = {
        "image_id": np.arange(1, count + 1),
        "annotation_id": np.arange(count),
        "score": rng.random(count),
        "oks": rng.uniform(0.3, 0.999, count),
        "counted": np.ones(count),
    }
    found, expected = Instances.of(arrays), by_coco(arrays)
    scores = [float(score_of(metric)(found, ones(found))[0]) for metric in ("ap", "ap50", "ap75")]
    assert scores == pytest.approx(list(expected[:3]), abs=1e-9)


def test_average_precision_by_hand() -> None:
    # Ranked: right, wrong, right of three persons: precision 1 up to recall 1/3 (34 of 101 points), 2/3 up to 2/3 (33).
    arrays = {name: np.arange(3) for name in ("image_id", "annotation_id")}
    found = Instances.of(
        arrays | {"score": np.array([3, 1, 2]), "oks": np.array([0.9, 0.8, 0.1]), "counted": np.ones(3)}
    )
    assert average_precision(found, ones(found), (0.5,))[0] == pytest.approx((34 + 33 * 2 / 3) / 101)


def test_a_person_that_counts_twice_is_two_persons() -> None:
    found = instances()
    weights = np.random.default_rng(3).integers(0, 4, (5, len(found.oks))).astype(float)
    for row, score in zip(weights, average_precision(found, weights, OKS_THRESHOLDS)):
        index = np.repeat(np.arange(len(row)), row.astype(int))
        names = ("image_id", "annotation_id", "oks", "counted")
        twice = {name: getattr(found, name)[index] for name in names} | {"score": -index.astype(float)}
        alone = Instances.of(twice)
        assert score == pytest.approx(average_precision(alone, ones(alone), OKS_THRESHOLDS)[0], abs=1e-12)


def test_a_person_without_labels_counts_neither_as_person_nor_as_mistake() -> None:
    found = instances()
    masked = Instances(
        found.image_id, found.annotation_id, np.where(np.arange(120) < 60, np.nan, found.oks), found.counted, {}
    )
    rest = Instances.of(
        {
            "image_id": found.image_id[60:],
            "annotation_id": found.annotation_id[60:],
            "score": -np.arange(60.0),
            "oks": found.oks[60:],
            "counted": found.counted[60:],
        }
    )
    expected = average_precision(rest, ones(rest), OKS_THRESHOLDS)[0]
    assert average_precision(masked, ones(masked), OKS_THRESHOLDS)[0] == pytest.approx(expected)
    nobody = Instances(found.image_id, found.annotation_id, np.full(120, np.nan), found.counted, {})
    assert np.isnan(average_precision(nobody, ones(nobody), OKS_THRESHOLDS)[0])


def test_pckh_is_right_keypoints_over_labelled_ones() -> None:
    found = instances()
    weights = np.array([np.ones(120), np.arange(120) == 7])
    expected = [found.correct["0.5"].sum() / found.counted.sum(), found.correct["0.5"][7] / found.counted[7]]
    assert correct_part(found, weights, "0.5") == pytest.approx(expected)
    assert score_of("pckh@0.1")(found, weights)[1] == found.correct["0.1"][7] / found.counted[7]


@pytest.mark.parametrize("metric", ["ap", "pckh@0.5"])
def test_the_same_network_differs_from_itself_by_nothing(metric: str) -> None:
    found = PairedImages(resamples=30)(instances(), instances(), metric)
    assert (found.difference, found.low, found.high) == (0.0, 0.0, 0.0)
    assert (found.images, found.persons) == (40, 120)


def test_the_interval_agrees_with_scipys_paired_bootstrap() -> None:
    """With one person an image and equal counts a difference of PCKh is a mean of differences."""
    rng = np.random.default_rng(5)
    count = 60
    one, other = (
        Instances.of(
            {name: np.arange(count) for name in ("image_id", "annotation_id", "score")}
            | {"oks": np.ones(count), "counted": np.full(count, 10), "correct@0.5": rng.integers(0, 11, count)}
        )
        for _ in range(2)
    )
    differences = (one.correct["0.5"] - other.correct["0.5"]) / 10
    expected = stats.bootstrap((differences,), np.mean, n_resamples=20_000, method="percentile", rng=rng)
    found = PairedImages(resamples=20_000)(one, other, "pckh@0.5")
    interval = expected.confidence_interval
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=0.004)
    assert found.difference == pytest.approx(differences.mean())


def test_persons_of_one_image_are_drawn_together() -> None:
    """Five equal persons an image carry no more than one: the interval is that of single persons."""
    rng = np.random.default_rng(6)
    right = rng.integers(0, 11, 50)

    def network(correct: np.ndarray, copies: int) -> Instances:
        total = len(correct) * copies
        return Instances.of(
            {"image_id": np.repeat(np.arange(len(correct)), copies), "annotation_id": np.arange(total),
             "score": np.zeros(total), "oks": np.ones(total), "counted": np.full(total, 10),
             "correct@0.5": np.repeat(correct, copies)}
        )  # fmt: skip

    single, fivefold = (
        PairedImages()(network(right, copies), network(np.full(50, 5), copies), "pckh@0.5") for copies in (1, 5)
    )
    assert (fivefold.low, fivefold.high) == pytest.approx((single.low, single.high))
    assert fivefold.persons == 5 * single.persons


def test_networks_scored_on_different_persons_are_refused() -> None:
    with pytest.raises(InstancesError, match="different persons: 120 and 117, 117 in both"):
        PairedImages()(instances(), instances(images=39), "ap")


@pytest.mark.parametrize("metric", ["ar", "pck@0.2", "pckh@0.5/head", "pckh@0.11"])
def test_metrics_that_the_file_cannot_tell_are_refused(metric: str) -> None:
    with pytest.raises(InstancesError, match=r"evaluation noise is known of ap, ap50, ap75, pckh@0\.5 and"):
        PairedImages()(instances(), instances(), metric)


def saved(**changes: np.ndarray | None) -> io.BytesIO:
    arrays = {name: np.arange(3) for name in ("image_id", "annotation_id", "score", "oks", "counted", "correct@0.5")}
    buffer = io.BytesIO()
    np.savez(buffer, **{name: array for name, array in (arrays | changes).items() if array is not None})
    buffer.seek(0)
    return buffer


def test_a_file_is_read_in_the_order_of_the_scores() -> None:
    found = read_instances(saved(), instances_file("test"))
    assert list(found.annotation_id) == [2, 1, 0]
    assert list(found.correct["0.5"]) == [2, 1, 0]
    with pytest.raises(InstancesError, match=r"correct@0\.1"):
        correct_part(found, ones(found), "0.1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: saved(oks=None), "instances_test.npz: has no array oks"),
        (lambda: saved(oks=np.arange(2)), "must be of one length"),
        (lambda: io.BytesIO(b"no file"), "instances_test.npz"),
        (lambda: saved(score=np.array([{}, {}, {}])), "instances_test.npz: .*allow_pickle=False"),
    ],
)
def test_a_bad_file_is_one_line(content, message: str) -> None:
    with pytest.raises(InstancesError, match=message):
        read_instances(content(), instances_file("test"))
