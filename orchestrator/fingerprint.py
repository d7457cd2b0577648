"""Identity of a result (fingerprint), and what must agree for two results to be compared (protocol).

A fingerprint covers the resolved semantic configuration (defaults and seed included), the content of the
data, the teacher and the version of the method's code. Where files lie does not enter; what they hold does.
"""

from __future__ import annotations

import functools
import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cdkd import METHOD_VERSION
from cdkd.config import TrainingConfig
from cdkd.identity import semantic_mapping
from cdkd.options import to_mapping
from orchestrator.plan import Metric

FILE_FIELDS = ("student.pretrained", "teacher.pretrained", "teacher.checkpoint")
"""Options that name a weights file: what it holds counts, not where it lies."""

PACKING = (".data/serialization_id", ".format_version", ".storage_alignment", "byteorder", "version")
"""Members of torch's archives that say how it is packed, not what it holds."""

VALUES_BEFORE_OPTIONS: dict[str, Any] = {
    "head.kind": "simcc",
    "data.warp": "size",
    "distill.feature_alignment": "sape",
    "distill.logit_alignment": "cca",
    "distill.sape.loss": "cosine",
    "distill.etht.direction": "auto",
    "train.decay": "step",
}
"""Options that came after the first results were recorded, with the value that these have without saying so."""

SAID_BY_THE_TEACHER = ("teacher.milestones",)
"""Options that came later and that nothing reads but the teacher's training, whose own identity counts them."""

METRIC_VERSION = 2
"""Raise it in the commit that changes what a score means."""

LENGTH = 16

PROTOCOL_FIELDS = (
    *("data", "splits", "holdout", "keypoints", "boxes", "head_size", "detector_boxes", "persons", "input_size"),
    *("flip_test", "flip_shift", "decoding", "metric", "metric_version", "epochs", "select", "select_by"),
)
"""The fields of `protocol`."""


def fingerprint(config: TrainingConfig, *, data_digest: str, teacher: str) -> str:
    """Identity of the result of one training, 16 hexadecimal digits.

    Args:
        config: the complete configuration, seed included.
        data_digest: `cdkd.data.content.content_digest` of its data.
        teacher: fingerprint of its teacher's training, `weights_digest` of a given file, or empty.

    Raises:
        OSError: a weights file that the configuration names cannot be read.
    """
    before = VALUES_BEFORE_OPTIONS.items()
    semantic = {
        path: value
        for path, value in semantic_mapping(config).items()
        if (path, value) not in before and path not in SAID_BY_THE_TEACHER
    }
    for path in FILE_FIELDS:
        if semantic.get(path):
            semantic[path] = weights_digest(Path(semantic[path]))
    versions = {"method": METHOD_VERSION, "metric": METRIC_VERSION}
    identity = {"config": semantic, "data": data_digest, "teacher": teacher, **versions}
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        OSError: it cannot be read.
    """
    return _unless_read(_bytes_digest, path)


def weights_digest(path: Path) -> str:
    """SHA-256 of what a weights file holds: torch's archive by its members, any other file by its bytes.

    torch.save writes the file's own name and a random id into the archive, so that equal tensors saved twice are
    different bytes.

    Raises:
        OSError: it cannot be read.
    """
    return _unless_read(_content_digest, path)


def _unless_read(digest: Callable[[str], str], path: Path) -> str:
    """The digest, read once as long as the file's size and time stay."""
    status = path.stat()
    return _remembered(digest, str(path), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _remembered(digest: Callable[[str], str], path: str, size: int, modified: int) -> str:
    return digest(path)


def _bytes_digest(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _content_digest(path: str) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            # the first folder is the file's name; what is in no folder is not torch's
            members = {name.partition("/")[2] or name: name for name in archive.namelist()}
            digests = {
                name: hashlib.sha256(archive.read(member)).hexdigest()
                for name, member in members.items()
                if name not in PACKING
            }
    except zipfile.BadZipFile:
        return _bytes_digest(path)
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def protocol(config: TrainingConfig, metric: Metric, data_digest: str) -> dict[str, Any]:
    """What must agree between two results that stand in one table (plain, JSON-ready)."""
    plain = to_mapping(config)
    evaluation = config.evaluation
    splits = {name: [_named(source) for source in plain["data"][name]] for name in ("train", "val", "test")}
    return {
        "data": data_digest,
        "splits": "drawn" if config.data.kind == "synthetic" else splits,
        "holdout": config.data.holdout if config.data.kind != "synthetic" and not config.data.val else 0.0,
        "keypoints": config.data.keypoint_set,
        "boxes": f"ground_truth x{config.data.box_padding:g}",
        "head_size": {split: _head_size(config, split) for split in ("val", "test")},
        "detector_boxes": _detector_boxes(config),
        "persons": f"keypoint scores above {evaluation.keypoint_score_threshold:g}, OKS NMS {evaluation.oks_nms:g}",
        "input_size": config.student.input_size,
        "flip_test": config.evaluation.flip_test,
        "flip_shift": config.flip_shift if config.evaluation.flip_test else "none",
        "decoding": config.decoding,
        "metric": metric.name,
        "metric_version": METRIC_VERSION,
        "epochs": config.train.epochs,
        "select": metric.select,
        "select_by": f"val/{config.evaluation.select}",
    }


def _head_size(config: TrainingConfig, split: str) -> str:
    """What normalises PCKh."""
    return "head boxes" if any(source.head_boxes for source in getattr(config.data, split)) else "head segment"


def _detector_boxes(config: TrainingConfig) -> str:
    """Which boxes of a person detector are scored beside the annotated ones."""
    if not any(source.detections for source in (*config.data.val, *config.data.test)):
        return "none"
    return f"scored {config.evaluation.detection_threshold:g} or more"


def _named(source: dict[str, str]) -> dict[str, str]:
    """The files that a source names."""
    return {role: name for role, name in source.items() if name}
