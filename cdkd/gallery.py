"""Pictures of what trained networks predict: one image, a grid of persons, attention maps (paper Fig. 7 to 10).

Every picture can show several networks side by side, of whatever input sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cdkd.attention import attention, attention_layers
from cdkd.config import span
from cdkd.data.augmentation import plain_view
from cdkd.data.crops import Matrix, crop, invert_affine, warp_points
from cdkd.data.images import read_image
from cdkd.drawing import (
    PIXELS_PER_LINE_WIDTH,
    Image,
    attention_marks,
    box_marks,
    contact_sheet,
    draw_box,
    draw_cross,
    draw_skeleton,
    draw_square,
    draw_truth,
    pose_marks,
)
from cdkd.engine import normalise
from cdkd.heads.table import build_codec
from cdkd.inference import TrainedStudent, predict_instances
from cdkd.instances import PersonInstance
from cdkd.keypoints import KeypointSet
from cdkd.panels import (
    captioned,
    enlarged,
    heat_mark,
    legend,
    panel_side,
    resized,
    resized_points,
    text_strip,
    with_heat,
)

SMALLEST_HEIGHT, LARGEST_HEIGHT = 384, 1080
"""Images are shown at their own size, but no lower and no higher than this, pixels."""
KEYPOINTS_IN_A_ROW = 3
"""Attention maps of more keypoints go into further rows."""


@dataclass(frozen=True)
class Network:
    """A trained network, the name it has in pictures, and the score below which a keypoint is not drawn."""

    name: str
    student: TrainedStudent
    score_threshold: float = 0.0

    @property
    def input_size(self) -> int:
        """Side of its input, pixels."""
        return self.student.config.student.input_size

    @property
    def title(self) -> str:
        """Name, architecture and epoch."""
        size = self.input_size
        return f"{self.name}: {self.student.config.student.backbone} at {size}x{size}, epoch {self.student.epoch}"


@dataclass(frozen=True)
class Seen:
    """A person as one network sees and places them.

    Attributes:
        instance: the person.
        pixels: (S, S, 3) RGB, the network's input before it is normalised.
        to_input: (2, 3) map from image pixels to input pixels.
        keypoints_image: (J, 2) predicted, image pixels; NaN where scored too low to be drawn.
        keypoint_set: names and limbs.
    """

    instance: PersonInstance
    pixels: Image
    to_input: Matrix
    keypoints_image: NDArray[np.float64]
    keypoint_set: KeypointSet

    @property
    def truth_image(self) -> NDArray[np.float64]:
        """(J, 2) labelled keypoints, image pixels; NaN where not labelled."""
        return np.where(self.instance.visibility[:, None] > 0, self.instance.keypoints_image, np.nan)

    def with_poses(self, side: int) -> Image:
        """The input enlarged to a side, with the labelled keypoints and over them the predicted ones."""
        shown = enlarged(self.pixels, side)
        predicted, truth = (
            resized_points(warp_points(points, self.to_input), self.pixels, shown)
            for points in (self.keypoints_image, self.truth_image)
        )
        return draw_skeleton(draw_truth(shown, truth, self.keypoint_set), predicted, self.keypoint_set)


def look(network: Network, instances: Sequence[PersonInstance]) -> list[Seen]:
    """Predict persons, and keep what the network saw of them.

    Raises:
        DataError: an image cannot be read.
    """
    config, keypoint_set = network.student.config, network.student.keypoint_set
    found = predict_instances(network.student, list(instances))
    is_drawn = found.scores[..., None] >= network.score_threshold
    drawn = np.where(is_drawn, found.keypoints_image, np.nan).astype(np.float64)
    side = span(network.input_size, config.data.warp)
    matrices = [plain_view(instance, config.data.box_padding).affine(side) for instance in instances]
    return [
        Seen(instance, crop(read_image(instance.image), matrix, network.input_size), matrix, keypoints, keypoint_set)
        for instance, matrix, keypoints in zip(instances, matrices, drawn, strict=True)
    ]


# ---------------------------------------------------------------------------------------- one image


def image_picture(networks: Sequence[Network], instance: PersonInstance) -> Image:
    """The whole image with the predicted skeleton beside the network's input, without and with it; a row a network.

    Raises:
        DataError: the image cannot be read.
    """
    image = read_image(instance.image)
    rows = [_image_row(network, look(network, [instance])[0], image) for network in networks]
    sheet = contact_sheet([panel for row in rows for panel in row], len(rows[0]))
    marks = pose_marks(has_truth=bool((instance.visibility > 0).any())) + box_marks()
    return contact_sheet([sheet, legend(marks, sheet.shape[1])], 1)


def _image_row(network: Network, seen: Seen, image: Image) -> list[Image]:
    height = int(np.clip(image.shape[0], SMALLEST_HEIGHT, LARGEST_HEIGHT))
    side = network.input_size * max(1, round(height / network.input_size))
    size = f"{network.input_size}x{network.input_size}"
    return [
        captioned(_whole_image(seen, resized(image, height), image), f"{network.title}; {seen.instance.image.name}"),
        captioned(enlarged(seen.pixels, side), f"input of {size}, every pixel enlarged"),
        captioned(seen.with_poses(side), "the same with the pose"),
    ]


def _whole_image(seen: Seen, shown: Image, image: Image) -> Image:
    """`shown`, the resized image, with the person's box, the square that the network sees, and the poses."""
    left, top, width, height = seen.instance.box
    side = len(seen.pixels)
    box = np.array([(left, top), (left + width, top), (left + width, top + height), (left, top + height)])
    square = warp_points([(0, 0), (side, 0), (side, side), (0, side)], invert_affine(seen.to_input))
    box, square, truth, predicted = (
        resized_points(points, image, shown) for points in (box, square, seen.truth_image, seen.keypoints_image)
    )
    # As wide as on the network's input, so that they do not hide a person who is small in the image.
    width = max(1.0, float(np.ptp(square, axis=0).max()) / PIXELS_PER_LINE_WIDTH)
    boxed = draw_box(draw_box(shown, square, width, is_dashed=True), box, width)
    labelled = draw_truth(boxed, truth, seen.keypoint_set, line_width=width)
    return draw_skeleton(labelled, predicted, seen.keypoint_set, line_width=width)


