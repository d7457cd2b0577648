"""The two engines against each other and against pycocotools alone."""

import logging
import sys

import numpy as np
import pytest

from cdkd.evaluation import engines, oks
from cdkd.evaluation.engines import engine, with_faster_coco_eval, with_pycocotools
from cdkd.keypoints import KEYPOINT_SETS

SIGMAS = KEYPOINT_SETS["coco17"].sigmas
EXACT = 1e-12


@pytest.fixture(params=[with_faster_coco_eval, with_pycocotools], ids=["faster_coco_eval", "pycocotools"])
def statistics(request, monkeypatch):
    """`coco_statistics` by one of the engines, as a list."""
    pytest.importorskip("faster_coco_eval" if request.param is with_faster_coco_eval else "pycocotools")
    monkeypatch.setattr(oks, "engine", lambda: request.param)
    return lambda *arguments: list(oks.coco_statistics(*arguments).values())


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("options", [{}, {"ties": True}, {"categories": 2, "ties": True}], ids=str)
def test_both_engines_give_what_pycocotools_gives(statistics, peer, make_world, options, seed):
    layout, results = make_world(seed, **options)
    assert statistics(layout, results, SIGMAS) == pytest.approx(peer(layout, results, SIGMAS), abs=EXACT)


def test_both_engines_use_the_keypoint_sets_own_sigmas(statistics, peer, make_world):
    layout, results = make_world(0, keypoint_count=14)
    for name in ("crowdpose14", "lsp14"):
        sigmas = KEYPOINT_SETS[name].sigmas
        assert statistics(layout, results, sigmas) == pytest.approx(peer(layout, results, sigmas), abs=EXACT)


@pytest.mark.parametrize(
    ("annotations", "results"),
    [
        ("golden/crowdpose/example_coco_val.json", "golden/crowdpose/example_coco_preds.json"),
        ("official_format/coco/test_coco.json", "golden/crowdpose/example_coco_preds.json"),
    ],
)
def test_both_engines_agree_with_pycocotools_on_real_results(statistics, peer, read_shared, annotations, results):
    layout, found = read_shared(annotations), read_shared(results)
    assert statistics(layout, found, SIGMAS) == pytest.approx(peer(layout, found, SIGMAS), abs=EXACT)


@pytest.mark.parametrize(
    "file",
    [
        "coco/annotations/person_keypoints_val2017.json",
        "coco/annotations/person_keypoints_train2017.json",
        "official_format/coco/test_coco.json",
        "official_format/ochuman/test_ochuman.json",
    ],
)
def test_perturbed_real_people_score_as_in_pycocotools(peer, read_shared, file):
    layout, rng = read_shared(file), np.random.default_rng(0)
    keypoint_count = len(layout["categories"][0]["keypoints"])
    sigmas = KEYPOINT_SETS["coco17"].sigmas[:keypoint_count]
    results = []
    for _ in range(2):
        for annotation in layout["annotations"]:
            triples = np.array(annotation["keypoints"], dtype=float).reshape(-1, 3)
            triples[:, :2] += rng.normal(0, 1, (len(triples), 2)) * np.sqrt(annotation["area"]) * rng.uniform(0, 0.2)
            results.append({**annotation, "keypoints": triples.ravel().tolist(), "score": float(rng.random())})
            del results[-1]["bbox"]
            results[-1].pop("segmentation", None)
    ours = list(oks.coco_statistics(layout, results, sigmas).values())
    assert ours == pytest.approx(peer(layout, results, sigmas), abs=EXACT)
    assert 0.05 < ours[0] < 0.99


def test_the_fast_engine_is_chosen_and_pycocotools_without_it(monkeypatch):
    pytest.importorskip("faster_coco_eval")
    engine.cache_clear()
    assert engine() is with_faster_coco_eval
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    engine.cache_clear()
    assert engine() is with_pycocotools
    engine.cache_clear()


def test_without_either_package_one_warning_is_logged_and_there_are_no_statistics(monkeypatch, caplog, make_world):
    for package in ("faster_coco_eval", "pycocotools.cocoeval"):
        monkeypatch.setitem(sys.modules, package, None)
    engine.cache_clear()
    layout, results = make_world(0)
    with caplog.at_level(logging.WARNING):
        assert oks.coco_statistics(layout, results, SIGMAS) == {}
        assert oks.coco_statistics(layout, results, SIGMAS) == {}
    assert [record.message for record in caplog.records] == [
        "no average precision: neither faster-coco-eval nor pycocotools can be imported"
    ]
    engine.cache_clear()


def test_neither_engine_prints(statistics, make_world, capsys):
    statistics(*make_world(0), SIGMAS)
    assert capsys.readouterr() == ("", "")


def test_triples_are_the_keypoints_of_records_in_order():
    records = [{"keypoints": [1, 2, 0, 3, 4, 2]}, {"keypoints": [5.5, 6, 1, 7, 8, 2]}]
    expected = [[[1, 2, 0], [3, 4, 2]], [[5.5, 6, 1], [7, 8, 2]]]
    assert engines.triples(records, 2).tolist() == expected
