"""Training examples and the order they come in."""

import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from cdkd.config import AugmentationConfig, span
from cdkd.data.coco_layout import read_coco_layout
from cdkd.data.crops import warp_points
from cdkd.data.dataset import PoseDataset, epoch_batches, load_batches
from cdkd.data.errors import DataError
from cdkd.data.images import ImageCache
from cdkd.data.pixel_cache import open_or_build
from cdkd.instances import PersonInstance
from cdkd.keypoints import KEYPOINT_SETS

LSP = KEYPOINT_SETS["lsp14"]
FLIPPED = AugmentationConfig(0.0, 0.0, 0.0, 0.0, 1.0)
AUGMENTED = AugmentationConfig(0.3, 0.25, 30.0, 0.6, 0.5)
HALF_BODIES = AugmentationConfig(0.5, 0.5, 60.0, 0.8, 0.5)


def dataset_of(
    instances: list[PersonInstance], augmentation: AugmentationConfig | None = None, **changes
) -> PoseDataset:
    options = {
        "student_size": 32,
        "teacher_size": 128,
        "box_padding": 1.25,
        "augmentation": augmentation,
        "seed": 0,
        "image_cache": ImageCache(),
    }
    return PoseDataset(instances, LSP, **{**options, **changes})


@pytest.fixture
def people(write_layout) -> list[PersonInstance]:
    file, images = write_layout(image_count=6)
    return read_coco_layout(file, images, LSP).instances


