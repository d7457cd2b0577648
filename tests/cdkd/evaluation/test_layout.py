"""A split as COCO's evaluation reads it."""

from pathlib import Path

import numpy as np

from cdkd.evaluation.layout import flat_triples, ground_truth, image_numbers
from cdkd.instances import IgnoredRegion, ImageRecord, Split


def test_images_of_equal_ids_in_two_files_stay_apart_and_in_order(make_person):
    people = [make_person(number=7, source=source, image_id=image) for source, image in ((1, 3), (0, 9), (0, 3))]
    split = Split(
        people, {(0, 5): ImageRecord(Path("empty.png"))}, [IgnoredRegion((1, 1), (0.0, 0.0, 1.0, 1.0), 1.0, True)]
    )
    assert image_numbers(split) == {(0, 3): 1, (0, 5): 2, (0, 9): 3, (1, 1): 4, (1, 3): 5}


def test_persons_regions_and_empty_images_are_all_in_the_layout(make_person):
    person = make_person("lsp14", image_id=4)
    person.visibility[0], person.visibility[1], person.keypoints_image[0] = 0, 1, np.nan
    region = IgnoredRegion((0, 6), (1.0, 2.0, 3.0, 4.0), 5.0, True)
    images = {(0, 4): ImageRecord(Path("a.png"), crowd_index=0.25), (0, 5): ImageRecord(Path("b.png"))}
    split = Split([person], images, [region, IgnoredRegion((0, 5), (0.0, 0.0, 2.0, 2.0), 4.0, False)])
    layout = ground_truth(split, image_numbers(split))
    assert layout["images"] == [{"id": 1, "crowdIndex": 0.25}, {"id": 2}, {"id": 3}]
    first, *regions = layout["annotations"]
    keypoints = first.pop("keypoints")
    assert first == {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [0.0, 0.0, 100.0, 100.0],
        "area": 10000.0,
        "iscrowd": 0,
        "num_keypoints": 13,
    }
    assert keypoints[:6] == [0.0, 0.0, 0.0, *person.keypoints_image[1].tolist(), 1.0]
    expected = {"num_keypoints": 0, "keypoints": [], "category_id": 1}
    assert regions == [
        {"id": 2, "image_id": 3, "bbox": [1.0, 2.0, 3.0, 4.0], "area": 5.0, "iscrowd": 1, **expected},
        {"id": 3, "image_id": 2, "bbox": [0.0, 0.0, 2.0, 2.0], "area": 4.0, "iscrowd": 0, **expected},
    ]


def test_triples_interleave_points_and_values():
    points, values = np.arange(8).reshape(2, 2, 2), [[0.1, 0.2], [0.3, 0.4]]
    assert flat_triples(points, values) == [[0, 1, 0.1, 2, 3, 0.2], [4, 5, 0.3, 6, 7, 0.4]]
