"""Articulated human figures in three dimensions: proportions, poses and the joints they give.

A figure stands one unit high. In its own frame x points to the person's left, y up and z forward; the
camera looks along -z, so after the camera's rotation x points to the image's right, y up and z to the
viewer. Angles are in degrees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
SIDES = {"left": 1.0, "right": -1.0}


@dataclass(frozen=True)
class Body:
    """Lengths of a body, in body heights, and two factors on its thickness."""

    shoulder: float
    hip: float
    trunk: float
    neck: float
    head: float
    upper_arm: float
    forearm: float
    thigh: float
    shank: float
    foot: float
    girth: float
    trunk_girth: float
    is_curvy: bool


@dataclass(frozen=True)
class Arm:
    """Angles of an arm; all zero hangs straight down. Positive twist turns a bent elbow's hand outward."""

    flexion: float
    abduction: float
    twist: float
    elbow: float


@dataclass(frozen=True)
class Leg:
    """Angles of a leg; all zero stands straight. The knee bends backward, the ankle lifts the toes."""

    flexion: float
    abduction: float
    turnout: float
    knee: float
    ankle: float


@dataclass(frozen=True)
class Pose:
    """A posture: spine, head (pitch, yaw, roll), limbs by side, and a roll of the whole body in the image."""

    lean: float
    side_lean: float
    twist: float
    head: tuple[float, float, float]
    arms: dict[str, Arm]
    legs: dict[str, Leg]
    tumble: float = 0.0
    is_grounded: bool = True


@dataclass(frozen=True)
class Figure:
    """Where a posed body's joints are, in the camera's frame.

    Attributes:
        body: its proportions.
        joints: position of each joint, body heights (x right, y up, z to the viewer).
        frames: rotation of each part, columns are its left, up and forward directions.
        is_grounded: whether the feet (or the seat) bear on the floor.
    """

    body: Body
    joints: dict[str, Vector]
    frames: dict[str, Matrix]
    is_grounded: bool


def rotation_x(degrees: float) -> Matrix:
    """Rotation about x: turns up towards forward (a nod, for a positive angle)."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]])


def rotation_y(degrees: float) -> Matrix:
    """Rotation about y: turns forward towards the person's left."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])


def rotation_z(degrees: float) -> Matrix:
    """Rotation about z: turns left towards up."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def sample_figure(rng: np.random.Generator) -> Figure:
    """A body of random proportions in a random posture, seen from a random side."""
    body, pose = sample_body(rng), sample_pose(rng)
    yaw = rng.normal(0, 45) if rng.random() < 0.45 else rng.uniform(-180, 180)
    pitch, roll = rng.normal(6, 9), pose.tumble + rng.normal(0, 5)
    return assemble(body, pose, rotation_z(roll) @ rotation_x(pitch) @ rotation_y(yaw))


def sample_body(rng: np.random.Generator) -> Body:
    """Anatomical proportions, each varied by a few percent; some bodies are heavier, some are children's."""
    is_curvy, is_child = bool(rng.random() < 0.5), bool(rng.random() < 0.12)
    spread = rng.normal(1.0, 0.05, size=10)
    girth = float(np.clip(rng.normal(1.0, 0.13), 0.78, 1.4))
    limb = 0.9 if is_child else 1.0
    return Body(
        shoulder=(0.100 if is_curvy else 0.113) * spread[0],
        hip=(0.060 if is_curvy else 0.055) * spread[1],
        trunk=0.292 * spread[2],
        neck=0.052 * spread[3],
        head=0.135 * spread[4] * (1.3 if is_child else 1.0),
        upper_arm=0.165 * spread[5] * limb,
        forearm=0.145 * spread[6] * limb,
        thigh=0.243 * spread[7] * limb,
        shank=0.240 * spread[8] * limb,
        foot=0.125 * spread[9],
        girth=girth,
        trunk_girth=girth * float(rng.normal(1.0, 0.08)),
        is_curvy=is_curvy,
    )