def equal(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_an_example_has_what_the_contract_says(people):
    example = dataset_of(people, AUGMENTED)[3]
    assert {key: (value.dtype, tuple(value.shape)) for key, value in example.items()} == {
        "student_image": (torch.uint8, (3, 32, 32)),
        "teacher_image": (torch.uint8, (3, 128, 128)),
        "keypoints_input": (torch.float64, (14, 2)),
        "visibility": (torch.int64, (14,)),
        "to_image": (torch.float32, (2, 3)),
        "index": (torch.int64, ()),
    }
    assert example["index"] == 3


def test_without_a_teacher_size_there_is_no_teacher_image(people):
    example, with_teacher = dataset_of(people, AUGMENTED, teacher_size=None)[3], dataset_of(people, AUGMENTED)[3]
    assert "teacher_image" not in example
    del with_teacher["teacher_image"]
    assert equal(example, with_teacher)


def test_a_batch_equals_its_examples(people):
    dataset = dataset_of(people, AUGMENTED)
    batch = dataset.batch([4, 0, 5])
    assert batch["teacher_image"].shape == (3, 3, 128, 128)
    assert equal(default_collate([dataset[index] for index in (4, 0, 5)]), batch)


def test_images_lie_in_memory_as_networks_read_them(people):
    batch = dataset_of(people, AUGMENTED).batch([0, 1])
    for name in ("student_image", "teacher_image"):
        assert batch[name].is_contiguous(memory_format=torch.channels_last)


def test_keypoints_are_those_of_the_students_crop(people):
    example = dataset_of(people)[0]
    person = people[0]
    side = 70 * 1.25
    corner = np.array([50 - side / 2, 45 - side / 2])
    keypoints_input = (person.keypoints_image - corner) * 32 / side
    assert np.allclose(example["keypoints_input"].numpy(), keypoints_input)
    assert example["visibility"].tolist() == person.visibility.tolist()


def test_a_keypoint_outside_the_crop_keeps_its_place_and_an_unlabelled_one_is_known(write_layout, make_record):
    keypoints = [40.0, 40.0, 2] * 14
    keypoints[5] = 0
    keypoints[6:8] = [119.0, 40.0]
    file, images = write_layout([make_record(1, 1, keypoints=keypoints)])
    example = dataset_of(read_coco_layout(file, images, LSP).instances)[0]
    assert example["visibility"].tolist() == [2, 0, 2] + [2] * 11
    assert example["keypoints_input"][2, 0] > 32


@pytest.mark.parametrize("index", range(6))
def test_to_image_leads_from_the_crop_back_to_the_keypoints(people, index: int):
    example = dataset_of(people, AUGMENTED)[index]
    keypoints_input = example["keypoints_input"].numpy()
    back = warp_points(keypoints_input, example["to_image"].numpy())
    is_flipped = dataset_of(people, AUGMENTED).view(index).is_flipped
    expected = people[index].keypoints_image[list(LSP.flip_permutation) if is_flipped else slice(None)]
    assert np.abs(back - expected).max() < 1e-3


@pytest.mark.parametrize(("warp", "ratio"), [("size", 4.0), ("size_minus_one", 127 / 31)])
def test_both_crops_show_a_dot_at_places_related_by_the_ratio_of_their_sizes(write_layout, make_record, warp, ratio):
    """One view at two sizes: x_teacher = m * x_student, here found again from the pixels."""
    keypoints = [60.0, 45.0, 2] * 14
    file, images = write_layout([make_record(1, 1, keypoints=keypoints)], image_count=1)
    picture = np.zeros((90, 120, 3), np.uint8)
    cv2.circle(picture, (60, 45), 4, (255, 255, 255), -1)
    cv2.imwrite(str(images / "people1.png"), picture)
    people = read_coco_layout(file, images, LSP).instances
    for epoch in range(8):
        dataset = dataset_of(people, AUGMENTED, warp=warp)
        dataset.set_epoch(epoch)
        example = dataset[0]
        student, teacher = (center_of_mass(example[name]) for name in ("student_image", "teacher_image"))
        exact = warp_points([60, 45], dataset.view(0).affine(span(32, warp)))
        assert np.abs(teacher - ratio * exact).max() < 0.2
        assert np.abs(student - exact).max() < 0.3
        assert np.abs(example["keypoints_input"][0].numpy() - exact).max() < 1e-9


def test_with_the_warp_of_one_pixel_less_a_box_goes_from_the_first_pixels_centre_to_the_last_ones(people):
    example = dataset_of(people, box_padding=1.0, warp="size_minus_one")[0]
    left, top, width, height = people[0].box
    assert width != height
    corners = np.array([left + width / 2, top + height / 2]) + max(width, height) / 2 * np.array([[-1, -1], [1, 1]])
    back = warp_points([[0, 0], [31, 31]], example["to_image"].numpy())
    assert np.abs(back - corners).max() < 1e-4


def test_with_the_warp_of_one_pixel_less_a_flipped_view_mirrors_pixels_and_keypoints_alike(people):
    plain, flipped = (dataset_of(people, view, warp="size_minus_one")[0] for view in (None, FLIPPED))
    names = list(LSP.flip_permutation)
    mirrored = plain["keypoints_input"][names] * torch.tensor([-1.0, 1.0]) + torch.tensor([31.0, 0.0])
    assert torch.allclose(flipped["keypoints_input"], mirrored)
    difference = flipped["student_image"].int() - plain["student_image"].flip(-1).int()
    assert difference.abs().float().mean() < 2


def center_of_mass(image: torch.Tensor) -> np.ndarray:
    mass = image[0].numpy().astype(float)
    rows, columns = np.indices(mass.shape)
    return np.array([(columns * mass).sum(), (rows * mass).sum()]) / mass.sum()


def test_in_a_flipped_view_left_and_right_change_names(people):
    plain, flipped = dataset_of(people)[0], dataset_of(people, FLIPPED)[0]
    left, right = LSP.names.index("left_wrist"), LSP.names.index("right_wrist")
    neck = LSP.names.index("neck")
    for here, there in ((left, right), (right, left), (neck, neck)):
        mirrored = 32 - plain["keypoints_input"][there, 0]
        assert flipped["keypoints_input"][here, 0] == pytest.approx(mirrored)
        assert flipped["keypoints_input"][here, 1] == pytest.approx(plain["keypoints_input"][there, 1])
    assert plain["keypoints_input"][left, 0] != plain["keypoints_input"][right, 0]


def test_visibility_goes_with_the_name(write_layout, make_record):
    keypoints = [40.0, 40.0, 2] * 14
    wrist = LSP.names.index("left_wrist")
    keypoints[3 * wrist + 2] = 0
    file, images = write_layout([make_record(1, 1, keypoints=keypoints)])
    people = read_coco_layout(file, images, LSP).instances
    assert dataset_of(people)[0]["visibility"][wrist] == 0
    visibility = dataset_of(people, FLIPPED)[0]["visibility"]
    assert visibility[wrist] == 2
    assert visibility[LSP.names.index("right_wrist")] == 0


def test_views_depend_on_seed_epoch_and_index_alone(people):
    dataset = dataset_of(people, AUGMENTED)
    dataset.set_epoch(3)
    first = dataset[2]
    dataset.set_epoch(4)
    assert not equal(first, dataset[2])
    dataset.set_epoch(3)
    assert equal(first, dataset[2])
    other = dataset_of(people, AUGMENTED, seed=1)
    other.set_epoch(3)
    assert not equal(first, other[2])
    larger = dataset_of(people, AUGMENTED, student_size=64, teacher_size=None)
    larger.set_epoch(3)
    assert larger.view(2) == dataset.view(2), "the student's size moves no random number"


@pytest.mark.parametrize("source", ["file", "memory", "pixel cache"])
def test_any_source_and_number_of_loader_processes_gives_the_same_pixels_in_every_epoch(tmp_path, people, source: str):
    caches = {
        "file": lambda: ImageCache(False),
        "memory": ImageCache,
        "pixel cache": lambda: open_or_build(tmp_path / "cache", [person.image for person in people]),
    }
    batches = [[3, 0], [5], [1, 2, 4]]
    expected = dataset_of(people, HALF_BODIES, image_cache=None)
    for workers in (0, 2):
        dataset = dataset_of(people, HALF_BODIES, image_cache=caches[source]())
        seen = []
        for epoch in (1, 2):
            dataset.set_epoch(epoch)
            expected.set_epoch(epoch)
            loaded = list(load_batches(dataset, batches, workers=workers))
            assert len(loaded) == len(batches)
            for indices, batch in zip(batches, loaded, strict=True):
                assert equal(batch, expected.batch(indices))
            seen.append(loaded)
        assert not equal(seen[0][0], seen[1][0])


def test_loader_processes_that_outlive_an_epoch_learn_of_the_next_one(people):
    dataset, expected = dataset_of(people, AUGMENTED), dataset_of(people, AUGMENTED)
    loader = DataLoader(dataset, batch_size=2, num_workers=1, persistent_workers=True)
    for epoch in (1, 2):
        dataset.set_epoch(epoch)
        expected.set_epoch(epoch)
        first = next(iter(loader))
        assert equal(first, expected.batch([0, 1]))


def test_views_across_the_border_are_the_same_from_the_pixel_cache(tmp_path: Path, write_layout, make_record):
    """Persons at the borders and over them, plain and in many random views."""
    boxes = [[0, 0, 20, 30], [100, 60, 20, 30], [-10, 20, 30, 80], [0, 0, 120, 90], [60, 80, 50, 30], [90, -5, 60, 15]]
    file, images = write_layout([make_record(n, n % 3 + 1, bbox=box) for n, box in enumerate(boxes)])
    people = read_coco_layout(file, images, LSP).instances
    cache = open_or_build(tmp_path / "cache", [person.image for person in people])
    for augmentation, epochs in ((None, 1), (HALF_BODIES, 30)):
        cached = dataset_of(people, augmentation, image_cache=cache)
        direct = dataset_of(people, augmentation, image_cache=None)
        for epoch in range(epochs):
            cached.set_epoch(epoch)
            direct.set_epoch(epoch)
            everyone = range(len(people))
            assert equal(cached.batch(everyone), direct.batch(everyone))


class NowhereButHere:
    """Instead of images it tells which process asks."""

    def load(self, path: Path) -> np.ndarray:
        raise DataError(str(os.getpid()))


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_made_in_loader_processes_when_there_are_any(people, workers: int):
    with pytest.raises(DataError) as caught:
        list(load_batches(dataset_of(people, image_cache=NowhereButHere()), [[0]], workers=workers))
    assert (str(caught.value) == str(os.getpid())) == (workers == 0)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_met_by_a_loader_is_one_line(people, workers: int):
    people[1].image.write_bytes(b"")
    with pytest.raises(DataError) as caught:
        list(load_batches(dataset_of(people), [[0], [1]], workers=workers))
    assert str(caught.value) == f"{people[1].image}: image file is empty"


def test_opencv_uses_no_threads_of_its_own(people):
    dataset = dataset_of(people)
    assert cv2.getNumThreads() == 1
    cv2.setNumThreads(2)
    restored = pickle.loads(pickle.dumps(dataset))
    assert cv2.getNumThreads() == 1
    assert equal(restored[1], dataset[1])


def test_a_broken_image_is_named(people):
    people[1].image.write_bytes(b"")
    with pytest.raises(DataError, match=r"people2\.png: image file is empty"):
        dataset_of(people)[1]


def test_a_list_of_batches_covers_the_epoch_and_drops_the_rest():
    batches = epoch_batches(23, 5, seed=0, epoch=1)
    flat = [index for batch in batches for index in batch]
    assert [len(batch) for batch in batches] == [5, 5, 5, 5]
    assert len(set(flat)) == 20
    assert set(flat) <= set(range(23))
    assert all(type(index) is int for index in flat)


def test_the_order_changes_with_seed_and_epoch_only():
    assert epoch_batches(50, 10, 0, 1) == epoch_batches(50, 10, 0, 1)
    assert epoch_batches(50, 10, 0, 1) != epoch_batches(50, 10, 0, 2)
    assert epoch_batches(50, 10, 0, 1) != epoch_batches(50, 10, 1, 1)


@pytest.mark.parametrize("world_size", [1, 2, 3, 6])
def test_ranks_share_each_global_batch(world_size: int):
    whole = epoch_batches(40, 12, 3, 2)
    parts = [epoch_batches(40, 12, 3, 2, rank, world_size) for rank in range(world_size)]
    for step, batch in enumerate(whole):
        assert [part[step] for part in parts] == [batch[rank::world_size] for rank in range(world_size)]


def test_batches_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="positive multiple of the 4 workers, got 6"):
        epoch_batches(50, 6, 0, 0, 0, 4)
    with pytest.raises(ValueError, match="positive multiple of the 1 workers, got 0"):
        epoch_batches(50, 0, 0, 0)
    with pytest.raises(ValueError, match=r"rank must be in 0\.\.1, got 2"):
        epoch_batches(50, 6, 0, 0, 2, 2)
    with pytest.raises(DataError, match="7 training instances do not fill one batch of 8"):
        epoch_batches(7, 8, 0, 0)
    assert len(epoch_batches(8, 8, 0, 0)) == 1


@pytest.mark.parametrize(
    ("annotations", "images", "keypoint_set"),
    [
        ("lsp/train.json", "lsp/images", "lsp14"),
        ("coco/annotations/person_keypoints_val2017.json", "coco/val2017", "coco17"),
    ],
)
def test_real_crops_of_both_sizes_show_the_same(shared_data: Path, annotations: str, images: str, keypoint_set: str):
    names = KEYPOINT_SETS[keypoint_set]
    people = read_coco_layout(shared_data / annotations, shared_data / images, names).instances[::60]
    options = {"student_size": 64, "teacher_size": 256, "box_padding": 1.25, "seed": 0}
    dataset = PoseDataset(people, names, augmentation=AUGMENTED, image_cache=None, **options)
    correlations = []
    for example in map(dataset.__getitem__, range(len(people))):
        # student pixel x is teacher pixel 4 x, not the mean of 4 x .. 4 x + 3: no half-pixel term
        teacher = example["teacher_image"][:, ::4, ::4].flatten().double()
        student = example["student_image"].flatten().double()
        correlations.append(float(torch.corrcoef(torch.stack([teacher, student]))[0, 1]))
    assert len(correlations) > 10
    assert min(correlations) > 0.99
