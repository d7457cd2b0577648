"""Dressed figures: silhouettes, drawing order and what hides a keypoint."""

import numpy as np
import pytest

from cdkd.data.synthetic import keypoint_place
from cdkd.data.synthetic_figure import Arm, Leg, Pose, assemble, rotation_x, rotation_y, rotation_z, sample_body
from cdkd.data.synthetic_paint import Canvas, Light
from cdkd.data.synthetic_people import Person, Placement, sample_wardrobe
from cdkd.keypoints import KEYPOINT_SETS

SIZE = 160


def standing(yaw: float, seed: int = 0) -> Person:
    """A straight person in the middle of a 160-pixel image."""
    rng = np.random.default_rng(seed)
    arms = {side: Arm(0, 25, 0, 10) for side in ("left", "right")}
    legs = {side: Leg(0, 8, 0, 0, 0) for side in ("left", "right")}
    figure = assemble(sample_body(rng), Pose(0, 0, 0, (0, 0, 0), arms, legs), rotation_y(yaw))
    return Person(figure, sample_wardrobe(rng, 140.0), Placement(140.0, (80.0, 84.0)))


def painted(person: Person) -> tuple[Canvas, dict[int, str]]:
    canvas = Canvas(np.full((3, SIZE, SIZE), 90, np.float32), np.zeros((SIZE, SIZE), np.uint8), Light((0, -1), 1, 0.6))
    return canvas, person.paint(canvas)


def part_at(person: Person, name: str) -> str:
    """The part that is seen at a keypoint."""
    canvas, parts = painted(person)
    x, y = np.round(person.placement.project(keypoint_place(person, name))).astype(int)
    return parts.get(int(canvas.owner[y, x]), "")


@pytest.mark.parametrize("seed", range(4))
def test_limbs_are_seen_where_their_keypoints_are(seed):
    person = standing(0, seed)
    for side in ("left", "right"):
        assert part_at(person, f"{side}_elbow").startswith(f"{side}_")
        assert part_at(person, f"{side}_ankle").startswith(f"{side}_")
    assert part_at(person, "head_top") == "head"


def test_the_near_arm_hides_the_trunk_and_the_trunk_the_far_arm():
    person = standing(90)  # the person's left turns away from the viewer
    assert person.figure.joints["right_elbow"][2] > person.figure.joints["left_elbow"][2]
    depths = {shape.name: shape.depth for shape in person.shapes}
    arms = {
        side: max(depth for name, depth in depths.items() if name.startswith(f"{side}_") and "arm" in name)
        for side in ("left", "right")
    }
    assert arms["left"] < depths["torso"] < arms["right"]


def test_a_person_from_behind_shows_no_face():
    front, back = standing(0), standing(180)
    assert len([shape for shape in front.shapes if shape.name == "head"]) > len(
        [shape for shape in back.shapes if shape.name == "head"]
    )


def test_nobody_in_the_background_owns_a_pixel():
    canvas = Canvas(np.full((3, SIZE, SIZE), 90, np.float32), np.zeros((SIZE, SIZE), np.uint8), Light((0, -1), 1, 0.6))
    standing(0).paint(canvas, is_owner=False)
    assert not canvas.owner.any()
    assert (canvas.pixels != 90).any()


def test_an_ellipsoids_outline_is_the_silhouette_of_its_surface():
    person, rng = standing(0), np.random.default_rng(2)
    frame = rotation_z(20) @ rotation_x(35) @ rotation_y(50)
    radii = (0.05, 0.02, 0.09)
    outline = person._ellipsoid(np.zeros(3), frame, radii)
    points = rng.normal(size=(20000, 3))
    surface = (points / np.linalg.norm(points, axis=1, keepdims=True) * radii) @ frame.T
    flat = np.array(person.placement.origin) + 140.0 * surface[:, :2] * (1, -1)
    for angle in np.linspace(0, np.pi, 7):
        direction = np.array([np.cos(angle), np.sin(angle)])
        assert (outline @ direction).max() == pytest.approx((flat @ direction).max(), abs=0.6)


@pytest.mark.parametrize("name", sorted({name for each in KEYPOINT_SETS.values() for name in each.names}))
def test_every_keypoint_of_every_set_has_a_place_inside_the_extent(name):
    person = standing(30)
    left, top, right, bottom = person.extent()
    x, y = person.placement.project(keypoint_place(person, name))
    assert left <= x <= right
    assert top <= y <= bottom


def test_an_unknown_keypoint_is_refused():
    with pytest.raises(KeyError):
        keypoint_place(standing(0), "tail")


def test_nearer_points_are_drawn_larger():
    placement = Placement(100.0, (0.0, 0.0))
    near, far = placement.project(np.array([[0.1, 0.0, 0.5], [0.1, 0.0, -0.5]]))
    assert near[0] > 10 > far[0]