# Arms. Each style is one thing people do with an arm.


def _hanging(rng: np.random.Generator) -> Arm:
    return Arm(rng.normal(0, 12), abs(rng.normal(9, 7)), rng.normal(-25, 20), abs(rng.normal(12, 14)))


def _on_hip(rng: np.random.Generator) -> Arm:
    return Arm(rng.normal(-15, 8), rng.normal(42, 8), rng.normal(-75, 10), rng.normal(95, 12))


def _raised(rng: np.random.Generator) -> Arm:
    if rng.random() < 0.5:
        return Arm(rng.normal(165, 15), rng.normal(5, 12), rng.normal(0, 30), abs(rng.normal(15, 25)))
    return Arm(rng.normal(0, 12), rng.uniform(110, 178), rng.normal(0, 40), abs(rng.normal(20, 30)))


def _sideways(rng: np.random.Generator) -> Arm:
    return Arm(rng.normal(0, 20), rng.normal(88, 15), rng.normal(0, 60), abs(rng.normal(15, 25)))


def _forward(rng: np.random.Generator) -> Arm:
    return Arm(rng.normal(80, 18), rng.normal(0, 14), rng.normal(0, 30), abs(rng.normal(20, 25)))


def _at_chest(rng: np.random.Generator) -> Arm:
    return Arm(rng.normal(28, 15), rng.normal(12, 8), rng.normal(-40, 20), rng.normal(110, 18))


def _at_head(rng: np.random.Generator) -> Arm:
    return Arm(rng.normal(75, 20), rng.normal(35, 20), rng.normal(-20, 20), rng.normal(130, 12))


def _behind(rng: np.random.Generator) -> Arm:
    return Arm(rng.normal(-40, 12), rng.normal(15, 8), rng.normal(-60, 15), abs(rng.normal(50, 20)))


ARM_STYLES: tuple[tuple[float, Callable[[np.random.Generator], Arm]], ...] = (
    (0.32, _hanging),
    (0.12, _on_hip),
    (0.14, _raised),
    (0.10, _sideways),
    (0.11, _forward),
    (0.10, _at_chest),
    (0.07, _at_head),
    (0.04, _behind),
)


def _arms(rng: np.random.Generator) -> dict[str, Arm]:
    """Both arms; in half of the cases they do the same."""
    styles = [style for _, style in ARM_STYLES]
    chances = [chance for chance, _ in ARM_STYLES]
    left, right = rng.choice(len(styles), size=2, p=chances)
    return {"left": styles[left](rng), "right": styles[left if rng.random() < 0.5 else right](rng)}


def _head(rng: np.random.Generator, pitch: float = 0.0) -> tuple[float, float, float]:
    return pitch + rng.normal(4, 12), rng.normal(0, 25), rng.normal(0, 8)


# Postures.


def _standing(rng: np.random.Generator) -> Pose:
    legs = {
        side: Leg(rng.normal(2, 6), abs(rng.normal(5, 5)), rng.normal(12, 10), abs(rng.normal(3, 5)), 0)
        for side in SIDES
    }
    return Pose(rng.normal(2, 6), rng.normal(0, 4), rng.normal(0, 10), _head(rng), _arms(rng), legs)


def _contrapposto(rng: np.random.Generator) -> Pose:
    relaxed = Leg(rng.uniform(8, 25), rng.uniform(4, 14), rng.normal(20, 10), rng.uniform(15, 40), 5)
    straight = Leg(rng.normal(0, 4), rng.normal(-2, 3), rng.normal(8, 6), 2, 0)
    legs = _either_way(rng, relaxed, straight)
    return Pose(rng.normal(2, 5), rng.normal(0, 7), rng.normal(0, 12), _head(rng), _arms(rng), legs)


