"""Training examples: two crops of the same view of a person, and the student's SimCC labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cdkd.config import AugmentationConfig
from cdkd.data.augmentation import View, plain_view, sample_view
from cdkd.data.crops import Matrix, crop, invert_affine, warp_points
from cdkd.data.errors import DataError
from cdkd.data.images import Image, ImageCache
from cdkd.data.streams import generator
from cdkd.instances import PersonInstance
from cdkd.keypoints import KeypointSet
from cdkd.simcc import encode


class PoseDataset(Dataset[dict[str, Tensor]]):
    """Examples of a list of persons.

    The random numbers of an example come from a stream of (seed, epoch, index), so its pixels are the
    same whichever process makes it.

    Args:
        instances: the persons.
        keypoint_set: their keypoints.
        student_size: side of the student's crop, pixels.
        teacher_size: side of the teacher's crop, pixels; None: examples have no teacher crop.
        split_ratio: SimCC bins per pixel of the student.
        box_padding: factor on the square around a person's box.
        augmentation: random views; None: the plain view of the box.
        seed: seed of the augmentation.
        image_cache: where images come from; None: read from file each time.
    """

    def __init__(
        self,
        instances: Sequence[PersonInstance],
        keypoint_set: KeypointSet,
        *,
        student_size: int,
        teacher_size: int | None,
        split_ratio: float,
        box_padding: float,
        augmentation: AugmentationConfig | None,
        seed: int,
        image_cache: ImageCache | None,
    ) -> None:
        self.instances = instances
        self.keypoint_set = keypoint_set
        self.student_size = student_size
        self.teacher_size = teacher_size
        self.split_ratio = split_ratio
        self.box_padding = box_padding
        self.augmentation = augmentation
        self.seed = seed
        self.image_cache = image_cache or ImageCache(False)
        self._flip_permutation = np.array(keypoint_set.flip_permutation)
        # In shared memory, because loader processes that outlive an epoch would keep a copy of its number.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        use_one_opencv_thread()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        use_one_opencv_thread()

    def set_epoch(self, epoch: int) -> None:
        """Draw the views of this epoch from now on, in all loader processes."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.instances)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One example.

        Returns:
            student_image: uint8 (3, S, S), RGB.
            teacher_image: uint8 (3, T, T), RGB, the same view; only with a `teacher_size`.
            bins: int64 (J, 2), the labels of the student's crop.
            weight: float32 (J,), 1 for a labelled keypoint inside the student's crop.
            to_image: float32 (2, 3), from student crop pixels to image pixels.
            index: int64 (), which instance.

        Raises:
            DataError: the image cannot be read.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Tensor]]:
        """The examples of a batch, labelled together; torch's loader asks for them by this name."""
        views = [self.view(index) for index in indices]
        matrices = [view.affine(self.student_size) for view in views]
        labels = self._labels(indices, views, matrices)
        return [
            {**self._images(index, matrix), "bins": bins, "weight": weight, "to_image": to_image, "index": which}
            for index, matrix, bins, weight, to_image, which in zip(
                indices, matrices, *labels, _inverses(matrices), torch.as_tensor(indices), strict=True
            )
        ]

    def view(self, index: int) -> View:
        """The view of an example in the present epoch."""
        instance = self.instances[index]
        if self.augmentation is None:
            return plain_view(instance, self.box_padding)
        rng = generator(self.seed, "augmentation", int(self._epoch), index)
        return sample_view(instance, self.augmentation, self.keypoint_set, self.box_padding, rng)

    def _images(self, index: int, matrix: Matrix) -> dict[str, Tensor]:
        """The crops of one example, sampled from the full image by one map at two sizes."""
        image = self.image_cache.load(self.instances[index].image)
        images = {"student_image": _channels_first(crop(image, matrix, self.student_size))}
        if self.teacher_size is not None:
            larger = matrix * (self.teacher_size / self.student_size)
            images["teacher_image"] = _channels_first(crop(image, larger, self.teacher_size))
        return images

    def _labels(
        self, indices: Sequence[int], views: Sequence[View], matrices: Sequence[Matrix]
    ) -> tuple[Tensor, Tensor]:
        """Bins (B, J, 2) and weights (B, J); in a flipped view left and right keypoints change names."""
        keypoints, visibility = [], []
        for index, view, matrix in zip(indices, views, matrices, strict=True):
            instance = self.instances[index]
            names = self._flip_permutation if view.is_flipped else slice(None)
            keypoints.append(warp_points(instance.keypoints_image[names], matrix))
            visibility.append(instance.visibility[names])
        return encode(np.stack(keypoints), np.stack(visibility), self.student_size, self.split_ratio)


def use_one_opencv_thread() -> None:
    """Keep OpenCV from starting threads of its own: crops are too small to gain, and threads do not survive a fork."""
    cv2.setNumThreads(0)


def _channels_first(image: Image) -> Tensor:
    """(S, S, 3) to (3, S, S); OpenCV's split is four times as fast as a strided copy."""
    planes = np.empty((3, *image.shape[:2]), dtype=np.uint8)
    cv2.split(image, list(planes))
    return torch.from_numpy(planes)


def _inverses(matrices: Sequence[Matrix]) -> Tensor:
    """The maps back to the image, float32 (B, 2, 3)."""
    return torch.from_numpy(np.stack([invert_affine(matrix) for matrix in matrices]).astype(np.float32))


def epoch_batches(
    count: int, batch_size: int, seed: int, epoch: int, rank: int = 0, world_size: int = 1
) -> list[list[int]]:
    """Indices of each batch of an epoch, in a random order that all ranks share.

    Every rank takes its part of each global batch, so that the batches together hold the same instances
    whatever the number of ranks. The incomplete last batch is left out.

    Args:
        count: number of instances.
        batch_size: instances of a batch over all ranks.
        seed: seed of the order.
        epoch: which epoch.
        rank: this rank.
        world_size: number of ranks.

    Raises:
        ValueError: the batch does not divide into equal parts, or there is no such rank.
        DataError: fewer instances than a batch.
    """
    if batch_size < 1 or batch_size % world_size:
        raise ValueError(f"batch_size must be a positive multiple of the {world_size} workers, got {batch_size}")
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be in 0..{world_size - 1}, got {rank}")
    if count < batch_size:
        raise DataError(f"{count} training instances do not fill one batch of {batch_size} (train.batch_size)")
    order = generator(seed, "order", epoch).permutation(count)
    whole = order[: count - count % batch_size].reshape(-1, batch_size)
    return [[int(index) for index in batch] for batch in whole[:, rank::world_size]]
