"""A drawn person: clothes and features on a figure, painted from far to near.

Also answers where the keypoints are and which of them can be seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdkd.data.synthetic_figure import SIDES, Figure, Matrix, Vector
from cdkd.data.synthetic_paint import (
    CIRCLE,
    UNOWNED,
    Canvas,
    Colour,
    Fabric,
    Outline,
    Shape,
    capsule,
    colour_from_hsv,
    disc,
    hull,
)

SMALLEST_FACE = 40.0  # pixels per body height below which eyes and mouth are smaller than anything seen
CAMERA_DISTANCE = 5.0  # body heights
FLIP_Y = np.array([1.0, -1.0])
SKULL_MIDDLE = (0.0, 0.068, 0.010)  # from the upper neck
HEAD_UNIT = 0.135  # the head's height that the features below are given for

SKIN_TONES: tuple[Colour, ...] = (
    (247, 214, 190),
    (236, 190, 160),
    (222, 168, 132),
    (196, 138, 100),
    (160, 106, 72),
    (120, 78, 52),
    (84, 54, 38),
)
HAIR_COLOURS: tuple[Colour, ...] = (
    (28, 22, 20),
    (52, 36, 26),
    (92, 62, 38),
    (140, 98, 54),
    (206, 168, 98),
    (150, 72, 34),
    (168, 164, 160),
)

# Trunk cross-sections: part of the way up the trunk, half width, half depth, in body heights.
TRUNK_STRAIGHT = (
    (-0.13, 0.074, 0.058),
    (0.04, 0.090, 0.068),
    (0.42, 0.080, 0.060),
    (0.78, 0.101, 0.070),
    (0.98, 0.096, 0.050),
    (1.07, 0.046, 0.040),
)
TRUNK_CURVY = (
    (-0.13, 0.080, 0.064),
    (0.04, 0.099, 0.076),
    (0.45, 0.069, 0.055),
    (0.76, 0.091, 0.074),
    (0.98, 0.086, 0.048),
    (1.07, 0.040, 0.036),
)


@dataclass(frozen=True)
class Wardrobe:
    """What a person looks like.

    Attributes:
        sleeve: how much of the arm is covered, 0 none, 1 to the elbow, 2 to the wrist.
        leg: how much of the leg is covered, likewise.
        skirt: length of a skirt in thigh lengths; 0 for none.
    """

    skin: Fabric
    hair: Fabric
    top: Fabric
    bottom: Fabric
    shoes: Fabric
    hat: Fabric | None
    sleeve: float
    leg: float
    skirt: float
    is_long_haired: bool
    front: str


@dataclass(frozen=True)
class Placement:
    """Where a figure stands in an image: pixels per body height at the pelvis, and the pelvis's pixel."""

    scale: float
    origin: tuple[float, float]

    def project(self, points: NDArray[np.float64]) -> Outline:
        """(..., 2) pixels of (..., 3) points: a weak perspective."""
        factor = self.scale * CAMERA_DISTANCE / (CAMERA_DISTANCE - points[..., 2])
        return np.asarray(np.array(self.origin) + points[..., :2] * FLIP_Y * factor[..., None], dtype=np.float32)


def sample_wardrobe(rng: np.random.Generator, scale: float) -> Wardrobe:
    """Random clothes, skin and hair for a person `scale` pixels high."""
    tone = float(rng.beta(1.2, 1.6)) * (len(SKIN_TONES) - 1)
    skin = _varied(rng, _between(SKIN_TONES, tone), 6)
    hair = _varied(rng, HAIR_COLOURS[rng.integers(len(HAIR_COLOURS))], 8)
    top, bottom = _cloth(rng, scale, 0.5), _trousers(rng, scale)
    skirt = float(rng.uniform(0.45, 1.25)) if rng.random() < 0.13 else 0.0
    has_hat = rng.random() < 0.2
    return Wardrobe(
        skin=Fabric(skin),
        hair=Fabric(hair, relief=0.7),
        top=top,
        bottom=top if skirt and rng.random() < 0.5 else bottom,
        shoes=Fabric(_varied(rng, rng.choice([(30, 30, 34), (235, 235, 235), (110, 70, 40), (180, 40, 40)]), 15)),
        hat=Fabric(_cloth_colour(rng)) if has_hat else None,
        sleeve=float(rng.choice([0.0, rng.uniform(0.35, 0.8), rng.uniform(1.7, 1.95)], p=[0.15, 0.5, 0.35])),
        leg=0.0
        if skirt
        else float(rng.choice([rng.uniform(0.25, 0.95), rng.uniform(1.5, 1.7), 1.95], p=[0.38, 0.1, 0.52])),
        skirt=skirt,
        is_long_haired=bool(rng.random() < 0.35),
        front=str(rng.choice(["plain", "print", "opening", "collar"], p=[0.3, 0.3, 0.2, 0.2])),
    )