def _walking(rng: np.random.Generator) -> Pose:
    stride = rng.uniform(12, 32)
    legs = _either_way(
        rng,
        Leg(stride, rng.normal(1, 3), 5, abs(rng.normal(6, 6)), 5),
        Leg(-stride * 0.8, rng.normal(1, 3), 5, rng.uniform(8, 45), -15),
    )
    is_left_ahead = legs["left"].flexion > 0
    arms = {side: _swing(rng, stride if (side == "left") != is_left_ahead else -stride) for side in SIDES}
    if rng.random() < 0.25:
        arms = _arms(rng)
    return Pose(rng.normal(5, 4), rng.normal(0, 3), rng.normal(0, 10), _head(rng), arms, legs)


def _swing(rng: np.random.Generator, flexion: float) -> Arm:
    return Arm(flexion + rng.normal(0, 6), rng.uniform(2, 14), rng.normal(-25, 12), rng.uniform(5, 40))


def _running(rng: np.random.Generator) -> Pose:
    legs = _either_way(
        rng,
        Leg(rng.uniform(35, 85), rng.normal(0, 4), 0, rng.uniform(40, 110), 10),
        Leg(rng.uniform(-35, 0), rng.normal(0, 4), 0, rng.uniform(10, 95), -25),
    )
    is_left_ahead = legs["left"].flexion > legs["right"].flexion
    arms = {}
    for side in SIDES:
        forward = (side == "left") != is_left_ahead
        flexion = rng.uniform(20, 60) if forward else rng.uniform(-65, -20)
        arms[side] = Arm(flexion, rng.uniform(5, 25), rng.normal(-20, 15), rng.uniform(65, 120))
    return Pose(
        rng.uniform(5, 30),
        rng.normal(0, 5),
        rng.normal(0, 14),
        _head(rng, -8),
        arms,
        legs,
        is_grounded=rng.random() < 0.6,
    )


def _sitting(rng: np.random.Generator) -> Pose:
    spread = abs(rng.normal(10, 10))
    legs = {
        side: Leg(
            rng.normal(86, 8),
            rng.normal(2, 3),
            spread + rng.normal(0, 5),
            float(np.clip(rng.normal(85, 20), 10, 130)),
            0,
        )
        for side in SIDES
    }
    arms = _arms(rng) if rng.random() < 0.5 else {side: _on_lap(rng) for side in SIDES}
    return Pose(rng.normal(8, 12), rng.normal(0, 5), rng.normal(0, 8), _head(rng, 5), arms, legs)


def _on_lap(rng: np.random.Generator) -> Arm:
    return Arm(rng.normal(25, 10), rng.normal(10, 6), rng.normal(-20, 15), rng.normal(55, 15))


def _squatting(rng: np.random.Generator) -> Pose:
    depth = rng.uniform(0.4, 1.0)
    legs = {
        side: Leg(115 * depth + rng.normal(0, 8), rng.uniform(2, 15), rng.uniform(5, 25), 135 * depth, 25 * depth)
        for side in SIDES
    }
    arms = {side: _forward(rng) for side in SIDES} if rng.random() < 0.4 else _arms(rng)
    return Pose(rng.uniform(15, 50), rng.normal(0, 5), rng.normal(0, 8), _head(rng, -15), arms, legs)


def _kneeling(rng: np.random.Generator) -> Pose:
    legs = _either_way(
        rng,
        Leg(rng.normal(85, 10), rng.normal(4, 4), rng.normal(5, 8), rng.normal(85, 12), 0),
        Leg(rng.normal(-5, 8), rng.normal(2, 3), 0, rng.normal(88, 8), -40),
    )
    return Pose(rng.normal(10, 12), rng.normal(0, 5), rng.normal(0, 10), _head(rng, 5), _arms(rng), legs)


def _bending(rng: np.random.Generator) -> Pose:
    legs = {
        side: Leg(rng.normal(15, 8), rng.uniform(1, 9), rng.normal(8, 6), abs(rng.normal(12, 12)), 0) for side in SIDES
    }
    reach = rng.uniform(40, 110)
    arms = {
        side: Arm(reach + rng.normal(0, 20), rng.normal(6, 8), rng.normal(-10, 20), abs(rng.normal(20, 20)))
        for side in SIDES
    }
    return Pose(rng.uniform(35, 95), rng.normal(0, 8), rng.normal(0, 14), _head(rng, -12), arms, legs)


