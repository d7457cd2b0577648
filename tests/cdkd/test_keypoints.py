"""Keypoint sets against the facts of the data sets they describe."""

from dataclasses import replace

import pytest

from cdkd import config
from cdkd.keypoints import KEYPOINT_SETS, KeypointSet

SETS = list(KEYPOINT_SETS.values())


def test_every_set_a_configuration_may_name_exists():
    assert tuple(KEYPOINT_SETS) == config.KEYPOINT_SETS
    assert {name: keypoint_set.count for name, keypoint_set in KEYPOINT_SETS.items()} == {
        "coco17": 17,
        "mpii16": 16,
        "crowdpose14": 14,
        "lsp14": 14,
    }


@pytest.mark.parametrize("keypoint_set", SETS, ids=lambda one: one.name)
def test_flipping_exchanges_exactly_left_and_right(keypoint_set: KeypointSet):
    for index, other in enumerate(keypoint_set.flip_permutation):
        name = keypoint_set.names[index]
        mirrored = {"left": "right", "right": "left"}.get(name.split("_")[0])
        expected = name if mirrored is None else f"{mirrored}_{name.split('_', 1)[1]}"
        assert keypoint_set.names[other] == expected


@pytest.mark.parametrize("keypoint_set", SETS, ids=lambda one: one.name)
def test_the_skeleton_joins_all_keypoints_and_is_symmetric(keypoint_set: KeypointSet):
    limbs = {frozenset(limb) for limb in keypoint_set.skeleton}
    order = keypoint_set.flip_permutation
    assert {frozenset(order[index] for index in limb) for limb in limbs} == limbs
    joined = {0}
    for _ in range(keypoint_set.count):
        joined |= {index for limb in limbs if limb & joined for index in limb}
    assert joined == set(range(keypoint_set.count))


@pytest.mark.parametrize(
    ("name", "flip_pairs"),
    [
        ("coco17", ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16))),
        ("mpii16", ((0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13))),
        ("crowdpose14", ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 11))),
        ("lsp14", ((0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9))),
    ],
)
def test_flip_pairs_are_those_of_the_data_set(name: str, flip_pairs: tuple[tuple[int, int], ...]):
    assert KEYPOINT_SETS[name].flip_pairs == flip_pairs


def test_coco_sigmas_are_the_official_ones():
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    assert KEYPOINT_SETS["coco17"].sigmas == pytest.approx(cocoeval.Params("keypoints").kpt_oks_sigmas)


def test_crowdpose_sigmas_are_the_official_ones():
    tenths = (0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89, 0.79, 0.79)
    assert KEYPOINT_SETS["crowdpose14"].sigmas == pytest.approx([tenth / 10 for tenth in tenths])


@pytest.mark.parametrize(
    ("name", "head", "torso"),
    [
        ("coco17", None, ("left_shoulder", "right_hip")),
        ("mpii16", ("upper_neck", "head_top"), ("left_shoulder", "right_hip")),
        ("crowdpose14", ("neck", "head"), ("left_shoulder", "right_hip")),
        ("lsp14", ("neck", "head_top"), ("left_shoulder", "right_hip")),
    ],
)
def test_normalising_segments(name: str, head: tuple[str, str] | None, torso: tuple[str, str]):
    keypoint_set = KEYPOINT_SETS[name]
    named = [
        segment and tuple(keypoint_set.names[index] for index in segment)
        for segment in (keypoint_set.head_segment, keypoint_set.torso)
    ]
    assert named == [head, torso]


def test_the_upper_body_is_all_but_legs_and_pelvis():
    assert KEYPOINT_SETS["coco17"].upper_body == tuple(range(11))
    assert KEYPOINT_SETS["mpii16"].upper_body == tuple(range(7, 16))
    assert KEYPOINT_SETS["crowdpose14"].upper_body == (0, 1, 2, 3, 4, 5, 12, 13)
    assert KEYPOINT_SETS["lsp14"].upper_body == tuple(range(6, 14))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigmas": (0.1,) * 13}, "needs 14 positive sigmas"),
        ({"sigmas": (0.1,) * 13 + (0.0,)}, "needs 14 positive sigmas"),
        ({"flip_pairs": ((0, 1), (1, 2))}, "two flip pairs"),
        ({"skeleton": ((0, 14),)}, r"outside 0\.\.13"),
        ({"head_segment": (-1, 3)}, r"outside 0\.\.13"),
    ],
)
def test_a_contradictory_set_is_refused(change: dict, message: str):
    with pytest.raises(ValueError, match=message):
        replace(KEYPOINT_SETS["lsp14"], **change)


def test_printed_groups_join_left_and_right():
    assert KEYPOINT_SETS["mpii16"].groups == {
        "head": (9,), "shoulder": (12, 13), "elbow": (11, 14), "wrist": (10, 15), "hip": (2, 3), "knee": (1, 4),
        "ankle": (0, 5),
    }  # fmt: skip
    assert KEYPOINT_SETS["crowdpose14"].groups["head"] == (12,)
    assert "head" not in KEYPOINT_SETS["coco17"].groups
