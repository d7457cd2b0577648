"""Pictures of small untrained networks: what they show, not how pretty it is."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cdkd.attention import attention, attention_layers
from cdkd.config import resolve
from cdkd.data.crops import warp_points
from cdkd.data.images import read_image
from cdkd.drawing import LEFT_COLOUR, RIGHT_COLOUR, draw_cross, draw_square
from cdkd.engine import normalise
from cdkd.gallery import Network, Seen, attention_picture, describe_map, evenly_spread, grid, image_picture, look
from cdkd.heads.table import build_codec
from cdkd.inference import TrainedStudent
from cdkd.instances import PersonInstance
from cdkd.keypoints import KEYPOINT_SETS
from cdkd.panels import captioned, enlarged, panel_side, resized_points, with_heat
from cdkd.simcc import decode
from tests.cdkd.networks import simcc_net

LSP = KEYPOINT_SETS["lsp14"]
LEFT_KNEE, RIGHT_KNEE = LSP.names.index("left_knee"), LSP.names.index("right_knee")


def network(
    name: str = "small", input_size: int = 32, backbone: str = "hrnet_w16", warp: str = "size", **changes
) -> Network:
    config = resolve(
        {
            "student.input_size": input_size,
            "student.backbone": backbone,
            "simcc.split_ratio": 2.0,
            "data.keypoint_set": "lsp14",
            "data.warp": warp,
            "distill.cca.enabled": False,
            "evaluation.flip_test": False,
            "runtime.device": "cpu",
        }
    )
    net = simcc_net(backbone, input_size, 2.0, LSP.count, generator=torch.Generator().manual_seed(0))
    return Network(name, TrainedStudent(net.eval(), config, LSP, 3), **changes)


@pytest.fixture
def person(tmp_path: Path) -> PersonInstance:
    """A labelled person, but for the head top, in an image of 120x90 pixels."""
    coarse = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "person.png"), cv2.resize(coarse, (120, 90), interpolation=cv2.INTER_CUBIC))
    visibility = np.full(LSP.count, 2, np.int64)
    visibility[-1] = 0
    return PersonInstance(
        image=tmp_path / "person.png",
        image_id=1,
        annotation_id=1,
        box=(20.0, 10.0, 60.0, 70.0),
        area=4200.0,
        keypoints_image=np.stack([np.linspace(25, 75, LSP.count), np.linspace(15, 75, LSP.count)], -1, dtype="f"),
        visibility=visibility,
    )


def seen_with(predicted: dict[int, tuple[float, float]], labelled: dict[int, tuple[float, float]]) -> Seen:
    """A grey input of 32 pixels at half the image's size, with these keypoints in image pixels."""
    points, truth = np.full((LSP.count, 2), np.nan), np.zeros((LSP.count, 2), np.float32)
    visibility = np.zeros(LSP.count, np.int64)
    for index, place in predicted.items():
        points[index] = place
    for index, place in labelled.items():
        truth[index], visibility[index] = place, 1
    instance = PersonInstance(Path("none.png"), 1, 1, (0, 0, 64, 64), 4096.0, truth, visibility)
    to_input = np.array([[0.5, 0, 0], [0, 0.5, 0]])
    return Seen(instance, np.full((32, 32, 3), 128, np.uint8), to_input, points, LSP)


@pytest.mark.parametrize("warp", ["size", "size_minus_one"])
def test_what_is_shown_is_what_the_network_got_and_made_of_it(person: PersonInstance, warp: str) -> None:
    small = network(warp=warp)
    (seen,) = look(small, [person])
    assert seen.pixels.shape == (32, 32, 3)
    with torch.no_grad():
        output = small.student.net(normalise(torch.from_numpy(seen.pixels).permute(2, 0, 1)[None], torch.device("cpu")))
    keypoints, _scores = decode(output.prediction.x.softmax(-1), output.prediction.y.softmax(-1), 2.0)
    np.testing.assert_allclose(warp_points(seen.keypoints_image, seen.to_input), keypoints[0].numpy(), atol=1e-3)