def _jumping(rng: np.random.Generator) -> Pose:
    if rng.random() < 0.5:
        open_legs = rng.uniform(12, 45)
        legs = {
            side: Leg(rng.normal(5, 12), open_legs + rng.normal(0, 5), 10, abs(rng.normal(15, 20)), -25)
            for side in SIDES
        }
    else:
        legs = {side: Leg(rng.uniform(10, 100), rng.uniform(0, 25), 8, rng.uniform(30, 120), -20) for side in SIDES}
    arms = {side: _raised(rng) for side in SIDES} if rng.random() < 0.6 else _arms(rng)
    return Pose(
        rng.normal(0, 14), rng.normal(0, 8), rng.normal(0, 14), _head(rng, -5), arms, legs, rng.normal(0, 12), False
    )


def _kicking(rng: np.random.Generator) -> Pose:
    kick = Leg(rng.uniform(40, 110), rng.uniform(-5, 40), rng.normal(0, 10), abs(rng.normal(15, 20)), -20)
    support = Leg(rng.normal(0, 8), rng.uniform(0, 10), rng.normal(15, 10), abs(rng.normal(12, 10)), 0)
    return Pose(
        rng.normal(-8, 12),
        rng.normal(0, 12),
        rng.normal(0, 20),
        _head(rng, 5),
        _arms(rng),
        _either_way(rng, kick, support),
    )


def _lunging(rng: np.random.Generator) -> Pose:
    legs = _either_way(
        rng,
        Leg(rng.uniform(50, 90), rng.normal(3, 6), rng.normal(5, 10), rng.uniform(60, 100), 0),
        Leg(rng.uniform(-35, -10), rng.normal(3, 6), rng.normal(10, 10), rng.uniform(0, 50), -20),
    )
    return Pose(rng.normal(12, 14), rng.normal(0, 8), rng.normal(0, 18), _head(rng), _arms(rng), legs)


def _lying(rng: np.random.Generator) -> Pose:
    legs = {
        side: Leg(rng.normal(15, 25), rng.normal(5, 7), rng.normal(5, 10), abs(rng.normal(25, 30)), -20)
        for side in SIDES
    }
    tumble = rng.choice([-90, 90]) + rng.normal(0, 15)
    return Pose(rng.normal(5, 12), rng.normal(0, 8), rng.normal(0, 10), _head(rng), _arms(rng), legs, tumble, False)


def _upside_down(rng: np.random.Generator) -> Pose:
    arms = {
        side: Arm(rng.normal(172, 10), rng.normal(5, 8), rng.normal(0, 20), abs(rng.normal(5, 10))) for side in SIDES
    }
    legs = {side: Leg(rng.normal(10, 25), abs(rng.normal(10, 15)), 0, abs(rng.normal(15, 25)), -30) for side in SIDES}
    return Pose(
        rng.normal(0, 10), rng.normal(0, 6), rng.normal(0, 10), _head(rng, -15), arms, legs, rng.normal(180, 25), False
    )


def _either_way(rng: np.random.Generator, first: Leg, second: Leg) -> dict[str, Leg]:
    return {"left": first, "right": second} if rng.random() < 0.5 else {"left": second, "right": first}


POSTURES: tuple[tuple[float, Callable[[np.random.Generator], Pose]], ...] = (
    (0.17, _standing),
    (0.11, _contrapposto),
    (0.13, _walking),
    (0.12, _running),
    (0.11, _sitting),
    (0.06, _squatting),
    (0.04, _kneeling),
    (0.06, _bending),
    (0.06, _jumping),
    (0.04, _kicking),
    (0.04, _lunging),
    (0.04, _lying),
    (0.02, _upside_down),
)


