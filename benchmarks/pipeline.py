"""Pairs of teacher and student crops per second and core: from JPEG files, and from the cache of decoded images.

The peer is a straightforward OpenCV loader: read, to RGB, mirrored by a view with a negative stride where the view is
flipped (as the released code does), two bilinear warps from the whole image, floats normalised by ImageNet's mean and
deviation. A second peer flips in the map instead, which spares it two copies of the image. Their views and maps are
made beforehand and their labels and batches not at all; ours make all of it. Ours give bytes, which are normalised on
the device; an arm with that step on the CPU shows what it costs.

The images are like MPII's in size, and noise like a photograph's in its spectrum; so are boxes and augmentation. One
process, one thread, warm page cache. Before anything is timed the crops are compared, bit for bit: from JPEG, from the
cache, and by a plain warp of the whole image.

    python -m benchmarks.pipeline [--count 32] [--pairs 25]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.measure import compare, lines, write
from cdkd.config import AugmentationConfig
from cdkd.data.augmentation import View
from cdkd.data.crops import affine, crop
from cdkd.data.dataset import PoseDataset, load_batches
from cdkd.data.images import Image, ImageCache, ImageSource, read_image
from cdkd.data.pixel_cache import open_or_build
from cdkd.data.pixel_file import PixelFile
from cdkd.engine import IMAGENET_MEAN, IMAGENET_STD, normalise
from cdkd.instances import PersonInstance
from cdkd.keypoints import KEYPOINT_SETS

WIDTH, HEIGHT, QUALITY = 1280, 720, 86
TEACHER_SIZE, STUDENT_SIZE, BATCH_SIZE = 256, 64, 32
MEDIAN_BOX, BOX_SPREAD = 668.0, 0.5
AUGMENTATION = AugmentationConfig(0.0, 0.25, 30.0, 0.6, 0.5)
PADDING = 1.25
SEED = 0

MEAN = torch.tensor(IMAGENET_MEAN).view(3, 1, 1)
STD = torch.tensor(IMAGENET_STD).view(3, 1, 1)


def write_images(folder: Path, count: int, rng: np.random.Generator) -> list[Path]:
    """JPEG files of grey noise with a 1/f spectrum and a little of it in each colour."""
    fields = [_pink_noise(rng) for _ in range(12)]
    paths = []
    for number in range(count):
        light, *colours = (
            np.roll(fields[index], rng.integers(0, HEIGHT, 2), (0, 1)) for index in rng.permutation(12)[:4]
        )
        image = np.clip(128 + 45 * light[..., None] + 8 * np.dstack(colours), 0, 255).astype(np.uint8)
        paths.append(folder / f"{number:05}.jpg")
        cv2.imwrite(str(paths[-1]), image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return paths


def _pink_noise(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    frequency = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None])
    frequency[0, 0] = 1.0
    spectrum = rng.standard_normal((*frequency.shape, 2)).view(np.complex128)[..., 0] / frequency
    noise = np.fft.irfft2(spectrum, (HEIGHT, WIDTH))
    return np.asarray(noise / noise.std(), dtype=np.float64)


def draw_people(paths: Sequence[Path], rng: np.random.Generator) -> list[PersonInstance]:
    """One upright person in each image."""
    people = []
    for number, path in enumerate(paths):
        side = MEDIAN_BOX * np.exp(rng.normal(0, BOX_SPREAD))
        x, y = rng.uniform((WIDTH / 4, HEIGHT / 3), (WIDTH * 3 / 4, HEIGHT * 2 / 3))
        box = (float(x - side / 4), float(y - side / 2), float(side / 2), float(side))
        keypoints = rng.uniform(0, 1, (16, 2)) * box[2:] + box[:2]
        people.append(
            PersonInstance(path, number, number, box, box[2] * box[3], keypoints.astype(np.float32), np.full(16, 2))
        )
    return people


def dataset_of(people: list[PersonInstance], source: ImageSource) -> PoseDataset:
    """What a training reads."""
    return PoseDataset(
        people,
        KEYPOINT_SETS["mpii16"],
        student_size=STUDENT_SIZE,
        teacher_size=TEACHER_SIZE,
        box_padding=PADDING,
        augmentation=AUGMENTATION,
        seed=SEED,
        image_cache=source,
    )


def peer_crops(path: Path, view: View, *, mirrors_image: bool) -> list[Image]:
    """Both crops of one view, as a straightforward loader cuts them."""
    stored: Any = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    image: Any = cv2.cvtColor(stored, cv2.COLOR_BGR2RGB)
    center, is_flipped = view.center, view.is_flipped
    if is_flipped and mirrors_image:
        image = image[:, ::-1]
        center, is_flipped = (image.shape[1] - 1 - center[0], center[1]), False
    return [
        crop(image, affine(center, view.scale, view.rotation_degrees, size, is_flipped), size)
        for size in (STUDENT_SIZE, TEACHER_SIZE)
    ]


def peer_example(path: Path, view: View, *, mirrors_image: bool) -> list[Tensor]:
    """Both crops as normalised floats, channels first."""
    return [
        torch.from_numpy(cut).permute(2, 0, 1).contiguous().float().div_(255).sub_(MEAN).div_(STD)
        for cut in peer_crops(path, view, mirrors_image=mirrors_image)
    ]


def largest_difference(jpeg: PoseDataset, cached: PoseDataset) -> int:
    """Grey levels between the crops from JPEG, from the cache and by a plain warp of the whole image."""
    largest = 0
    for index, person in enumerate(jpeg.instances):
        view = jpeg.view(index)
        image = read_image(person.image)
        for name, size in (("student_image", STUDENT_SIZE), ("teacher_image", TEACHER_SIZE)):
            plain = crop(image, view.affine(size), size).astype(np.int16)
            for dataset in (jpeg, cached):
                made = dataset[index][name].permute(1, 2, 0).numpy()
                largest = max(largest, int(np.abs(plain - made).max()))
    return largest


def least_psnr(dataset: PoseDataset) -> float:
    """Decibels between our teacher crops and those of the peer that mirrors the image; the least of all."""
    errors = []
    for index, person in enumerate(dataset.instances):
        theirs = peer_crops(person.image, dataset.view(index), mirrors_image=True)[1].astype(np.float64)
        ours = dataset[index]["teacher_image"].permute(1, 2, 0).numpy()
        errors.append(np.square(theirs - ours).mean())
    return float(10 * np.log10(255**2 / max(*errors, 1e-12)))


def build(folder: Path, paths: Sequence[Path]) -> tuple[PixelFile, dict[str, float]]:
    """The cache, and how long it took by one thread and by one on each core."""
    rates = {}
    for workers in (1, None):
        started = time.perf_counter()
        cache = open_or_build(folder / f"cache-{workers}", paths, workers=workers)
        name = "one_thread" if workers else "all_cores"
        rates[f"images_per_s_{name}"] = len(paths) / (time.perf_counter() - started)
    sizes = {"cache": cache.file.stat().st_size, "jpeg": sum(path.stat().st_size for path in paths)}
    return cache, rates | {f"{name}_mb_per_image": size / len(paths) / 1e6 for name, size in sizes.items()}


def measure(folder: Path, count: int, pairs: int) -> dict[str, Any]:
    """Compare all arms on images written to a folder.

    Raises:
        ValueError: crops differ.
    """
    rng = np.random.default_rng(SEED)
    people = draw_people(write_images(folder, count, rng), rng)
    cache, built = build(folder, [person.image for person in people])
    jpeg, cached = dataset_of(people, ImageCache(False)), dataset_of(people, cache)
    difference = largest_difference(jpeg, cached)
    if difference:
        raise ValueError(f"crops differ by up to {difference} grey levels")
    views = [jpeg.view(index) for index in range(count)]
    batches = [list(range(count))[start : start + BATCH_SIZE] for start in range(0, count, BATCH_SIZE)]
    cpu = torch.device("cpu")

    def peer(mirrors_image: bool) -> None:
        for person, view in zip(people, views, strict=True):
            peer_example(person.image, view, mirrors_image=mirrors_image)

    def ours(dataset: PoseDataset, normalises: bool = False) -> None:
        for batch in load_batches(dataset, batches):
            if normalises:
                normalise(batch["student_image"], cpu)
                normalise(batch["teacher_image"], cpu)

    arms = {
        "OpenCV loader": lambda: peer(mirrors_image=True),
        "OpenCV loader, flip in the map": lambda: peer(mirrors_image=False),
        "cdkd, JPEG": lambda: ours(jpeg),
        "cdkd, JPEG, normalised": lambda: ours(jpeg, normalises=True),
        "cdkd, cache": lambda: ours(cached),
        "cdkd, cache, normalised": lambda: ours(cached, normalises=True),
    }
    report = compare(arms, "OpenCV loader", name="pipeline", pairs=pairs, units=count, unit="crop pair", seed=SEED)
    facts = {"largest_difference": difference, "least_psnr_to_mirrored_image_db": least_psnr(cached), "build": built}
    return report | facts


def main() -> None:
    """Measure in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=32, help="images, with one person each")
    parser.add_argument("--pairs", type=int, default=25, help="counted rounds")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        report = measure(Path(folder), args.count, args.pairs)
    print(lines(report))
    print(f"  crops equal bit for bit; {report['least_psnr_to_mirrored_image_db']:.1f} dB to the mirrored image")
    print("  " + ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in report["build"].items()))
    print(f"  {write(report)}")


if __name__ == "__main__":
    main()