def test_keypoints_scored_too_low_are_left_out(person: PersonInstance) -> None:
    assert np.isfinite(look(network(), [person])[0].keypoints_image).all()
    assert np.isnan(look(network(score_threshold=1.01), [person])[0].keypoints_image).all()


def test_keypoints_are_drawn_in_the_middle_of_their_input_pixel() -> None:
    seen = seen_with({LEFT_KNEE: (20.0, 40.0)}, {RIGHT_KNEE: (44.0, 12.0)})
    shown = seen.with_poses(256)
    # image (20, 40) is input (10, 20), whose block begins at 8 * (10, 20)
    assert shown[8 * 20 + 3 : 8 * 20 + 5, 8 * 10 + 3 : 8 * 10 + 5].tolist() == [[list(LEFT_COLOUR)] * 2] * 2
    assert shown[8 * 6 + 3 : 8 * 6 + 5, 8 * 22 + 3 : 8 * 22 + 5].tolist() == [[list(RIGHT_COLOUR)] * 2] * 2
    changed = np.argwhere((shown != 128).any(axis=-1))
    assert len(changed) < 500


def test_a_prediction_lies_over_the_truth_and_an_unlabelled_keypoint_has_none() -> None:
    shown = seen_with({LEFT_KNEE: (20.0, 40.0)}, {RIGHT_KNEE: (20.0, 40.0)}).with_poses(256)
    assert shown[164, 84].tolist() == list(LEFT_COLOUR)
    assert (seen_with({}, {}).with_poses(256) == 128).all()


def contains(picture: np.ndarray, part: np.ndarray) -> bool:
    """Whether a part is somewhere in a picture, to the pixel."""
    _least, _most, (left, top), _place = cv2.minMaxLoc(cv2.matchTemplate(picture, part, cv2.TM_SQDIFF))
    return np.array_equal(picture[top : top + part.shape[0], left : left + part.shape[1]], part)


def test_the_picture_of_an_image_shows_the_input_to_the_pixel_for_every_network(person: PersonInstance) -> None:
    networks = [network("a"), network("b", 64)]
    picture = image_picture(networks, person)
    for one in networks:
        (seen,) = look(one, [person])
        side = one.input_size * round(384 / one.input_size)
        assert contains(picture, enlarged(seen.pixels, side))
        assert contains(picture, seen.with_poses(side))
    assert picture.shape[0] > 2 * image_picture(networks[:1], person).shape[0] - 100


def test_the_whole_image_is_enlarged_to_be_seen_and_a_large_one_made_smaller(person: PersonInstance) -> None:
    assert 384 < image_picture([network()], person).shape[0] < 480
    large = np.zeros((1500, 1000, 3), dtype=np.uint8)
    cv2.imwrite(str(person.image), large)
    assert 1080 < image_picture([network()], person).shape[0] < 1200


def test_box_and_pose_are_drawn_in_the_whole_image(person: PersonInstance) -> None:
    cv2.imwrite(str(person.image), np.full((400, 400, 3), 128, dtype=np.uint8))
    picture = image_picture([network()], replace(person, box=(100.0, 120.0, 200.0, 160.0)))
    whole = picture[:400, :400]
    assert (whole[160:240, 100] > 200).all()  # the box's left edge
    assert (whole[160:240, 300] > 200).all()
    view = whole[160:240, 75]  # the square's: 1.25 * 200 around (200, 200), dashed
    assert (view > 250).all(axis=-1).any()
    assert (view == 128).all(axis=-1).any()
    assert (whole == RIGHT_COLOUR).all(axis=-1).any()
    assert not np.array_equal(read_image(person.image), whole)


def test_lines_are_as_wide_as_the_person_needs(person: PersonInstance) -> None:
    cv2.imwrite(str(person.image), np.full((800, 800, 3), 128, dtype=np.uint8))
    thickness = []
    for side in (80.0, 640.0):
        whole = image_picture([network()], replace(person, box=(100.0, 80.0, side, side)))
        thickness.append((whole[80 + int(side / 8), 94:107] != 128).any(axis=-1).sum())  # of the box's left edge
    assert thickness[1] >= 2 * thickness[0]