# ------------------------------------------------------------------------------------------ a grid


def grid(
    networks: Sequence[Network],
    instances: Sequence[PersonInstance],
    captions: Sequence[str],
    title: str,
    *,
    columns: int,
) -> Image:
    """Persons as the networks see them, enlarged, labelled keypoints below the predicted ones.

    Args:
        networks: side by side in each cell.
        instances: the persons, row by row.
        captions: text below each.
        title: text above all.
        columns: persons in a row.

    Raises:
        DataError: an image cannot be read.
    """
    side = panel_side([network.input_size for network in networks])
    seen = [look(network, instances) for network in networks]
    cells = [
        captioned(_named_row([person.with_poses(side) for person in persons], networks), caption)
        for persons, caption in zip(zip(*seen, strict=True), captions, strict=True)
    ]
    sheet = contact_sheet(cells, columns, gap=8)
    has_truth = any((instance.visibility > 0).any() for instance in instances)
    return _headed(sheet, title, networks, pose_marks(has_truth=has_truth))


def _named_row(panels: Sequence[Image], networks: Sequence[Network]) -> Image:
    """One person's panels, each below its network's name where there is more than one."""
    if len(panels) == 1:
        return panels[0]
    named = [captioned(panel, network.name) for panel, network in zip(panels, networks, strict=True)]
    return contact_sheet(named, len(named), gap=2)


def _headed(sheet: Image, title: str, networks: Sequence[Network], marks: Sequence[tuple[Image, str]]) -> Image:
    """A sheet below its title, the networks it is of, and the meaning of its marks."""
    width = sheet.shape[1]
    lines = [text_strip(line, width) for line in (title, *(network.title for network in networks))]
    return contact_sheet([*lines, legend(marks, width), sheet], 1, gap=0)


def evenly_spread(count: int, wanted: int) -> list[int]:
    """Positions of at most `wanted` of `count` persons, at equal distances."""
    wanted = min(count, wanted)
    return [(2 * number + 1) * count // (2 * wanted) for number in range(wanted)]


# ---------------------------------------------------------------------------------- attention maps


def attention_picture(
    networks: Sequence[Network], instance: PersonInstance, keypoints: Sequence[int], title: str
) -> Image:
    """Attention maps of chosen keypoints of one person: a row a network, a column a layer of a keypoint.

    Args:
        networks: of one keypoint set.
        instance: the person.
        keypoints: indices of the keypoints.
        title: text above all.

    Raises:
        DataError: the image cannot be read.
    """
    side = panel_side([network.input_size for network in networks])
    starts = range(0, len(keypoints), KEYPOINTS_IN_A_ROW)
    bands = [keypoints[start : start + KEYPOINTS_IN_A_ROW] for start in starts]
    rows = [_attention_row(network, instance, band, side) for band in bands for network in networks]
    sheet = contact_sheet([contact_sheet(row, len(row)) for row in rows], 1, gap=8)
    is_labelled = bool((instance.visibility[list(keypoints)] > 0).any())
    marks = [*attention_marks(has_truth=is_labelled), (heat_mark(), "from 0 to the map's maximum")]
    evidence = " or ".join(dict.fromkeys(build_codec(network.student.config).evidence_name for network in networks))
    return _headed(sheet, f"{title}: Grad-CAM of a keypoint's {evidence}", networks, marks)


def _attention_row(network: Network, instance: PersonInstance, keypoints: Sequence[int], side: int) -> list[Image]:
    """The input with the poses, then the maps of each keypoint at each layer."""
    (seen,) = look(network, [instance])
    net = network.student.net
    images = torch.from_numpy(seen.pixels).permute(2, 0, 1)[None]
    pixels = normalise(images, next(net.parameters()).device)
    found = attention(net, build_codec(network.student.config), pixels, keypoints, attention_layers(net))
    cells = [captioned(seen.with_poses(side), network.name)]
    for place, keypoint in enumerate(keypoints):
        peak = found.peaks[0, place].cpu().numpy()
        for layer, maps in found.maps.items():
            cells.append(_attention_panel(seen, layer, maps[0, place].cpu().numpy(), keypoint, peak, side))
    return cells


def _attention_panel(
    seen: Seen, layer: str, heat: NDArray[np.float32], keypoint: int, peak: NDArray[np.float32], side: int
) -> Image:
    shown = with_heat(enlarged(seen.pixels, side), heat)
    truth = resized_points(warp_points(seen.truth_image[keypoint], seen.to_input), seen.pixels, shown)
    if np.isfinite(truth).all():
        shown = draw_square(shown, truth)
    shown = draw_cross(shown, resized_points(peak, seen.pixels, shown))
    return captioned(shown, f"{seen.keypoint_set.names[keypoint]}: {layer}, {describe_map(heat)}")


def describe_map(heat: NDArray[np.float32]) -> str:
    """A map's resolution, and whether there is anything in it."""
    height, width = heat.shape
    return f"{width}x{height}" if heat.any() else f"{width}x{height}, zero everywhere"
