"""Bodies, postures and kinematics."""

import numpy as np
import pytest

from cdkd.data.synthetic_figure import (
    ARM_STYLES,
    POSTURES,
    Arm,
    Leg,
    Pose,
    assemble,
    rotation_y,
    sample_body,
    sample_figure,
)


def straight(**changes) -> Pose:
    """A pose with every angle zero, but for the changes."""
    arms = {side: Arm(0, 0, 0, 0) for side in ("left", "right")}
    legs = {side: Leg(0, 0, 0, 0, 0) for side in ("left", "right")}
    return Pose(**{"lean": 0, "side_lean": 0, "twist": 0, "head": (0, 0, 0), "arms": arms, "legs": legs, **changes})


@pytest.fixture
def body():
    return sample_body(np.random.default_rng(0))


def test_limbs_keep_their_lengths_in_every_posture():
    for seed in range(60):
        figure = sample_figure(np.random.default_rng(seed))
        body, joints = figure.body, figure.joints
        for side in ("left", "right"):
            for first, second, length in (
                ("shoulder", "elbow", body.upper_arm),
                ("elbow", "wrist", body.forearm),
                ("hip", "knee", body.thigh),
                ("knee", "ankle", body.shank),
            ):
                distance = np.linalg.norm(joints[f"{side}_{first}"] - joints[f"{side}_{second}"])
                assert distance == pytest.approx(length, abs=1e-9)


def test_a_standing_body_is_about_one_unit_high(body):
    heights = [point[1] for point in assemble(body, straight(), np.eye(3)).joints.values()]
    assert max(heights) - min(heights) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(("yaw", "sign"), [(0, 1), (180, -1)])
def test_the_left_side_is_at_the_images_right_seen_from_the_front_and_left_from_behind(body, yaw, sign):
    joints = assemble(body, straight(), rotation_y(yaw)).joints
    for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"):
        assert sign * (joints[f"left_{joint}"][0] - joints[f"right_{joint}"][0]) > 0.05


def test_knees_bend_backward_and_elbows_forward(body):
    arms = {side: Arm(0, 0, 0, 90) for side in ("left", "right")}
    legs = {side: Leg(0, 0, 0, 90, 0) for side in ("left", "right")}
    joints = assemble(body, straight(arms=arms, legs=legs), np.eye(3)).joints
    for side in ("left", "right"):
        assert joints[f"{side}_wrist"][2] - joints[f"{side}_elbow"][2] == pytest.approx(body.forearm)
        assert joints[f"{side}_ankle"][2] - joints[f"{side}_knee"][2] == pytest.approx(-body.shank)


def test_lean_bends_forward_and_abduction_spreads_to_the_limbs_own_side(body):
    arms = {side: Arm(0, 90, 0, 0) for side in ("left", "right")}
    joints = assemble(body, straight(lean=60, arms=arms), np.eye(3)).joints
    assert joints["thorax"][2] > 0.1
    assert joints["left_elbow"][0] - joints["left_shoulder"][0] == pytest.approx(body.upper_arm)
    assert joints["right_elbow"][0] - joints["right_shoulder"][0] == pytest.approx(-body.upper_arm)


@pytest.mark.parametrize("styles", [POSTURES, ARM_STYLES])
def test_chances_add_up_to_one(styles):
    assert sum(chance for chance, _ in styles) == pytest.approx(1.0)


@pytest.mark.parametrize("posture", [posture for _, posture in POSTURES])
def test_every_posture_can_be_assembled(posture, body):
    figure = assemble(body, posture(np.random.default_rng(0)), np.eye(3))
    assert np.isfinite(np.stack(list(figure.joints.values()))).all()


def test_every_frame_is_a_rotation():
    figure = sample_figure(np.random.default_rng(1))
    for frame in figure.frames.values():
        assert np.allclose(frame @ frame.T, np.eye(3))
        assert np.linalg.det(frame) == pytest.approx(1.0)