def test_a_grid_has_a_captioned_cell_for_every_person_and_network(person: PersonInstance) -> None:
    networks = [network("a"), network("b", 64)]
    people = [person, replace(person, annotation_id=2, box=(30.0, 5.0, 40.0, 80.0)), replace(person, annotation_id=3)]
    captions = ["first", "second", "third"]
    picture = grid(networks, people, captions, "title", columns=2)
    side = panel_side([32, 64])
    assert picture.shape[1] == 2 * (2 * side + 2) + 8
    for one in networks:
        for seen in look(one, people):
            assert contains(picture, captioned(seen.with_poses(side), one.name))
    rows = grid(networks, people, captions, "title", columns=1)
    assert rows.shape[0] > 3 * side
    assert rows.shape[1] == 2 * side + 2


def test_a_grid_of_one_network_does_not_repeat_its_name(person: PersonInstance) -> None:
    small = network()
    (seen,) = look(small, [person])
    picture = grid([small], [person], ["caption"], "title", columns=6)
    assert contains(picture, captioned(seen.with_poses(256), "caption"))


@pytest.mark.parametrize(
    ("count", "wanted", "positions"),
    [(10, 5, [1, 3, 5, 7, 9]), (7, 3, [1, 3, 5]), (3, 24, [0, 1, 2]), (1000, 1, [500]), (0, 4, [])],
)
def test_persons_are_spread_evenly(count: int, wanted: int, positions: list[int]) -> None:
    assert evenly_spread(count, wanted) == positions


def test_attention_has_a_row_a_network_and_a_column_a_layer_and_keypoint(person: PersonInstance) -> None:
    networks = [network("a"), network("b", 64, "resnet18")]
    one_row = attention_picture(networks[:1], person, [0, 5], "title")
    assert one_row.shape[1] == 7 * 256 + 6 * 4
    two_rows = attention_picture(networks, person, [0, 5], "title")
    assert two_rows.shape[1] == one_row.shape[1]
    assert two_rows.shape[0] > one_row.shape[0] + 256
    many = attention_picture(networks[:1], person, [0, 1, 2, 3], "title")
    assert many.shape[1] == 10 * 256 + 9 * 4
    assert many.shape[0] > one_row.shape[0] + 256


def test_a_map_is_marked_where_the_largest_logits_and_the_label_are(person: PersonInstance) -> None:
    small = network()
    (seen,) = look(small, [person])
    net, images = small.student.net, torch.from_numpy(seen.pixels).permute(2, 0, 1)[None]
    keypoints = (LEFT_KNEE, LSP.count - 1)  # labelled, and not labelled
    codec = build_codec(small.student.config)
    found = attention(net, codec, normalise(images, torch.device("cpu")), keypoints, attention_layers(net))
    picture = attention_picture([small], person, keypoints, "title")
    background = enlarged(seen.pixels, 256)
    truth, *peaks = (
        resized_points(place, seen.pixels, background)
        for place in (warp_points(person.keypoints_image[LEFT_KNEE], seen.to_input), *found.peaks[0].numpy())
    )
    for maps in found.maps.values():
        labelled, unlabelled = (with_heat(background, heat) for heat in maps[0].numpy())
        assert contains(picture, draw_cross(draw_square(labelled, truth), peaks[0]))
        assert contains(picture, draw_cross(unlabelled, peaks[1]))


def test_attention_leaves_the_network_as_it_was(person: PersonInstance) -> None:
    small = network()
    attention_picture([small], person, [0], "title")
    assert all(parameter.grad is None and parameter.requires_grad for parameter in small.student.net.parameters())
    assert not any(module._forward_hooks for module in small.student.net.modules())


def test_an_empty_map_is_said_to_be_empty() -> None:
    assert describe_map(np.zeros((8, 4), np.float32)) == "4x8, zero everywhere"
    assert describe_map(np.eye(8, dtype=np.float32)) == "8x8"
