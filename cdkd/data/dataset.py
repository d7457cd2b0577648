"""Training examples: two crops of the same view of a person, and where the keypoints are in the student's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cdkd.config import AugmentationConfig, span
from cdkd.data.augmentation import View, plain_view, sample_view
from cdkd.data.crops import Cropper, Matrix, invert_affine, warp_points
from cdkd.data.errors import DataError
from cdkd.data.images import ImageCache, ImageSource
from cdkd.data.streams import generator
from cdkd.instances import PersonInstance
from cdkd.keypoints import KeypointSet


class PoseDataset(Dataset[dict[str, Tensor]]):
    """Examples of a list of persons.

    The random numbers of an example come from a stream of (seed, epoch, index), so its pixels are the
    same whichever process makes it.

    Args:
        instances: the persons.
        keypoint_set: their keypoints.
        student_size: side of the student's crop, pixels.
        teacher_size: side of the teacher's crop, pixels; None: examples have no teacher crop.
        box_padding: factor on the square around a person's box.
        warp: how that square fits into a crop (`data.warp`).
        augmentation: random views; None: the plain view of the box.
        seed: seed of the augmentation.
        image_cache: where images come from; None: read from file each time.

    One thread at a time may use it.
    """

    def __init__(
        self,
        instances: Sequence[PersonInstance],
        keypoint_set: KeypointSet,
        *,
        student_size: int,
        teacher_size: int | None,
        box_padding: float,
        warp: str = "size",
        augmentation: AugmentationConfig | None,
        seed: int,
        image_cache: ImageSource | None,
    ) -> None:
        self.instances = instances
        self.keypoint_set = keypoint_set
        self.student_size = student_size
        self.teacher_size = teacher_size
        self.box_padding = box_padding
        self.warp = warp
        self.augmentation = augmentation
        self.seed = seed
        self.image_cache: ImageSource = image_cache or ImageCache(False)
        self._cropper = Cropper()
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
        """One example: `batch` without the batch's dimension."""
        return {name: values[0] for name, values in self.batch([index]).items()}

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """The examples of a batch.

        Returns:
            student_image: uint8 (B, 3, S, S), RGB, channels last in memory.
            teacher_image: uint8 (B, 3, T, T), likewise, the same views; only with a `teacher_size`.
            keypoints_input: float64 (B, J, 2), x and y in pixels of the student's crop; arbitrary where unlabelled.
            visibility: int64 (B, J), 0 for a keypoint without a label.
            to_image: float32 (B, 2, 3), from student crop pixels to image pixels.
            index: int64 (B,), which instances.

        Raises:
            DataError: an image cannot be read.
        """
        views = [self.view(index) for index in indices]
        matrices = [view.affine(span(self.student_size, self.warp)) for view in views]
        keypoints_input, visibility = self._labels(indices, views, matrices)
        inverses = np.stack([invert_affine(matrix) for matrix in matrices]).astype(np.float32)
        return {
            **self._images(indices, matrices),
            "keypoints_input": keypoints_input,
            "visibility": visibility,
            "to_image": torch.from_numpy(inverses),
            "index": torch.as_tensor(indices),
        }

    def view(self, index: int) -> View:
        """The view of an example in the present epoch."""
        instance = self.instances[index]
        if self.augmentation is None:
            return plain_view(instance, self.box_padding)
        rng = generator(self.seed, "augmentation", int(self._epoch), index)
        return sample_view(instance, self.augmentation, self.keypoint_set, self.box_padding, rng)

    def _images(self, indices: Sequence[int], matrices: Sequence[Matrix]) -> dict[str, Tensor]:
        """The crops of a batch, each example's sampled from the full image by one map at two sizes."""
        sizes = {"student_image": self.student_size}
        if self.teacher_size is not None:
            sizes["teacher_image"] = self.teacher_size
        images = {name: torch.empty((len(indices), size, size, 3), dtype=torch.uint8) for name, size in sizes.items()}
        outputs = zip(*(values.numpy() for values in images.values()))
        for index, matrix, crops in zip(indices, matrices, outputs, strict=True):
            self._cropper.cut(self.image_cache.load(self.instances[index].image), matrix, crops, self.warp)
        return {name: values.permute(0, 3, 1, 2) for name, values in images.items()}

    def _labels(
        self, indices: Sequence[int], views: Sequence[View], matrices: Sequence[Matrix]
    ) -> tuple[Tensor, Tensor]:
        """Keypoints (B, J, 2) and visibilities (B, J); in a flipped view left and right keypoints change names."""
        keypoints, visibility = [], []
        for index, view, matrix in zip(indices, views, matrices, strict=True):
            instance = self.instances[index]
            names = self._flip_permutation if view.is_flipped else slice(None)
            keypoints.append(warp_points(instance.keypoints_image[names], matrix))
            visibility.append(instance.visibility[names])
        return torch.from_numpy(np.stack(keypoints)), torch.from_numpy(np.stack(visibility))


def use_one_opencv_thread() -> None:
    """Keep OpenCV from starting threads of its own: crops are too small to gain, and threads do not survive a fork."""
    cv2.setNumThreads(0)


class _Batches(Dataset[dict[str, Tensor] | DataError]):
    """The batches of one pass as items, so that torch's loader neither takes them apart nor puts them together."""

    def __init__(self, dataset: PoseDataset, batches: Sequence[Sequence[int]]) -> None:
        self.dataset = dataset
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, position: int) -> dict[str, Tensor] | DataError:
        """A batch, or why there is none: raised in a loader process, an error would lose its one line."""
        try:
            return self.dataset.batch(self.batches[position])
        except DataError as error:
            return error


def load_batches(
    dataset: PoseDataset, batches: Sequence[Sequence[int]], *, workers: int = 0, pins_memory: bool = False
) -> Iterator[dict[str, Tensor]]:
    """One pass over a data set, as `PoseDataset.batch` gives it.

    Args:
        dataset: the examples.
        batches: indices of each batch.
        workers: loader processes; 0: in this process.
        pins_memory: put batches where a GPU can fetch them from.

    Raises:
        DataError: an image cannot be read.
    """
    items = _Batches(dataset, batches)
    for batch in DataLoader(items, batch_size=None, num_workers=workers, pin_memory=pins_memory):
        if isinstance(batch, DataError):
            raise batch
        yield batch


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