def _between(colours: tuple[Colour, ...], position: float) -> Colour:
    low = min(int(position), len(colours) - 2)
    first, second = np.array(colours[low]), np.array(colours[low + 1])
    red, green, blue = (float(value) for value in first + (position - low) * (second - first))
    return red, green, blue


def _varied(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    red, green, blue = (float(value) for value in np.clip(np.array(colour) + rng.normal(0, spread, 3), 5, 250))
    return red, green, blue


def _cloth_colour(rng: np.random.Generator) -> Colour:
    kind = rng.random()
    if kind < 0.35:  # white, grey, black
        return colour_from_hsv(rng.random(), rng.uniform(0, 0.08), rng.uniform(0.1, 0.95))
    return colour_from_hsv(rng.random(), rng.uniform(0.25, 0.9), rng.uniform(0.2, 0.95))


def _cloth(rng: np.random.Generator, scale: float, patterned: float) -> Fabric:
    pattern = "plain"
    if rng.random() < patterned:
        pattern = str(rng.choice(["stripes", "pinstripes", "plaid", "blotches", "dots"], p=[0.34, 0.1, 0.26, 0.2, 0.1]))
    return Fabric(_cloth_colour(rng), _cloth_colour(rng), pattern, max(scale * rng.uniform(0.018, 0.06), 2.5))


def _trousers(rng: np.random.Generator, scale: float) -> Fabric:
    kind = rng.random()
    if kind < 0.3:  # denim
        return Fabric(colour_from_hsv(rng.normal(0.61, 0.015), rng.uniform(0.3, 0.6), rng.uniform(0.25, 0.6)))
    if kind < 0.45:  # khaki
        return Fabric(colour_from_hsv(rng.normal(0.10, 0.02), rng.uniform(0.2, 0.45), rng.uniform(0.4, 0.8)))
    return _cloth(rng, scale, 0.2)


class Person:
    """A dressed figure at its place in an image."""

    def __init__(self, figure: Figure, wardrobe: Wardrobe, placement: Placement) -> None:
        self.figure = figure
        self.wardrobe = wardrobe
        self.placement = placement
        self._head_unit = figure.body.head / HEAD_UNIT
        self._skull = figure.joints["upper_neck"] + figure.frames["head"] @ np.array(SKULL_MIDDLE) * self._head_unit
        self.shapes = sorted(self._all_shapes(), key=lambda shape: shape.depth)

    def paint(self, canvas: Canvas, *, is_owner: bool = True) -> dict[int, str]:
        """Paint the person from far to near; returns the part name of each owner number used.

        With `is_owner` false (somebody in the background) the pixels stay without an owner.
        """
        numbered = dict(enumerate(self.shapes, start=1))
        for number, shape in numbered.items():
            canvas.paint(shape, number if is_owner else UNOWNED)
        return {number: shape.name for number, shape in numbered.items()}

    def extent(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of everything painted, pixels."""
        points = np.concatenate([outline for shape in self.shapes for outline in shape.outlines])
        left, top, right, bottom = (float(value) for value in (*points.min(axis=0), *points.max(axis=0)))
        return left, top, right, bottom

    # Geometry in the image.

    def _at(self, joint: str) -> Vector:
        return self.figure.joints[joint]

    def _pixel(self, point: Vector) -> Outline:
        return self.placement.project(point)

    def _limb(self, knots: list[tuple[Vector, float]]) -> list[Outline]:
        """Outlines of a limb through (point, radius) knots."""
        centres = self._pixel(np.array([point for point, _ in knots]))
        radii = [radius * self.figure.body.girth * self.placement.scale for _, radius in knots]
        return [
            capsule(centres[index], centres[index + 1], radii[index], radii[index + 1])
            for index in range(len(knots) - 1)
        ]

    def _ellipsoid(self, centre: Vector, frame: Matrix, radii: tuple[float, float, float]) -> Outline:
        """Silhouette of an ellipsoid: the ellipse whose matrix is P diag(r^2) P^T, P the first two rows."""
        projected = frame[:2] * np.array(radii)
        (across, mixed), (_, down) = projected @ projected.T
        width = np.sqrt(across)  # the image of the unit circle under that matrix's Cholesky factor
        factor = np.array([[width, mixed / width], [0.0, np.sqrt(max(down - mixed * mixed / across, 0.0))]])
        return np.asarray(self._pixel(centre) + self.placement.scale * (CIRCLE @ factor) * FLIP_Y, dtype=np.float32)

    def _ring(self, centre: Vector, frame: Matrix, width: float, depth: float) -> Outline:
        return self._pixel(centre + width * CIRCLE[:, :1] * frame[:, 0] + depth * CIRCLE[:, 1:] * frame[:, 2])

    # Shapes.

    def _all_shapes(self) -> list[Shape]:
        shapes = [*self._trunk(), *self._head()]
        for side in SIDES:
            shapes += [*self._arm(side), *self._leg(side)]
        if self.wardrobe.skirt:
            shapes.append(self._skirt())
        return shapes

    def _segment(
        self, name: str, knots: list[tuple[Vector, float]], covered: float, cloth: Fabric, bias: float = 0.0
    ) -> list[Shape]:
        """A limb segment in skin, and the cloth over its first part `covered` in [0, 1]."""
        start, stop = knots[0][0], knots[-1][0]
        depth = float((start + stop)[2] / 2) + bias
        axis = np.stack([self._pixel(start), self._pixel(stop)])
        shapes = []
        if covered < 0.97:
            shapes.append(Shape(name, self._limb(knots), depth, self.wardrobe.skin, axis))
        if covered > 0.05:
            clothed = [(point, radius + 0.007) for point, radius in _cut(knots, covered)]
            shapes.append(Shape(name, self._limb(clothed), depth + 1e-3, cloth, axis))
        return shapes

    def _arm(self, side: str) -> list[Shape]:
        shoulder, elbow, wrist, hand = (self._at(f"{side}_{joint}") for joint in ("shoulder", "elbow", "wrist", "hand"))
        upper = [(shoulder, 0.031), (_along(shoulder, elbow, 0.4), 0.029), (elbow, 0.023)]
        lower = [(elbow, 0.023), (_along(elbow, wrist, 0.3), 0.025), (wrist, 0.016)]
        sleeve, bias = self.wardrobe.sleeve, 0.03
        shapes = _joined(
            f"{side}_arm",
            self._segment(f"{side}_upper_arm", upper, min(sleeve, 1.0), self.wardrobe.top, bias),
            self._segment(f"{side}_forearm", lower, sleeve - 1.0, self.wardrobe.top, bias + 0.004),
        )
        palm = [
            (_along(wrist, hand, 0.15), 0.016),
            (_along(wrist, hand, 0.55), 0.021),
            (_along(wrist, hand, 1.15), 0.012),
        ]
        depth = float((wrist + hand)[2] / 2) + bias
        return [*shapes, Shape(f"{side}_hand", self._limb(palm), depth, self.wardrobe.skin)]

    def _leg(self, side: str) -> list[Shape]:
        hip, knee, ankle = (self._at(f"{side}_{joint}") for joint in ("hip", "knee", "ankle"))
        heel, toe = self._at(f"{side}_heel"), self._at(f"{side}_toe")
        upper = [(hip, 0.054), (_along(hip, knee, 0.35), 0.052), (knee, 0.035)]
        calf = _along(knee, ankle, 0.33) - 0.008 * self.figure.frames[f"{side}_shank"][:, 2]
        lower = [(knee, 0.034), (calf, 0.036), (ankle, 0.021)]
        covered = self.wardrobe.leg
        shapes = _joined(
            f"{side}_leg",
            self._segment(f"{side}_thigh", upper, min(covered, 1.0), self.wardrobe.bottom),
            self._segment(f"{side}_shank", lower, covered - 1.0, self.wardrobe.bottom, -0.004),
        )
        foot = hull(
            np.concatenate(
                [
                    disc(self._pixel(point), radius * self.placement.scale)
                    for point, radius in ((ankle, 0.024), (heel, 0.022), (toe, 0.017))
                ]
            )
        )
        return [*shapes, Shape(f"{side}_foot", [foot], float((ankle + toe)[2] / 2), self.wardrobe.shoes)]

    def _level(self, height: float) -> tuple[Vector, Matrix]:
        """Centre and frame of the trunk at a part of its height: a spine bent at the waist."""
        joints, frames = self.figure.joints, self.figure.frames
        if height <= 0.2:
            return joints["pelvis"] + frames["pelvis"][:, 1] * height * self.figure.body.trunk, frames["pelvis"]
        if height <= 0.5:
            return joints["waist"] + frames["waist"][:, 1] * (height - 0.42) * self.figure.body.trunk, frames["waist"]
        return joints["thorax"] + frames["chest"][:, 1] * (height - 1.0) * self.figure.body.trunk, frames["chest"]

    def _trunk(self) -> list[Shape]:
        body = self.figure.body
        sections = TRUNK_CURVY if body.is_curvy else TRUNK_STRAIGHT
        girth, breadth = body.trunk_girth, body.shoulder / 0.108
        rings = []
        for height, width, depth in sections:
            centre, frame = self._level(height)
            wide = width * (breadth if height > 0.6 else 1.0) * (0.5 + 0.5 * girth)
            rings.append(self._ring(centre, frame, wide, depth * girth))
        blocks = [hull(np.concatenate([rings[index], rings[index + 1]])) for index in range(len(rings) - 1)]
        waist, thorax = self._at("waist"), self._at("thorax")
        axis = self._pixel(np.stack([self._at("pelvis"), thorax]))
        pelvis_depth = float(waist[2]) * 0.2
        shapes = [
            Shape("pelvis", blocks[:2], pelvis_depth - 0.01, self.wardrobe.bottom, axis),
            Shape("torso", blocks[1:], float((waist + thorax)[2] / 2), self.wardrobe.top, axis),
        ]
        return [*shapes, *self._front(shapes[1].depth)]

    def _front(self, depth: float) -> list[Shape]:
        """A print, an open jacket or a collar on the chest, where the chest faces the viewer."""
        chest, waist = self.figure.frames["chest"], self.figure.frames["waist"]
        if chest[2, 2] < 0.15 or self.wardrobe.front == "plain":
            return []
        second = Fabric(self.wardrobe.top.second, relief=0.0)
        thorax, belly = self._at("thorax"), self._at("waist") + 0.058 * waist[:, 2]
        neckline = thorax + chest @ np.array([0.0, 0.012, 0.043])
        if self.wardrobe.front == "collar":
            tip = thorax + chest @ np.array([0.0, -0.055, 0.066])
            corners = [neckline + sign * 0.03 * chest[:, 0] for sign in (-1, 1)]
            return [Shape("torso", [self._pixel(np.stack([*corners, tip]))], depth + 2e-3, self.wardrobe.skin)]
        if self.wardrobe.front == "opening":
            ends = [(neckline, chest), (thorax + chest @ np.array([0.0, -0.07, 0.068]), chest), (belly, waist)]
            rows = [np.stack([point - 0.017 * frame[:, 0], point + 0.017 * frame[:, 0]]) for point, frame in ends]
            quads = [hull(self._pixel(np.concatenate([rows[index], rows[index + 1]]))) for index in range(2)]
            return [Shape("torso", quads, depth + 2e-3, second)]
        corners = [
            thorax + chest @ np.array([x, y, 0.068])
            for x, y in ((-0.045, -0.06), (0.045, -0.06), (0.045, -0.11), (-0.045, -0.11))
        ]
        return [Shape("torso", [self._pixel(np.stack(corners))], depth + 2e-3, second)]

    def _skirt(self) -> Shape:
        hips, frame = self._level(0.1)
        scale, length = self.placement.scale, self.wardrobe.skirt
        points = [self._ring(hips, frame, 0.096, 0.074)]
        middles = []
        for side in SIDES:
            hip, knee, ankle = (self._at(f"{side}_{joint}") for joint in ("hip", "knee", "ankle"))
            hem = _along(hip, knee, length) if length <= 1 else _along(knee, ankle, length - 1)
            middles.append(hem)
            points.append(disc(self._pixel(hem), (0.062 + 0.02 * length) * scale))
        axis = np.stack([self._pixel(hips), self._pixel((middles[0] + middles[1]) / 2)])
        depth = max(float((self._at(f"{side}_hip") + self._at(f"{side}_knee"))[2] / 2) for side in SIDES) + 5e-3
        return Shape("skirt", [hull(np.concatenate(points))], depth, self.wardrobe.bottom, axis)

    # The head.

    def feature(self, x: float, y: float, z: float) -> Vector:
        """A point of the head, from the skull's middle, in body heights of a head of usual size."""
        return np.asarray(self._skull + self.figure.frames["head"] @ np.array([x, y, z]) * self._head_unit)

    def _head(self) -> list[Shape]:
        unit, frame = self._head_unit, self.figure.frames["head"]
        middle = self.feature(0, 0, 0)
        depth = float(middle[2]) + 0.02
        faces_viewer = bool(frame[2, 2] > -0.35)
        shows_face = faces_viewer and self.placement.scale > SMALLEST_FACE
        neck = self._limb(
            [
                (self._at("thorax") * 0.75 + self._at("upper_neck") * 0.25, 0.034),
                (self.feature(0, -0.035, -0.01), 0.031),
            ]
        )
        face = [self._ellipsoid(self.feature(0, 0.004, 0.006), frame, _times(unit, (0.046, 0.054, 0.052)))]
        face.append(self._ellipsoid(self.feature(0, -0.026, 0.016), frame, _times(unit, (0.034, 0.038, 0.036))))
        hair = [self._ellipsoid(self.feature(0, 0.012, -0.012), frame, _times(unit, (0.053, 0.059, 0.056)))]
        shapes = [
            Shape("neck", neck, float(self._at("upper_neck")[2]), self.wardrobe.skin),
            Shape("head", face, depth + (2e-3 if faces_viewer else -2e-3), self.wardrobe.skin),
            Shape("head", hair, depth, self.wardrobe.hair),
        ]
        if self.wardrobe.is_long_haired:
            fall = self._limb([(self.feature(0, 0.0, -0.025), 0.048), (self.feature(0, -0.095, -0.045), 0.042)])
            shapes.append(Shape("head", fall, float(self.feature(0, -0.05, -0.06)[2]), self.wardrobe.hair))
        return [*shapes, *self._hat(depth), *self._ears(depth), *(self._features(depth + 4e-3) if shows_face else [])]

    def _hat(self, depth: float) -> list[Shape]:
        hat = self.wardrobe.hat
        if hat is None:
            return []
        unit, frame = self._head_unit, self.figure.frames["head"]
        dome = self._ellipsoid(self.feature(0, 0.040, -0.004), frame, _times(unit, (0.053, 0.036, 0.058)))
        brim = hull(
            np.concatenate(
                [
                    self._ring(self.feature(0, 0.026, z), frame, w, d)
                    for z, w, d in ((0.02, 0.05, 0.04), (0.062, 0.036, 0.03))
                ]
            )
        )
        order = depth + (6e-3 if frame[2, 2] > 0 else -3e-3)
        return [Shape("head", [dome], depth + 5e-3, hat), Shape("head", [brim], order, hat)]

    def _ears(self, depth: float) -> list[Shape]:
        frame, unit = self.figure.frames["head"], self._head_unit
        if self.wardrobe.is_long_haired:
            return []
        shapes = []
        for sign in SIDES.values():
            outline = self._ellipsoid(
                self.feature(sign * 0.049, -0.006, -0.004), frame, _times(unit, (0.007, 0.017, 0.011))
            )
            near = 3e-3 if frame[2, 0] * sign > 0.15 else -4e-3
            shapes.append(Shape("head", [outline], depth + near, self.wardrobe.skin))
        return shapes

    def _features(self, depth: float) -> list[Shape]:
        """Eyes, brows, nose and mouth, where they face the viewer."""
        frame, unit = self.figure.frames["head"], self._head_unit
        skin = np.array(self.wardrobe.skin.colour)
        shapes = []
        for sign in SIDES.values():
            if (frame @ np.array([sign * 0.5, 0.1, 0.86]))[2] < 0.1:
                continue
            for point, radii, colour in (
                ((sign * 0.019, 0.004, 0.053), (0.0095, 0.0060, 0.004), (232.0, 230.0, 226.0)),
                ((sign * 0.019, 0.004, 0.055), (0.0052, 0.0056, 0.004), (34.0, 26.0, 24.0)),
                ((sign * 0.020, 0.017, 0.053), (0.0120, 0.0030, 0.004), self.wardrobe.hair.colour),
            ):
                shapes.append(self._mark(point, radii, colour, depth))
        mouth = (float(skin[0] * 0.72), float(skin[1] * 0.45), float(skin[2] * 0.45))
        if frame[2, 2] > 0.1:
            shapes.append(self._mark((0, -0.036, 0.048), (0.014, 0.0042, 0.006), mouth, depth))
        bridge = self._limb([(self.feature(0, 0.004, 0.054), 0.004), (self.feature(0, -0.015, 0.063), 0.0085 * unit)])
        return [*shapes, Shape("head", bridge, depth + 1e-3, self.wardrobe.skin)]

    def _mark(
        self, point: tuple[float, float, float], radii: tuple[float, float, float], colour: Colour, depth: float
    ) -> Shape:
        unit, frame = self._head_unit, self.figure.frames["head"]
        outline = self._ellipsoid(self.feature(*point), frame, _times(unit, radii))
        return Shape("head", [outline], depth, Fabric(colour, relief=0.0))


def _joined(name: str, upper: list[Shape], lower: list[Shape]) -> list[Shape]:
    """Both segments of a limb, without a seam where one surface runs over a joint that is not sharply bent."""
    last, first = upper[-1], lower[0]
    directions = [shape.axis[1] - shape.axis[0] for shape in (last, first)]
    lengths = [float(np.linalg.norm(direction)) for direction in directions]
    is_bent = float(directions[0] @ directions[1]) < 0.45 * lengths[0] * lengths[1]
    if last.fabric is not first.fabric or is_bent or abs(last.depth - first.depth) > 0.12:
        return [*upper, *lower]
    whole = Shape(name, [*last.outlines, *first.outlines], (last.depth + first.depth) / 2, last.fabric, last.axis)
    return [*upper[:-1], whole, *lower[1:]]


def _times(unit: float, radii: tuple[float, float, float]) -> tuple[float, float, float]:
    return unit * radii[0], unit * radii[1], unit * radii[2]


def _along(start: Vector, stop: Vector, part: float) -> Vector:
    return start + part * (stop - start)


def _cut(knots: list[tuple[Vector, float]], covered: float) -> list[tuple[Vector, float]]:
    """The first part of a limb of three knots (start, a point on the way, end)."""
    start, middle, stop = knots
    if covered >= 0.97:
        return knots
    if covered <= 0.4:
        return [start, (_along(start[0], stop[0], covered), start[1])]
    return [
        start,
        middle,
        (_along(start[0], stop[0], covered), middle[1] + (stop[1] - middle[1]) * (covered - 0.4) / 0.6),
    ]
