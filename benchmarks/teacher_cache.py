"""Training steps per second with the teacher asked, kept, and recalled (`runtime.teacher_cache_gb`).

The peer is what every distillation loop does: the teacher looks at each batch of each arm. `keeps` is the first arm of
a seed, which also writes what the teacher says; `recalls` is every later one. Full CDKD, HRNet-W16 at 32 pixels from
HRNet-W16 at 128 on drawn people: the sizes of profile `lsp`. One process, one thread, warm page cache. Gradient ratios
are measured at four steps of a pass, as in an epoch, which has more steps. Before anything is timed the losses of one
pass are compared, bit for bit.

    python -m benchmarks.teacher_cache [--steps 12] [--pairs 9]
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import compare, lines, write
from cdkd.checkpoint import save_tensors
from cdkd.config import TrainingConfig, resolve
from cdkd.data.dataset import epoch_batches
from cdkd.data.streams import torch_generator
from cdkd.distill.teacher_cache import TeacherCache
from cdkd.engine import train_one_epoch
from cdkd.heads.table import build_pose_net
from cdkd.keypoints import KEYPOINT_SETS
from cdkd.training import Training

SIZES = {"student": 32, "teacher": 128, "batch": 32}
CACHE_BYTES = 10**10


def configuration(steps: int, sizes: Mapping[str, int]) -> TrainingConfig:
    """A CDKD training of so many steps an epoch."""
    drawn = {"train_images": steps * sizes["batch"], "val_images": 8, "image_size": 192}
    return resolve(
        {
            "data": {"kind": "synthetic", "synthetic": drawn},
            "student": {"backbone": "hrnet_w16", "input_size": sizes["student"]},
            "teacher": {"backbone": "hrnet_w16", "input_size": sizes["teacher"]},
            "simcc.split_ratio": 2.0,
            "train.batch_size": sizes["batch"],
            "runtime": {"threads": 1, "device": "cpu"},
        }
    )


def a_teacher(config: TrainingConfig, folder: Path) -> Path:
    """A file of weights as they are drawn: what a teacher knows takes no time."""
    count = KEYPOINT_SETS[config.data.keypoint_set].count
    net = build_pose_net(config.for_teacher(), count, generator=torch_generator(0, "teacher"))
    save_tensors(folder / "teacher.pt", {"state_dict": net.state_dict()})
    return folder / "teacher.pt"


class Arm:
    """Trains pass after pass on the same batches."""

    def __init__(self, config: TrainingConfig, folder: Path, teacher: Path, cache: TeacherCache | None) -> None:
        self.training = Training(config, lambda _: False, folder, teacher)
        self.dataset = self.training.train_dataset(config.data.augmentation)
        self.dataset.set_epoch(1)
        self.batches = epoch_batches(len(self.dataset), config.train.batch_size, config.seed, 1)
        self.cache = cache

    def __call__(self) -> dict[str, float]:
        """One pass; its mean losses."""
        training = self.training
        return train_one_epoch(
            training.distiller,
            training.distiller,
            training.load(self.dataset, self.batches),
            training.optimizers,
            arithmetic=training.arithmetic,
            epoch=1,
            steps=len(self.batches),
            teacher_cache=self.cache,
        )


def measure(folder: Path, steps: int, pairs: int, sizes: Mapping[str, int] = SIZES) -> dict[str, Any]:
    """Compare all arms; what they write lies in a folder.

    Raises:
        ValueError: losses differ.
    """
    config = configuration(steps, sizes)
    teacher = a_teacher(config, folder)
    caches = (TeacherCache(folder / "cache", CACHE_BYTES, {"round": number}) for number in itertools.count())
    first = next(caches)
    asks, keeps, recalls = (Arm(config, folder, teacher, cache) for cache in (None, first, first))

    def keep() -> None:
        keeps.cache = recalls.cache = next(caches)
        keeps()

    if not asks() == keeps() == recalls():
        raise ValueError("losses differ")
    arms: dict[str, Callable[[], object]] = {"asks the teacher": asks, "asks and keeps": keep, "recalls": recalls}
    report = compare(arms, "asks the teacher", name="teacher_cache", pairs=pairs, units=steps, unit="step")
    size = sum(entry.stat().st_size for entry in first.entries.iterdir())
    return report | {"sizes": dict(sizes), "kilobytes_per_view": size / steps / sizes["batch"] / 1e3}


def main() -> None:
    """Measure in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, help="training steps of a pass")
    parser.add_argument("--pairs", type=int, default=9, help="counted rounds")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = measure(Path(folder), args.steps, args.pairs)
    print(lines(report))
    print(f"  losses equal bit for bit; {report['kilobytes_per_view']:.0f} kB a person and view")
    print(f"  {write(report)}")


if __name__ == "__main__":
    main()