def sample_pose(rng: np.random.Generator) -> Pose:
    """A posture of a random kind, each angle varied."""
    kind = rng.choice(len(POSTURES), p=[chance for chance, _ in POSTURES])
    return POSTURES[kind][1](rng)


# Forward kinematics.


def assemble(body: Body, pose: Pose, camera: Matrix) -> Figure:
    """Joints and part rotations of a posed body.

    Args:
        body: lengths.
        pose: angles.
        camera: (3, 3) rotation from the person's frame to the camera's.
    """
    chest = camera @ rotation_y(pose.twist) @ rotation_z(pose.side_lean) @ rotation_x(pose.lean)
    loin = camera @ rotation_y(pose.twist / 2) @ rotation_z(pose.side_lean / 2) @ rotation_x(pose.lean / 2)
    waist = loin[:, 1] * body.trunk * 0.42
    thorax = waist + chest[:, 1] * body.trunk * 0.58
    pitch, yaw, roll = pose.head
    skull = chest @ rotation_x(-0.35 * pose.lean) @ rotation_y(yaw) @ rotation_z(roll) @ rotation_x(pitch)
    neck = thorax + (0.7 * chest + 0.3 * skull)[:, 1] * body.neck
    joints = {"pelvis": np.zeros(3), "waist": waist, "thorax": thorax, "upper_neck": neck}
    joints["head_top"] = neck + skull @ np.array([0.0, body.head, 0.006])
    frames = {"pelvis": camera, "waist": loin, "chest": chest, "head": skull}
    for side, sign in SIDES.items():
        _add_arm(joints, frames, body, pose.arms[side], side, sign)
        _add_leg(joints, frames, body, pose.legs[side], side, sign)
    return Figure(body, joints, frames, pose.is_grounded)


def _add_arm(
    joints: dict[str, Vector], frames: dict[str, Matrix], body: Body, arm: Arm, side: str, sign: float
) -> None:
    chest = frames["chest"]
    upper = chest @ rotation_z(sign * arm.abduction) @ rotation_x(-arm.flexion) @ rotation_y(sign * arm.twist)
    lower = upper @ rotation_x(-float(np.clip(arm.elbow, 0, 145)))
    # A raised arm lifts its shoulder and brings it nearer to the neck.
    lift = 0.5 + 0.5 * float(upper[:, 1] @ -chest[:, 1])
    shoulder = joints["thorax"] + chest @ np.array([sign * (body.shoulder - 0.018 * lift), -0.008 + 0.035 * lift, 0.0])
    elbow = shoulder - upper[:, 1] * body.upper_arm
    wrist = elbow - lower[:, 1] * body.forearm
    joints |= {f"{side}_shoulder": shoulder, f"{side}_elbow": elbow, f"{side}_wrist": wrist}
    joints[f"{side}_hand"] = wrist - lower[:, 1] * 0.052
    frames |= {f"{side}_upper_arm": upper, f"{side}_forearm": lower}


def _add_leg(
    joints: dict[str, Vector], frames: dict[str, Matrix], body: Body, leg: Leg, side: str, sign: float
) -> None:
    pelvis = frames["pelvis"]
    upper = pelvis @ rotation_y(sign * leg.turnout) @ rotation_z(sign * leg.abduction) @ rotation_x(-leg.flexion)
    lower = upper @ rotation_x(float(np.clip(leg.knee, 0, 150)))
    hip = joints["pelvis"] + pelvis @ np.array([sign * body.hip, -0.01, 0.0])
    knee = hip - upper[:, 1] * body.thigh
    ankle = knee - lower[:, 1] * body.shank
    sole = lower @ rotation_x(-leg.ankle)
    joints |= {f"{side}_hip": hip, f"{side}_knee": knee, f"{side}_ankle": ankle}
    joints[f"{side}_heel"] = ankle + sole @ np.array([0.0, -0.030, -0.028])
    joints[f"{side}_toe"] = ankle + sole @ np.array([0.0, -0.034, body.foot - 0.028])
    frames |= {f"{side}_thigh": upper, f"{side}_shank": lower}
