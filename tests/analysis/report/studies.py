"""A study in a real store with everything that a report tells of."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import yaml

from analysis.report.trials import trials_of
from analysis.store import Store
from orchestrator import keys
from tests.analysis.recorded import StudyBuilder, Workbench, specification_of

TEACHER = "feed" * 4
LAYOUT = {
    "columns": ["val/pckh@0.5", "train_seconds"],
    "baseline": "base",
    "arms": ["base", "full", "crash"],
    "labels": {"full": "CDKD <full>"},
}
SPECIFICATION = {
    "question": "Does it help & what does it cost?",
    "seeds": [0, 1],
    "resources": {"num_workers": 2, "gpus_per_worker": 0.5, "cpus_per_worker": 4},
    "teachers": ["teacher-new"],
    "machine": {"cpu": "EPYC", "cpus": 16, "gpus": ["H200", "H200"]},
    "versions": {"python": "3.11.9", "torch": "2.6.0"},
    "command": "cdkd run /home/jane/studies/reported.yaml --set train.epochs=3",
}
PROTOCOL = {
    "data": "cafe" * 8,
    "splits": {"val": [{"annotations": "val.json", "images": "val"}]},
    "epochs": 3,
    "select_by": "val/pckh@0.5",
}
CONFIG = {
    "seed": 0,
    "data": {"kind": "coco_layout", "root": "/home/jane/data"},
    "teacher": {"checkpoint": "/home/jane/teacher.pt", "epochs": 8},
    "distill": {"alpha": 1.0},
}


def reported_study(workbench: Workbench, study: str = "reported", **changes) -> StudyBuilder:
    """Two arms and a broken one, two seeds, a teacher: finished, retried, taken over, failed and running trials."""
    builder = workbench.study(study, specification_of(study, table=LAYOUT, **(SPECIFICATION | changes)))
    base = {"protocol": PROTOCOL, "revision": "abc123", "attempt": "1"}
    for seed in (0, 1):
        _trial(builder, "base", seed, 0.70 + seed / 100, seconds=3600.0, alpha="0.0", **base)
    distilled = base | {"teacher": TEACHER}
    _trial(builder, "full", 0, 0.75, seconds=7200.0, alpha="1.0", **(distilled | {"attempt": "3"}))
    taken = {"attempt": "0", "reused_from": "other/full-seed1"}
    _trial(builder, "full", 1, 0.77, seconds=7200.0, alpha="1.0", **(distilled | taken))
    for seed, state, seconds in ((0, keys.FAILED, [600.0, 1200.0]), (1, keys.RUNNING, [600.0])):
        reason = "No space left" if state == keys.FAILED else ""
        own = distilled | {"state": state, "reason": reason, "epochs": {"time/epoch_seconds": seconds}}
        _trial(builder, "crash", seed, None, alpha="2.0", **own)
    for name, fingerprint in (("new", TEACHER), ("old", "0" * 16)):
        own = base | {"kind": "teacher", "fingerprint": fingerprint, "trial_id": f"teacher-{name}"}
        network = {"student.backbone": "hrnet_w48", "student.input_size": 128}
        protocol = PROTOCOL | {"epochs": 8}
        builder.trial("teacher", 0, {"train_seconds": 1800.0}, params=network, **(own | {"protocol": protocol}))
    return builder


def _trial(builder: StudyBuilder, arm: str, seed: int, score: float | None, *, alpha: str, **tags) -> None:
    seconds = tags.pop("seconds", None)
    cost = {"params_m": 28.5, "gflops": 0.6, "train_seconds": seconds}
    summary = {} if score is None else {"best/val/pckh@0.5": score, **cost}
    params = {
        "seed": seed,
        "data.root": "/home/jane/data",
        "runtime.threads": 4,
        "train.milestones": "[0.8095238095238095, 5]",
        "student.pretrained": "",
        "distill.alpha": alpha,
    }
    run_id = builder.trial(arm, seed, summary, params=params, **tags)
    config = CONFIG | {"seed": seed, "distill": {"alpha": float(alpha)}}
    builder.client.log_text(run_id, yaml.safe_dump(config, sort_keys=False), "config.yaml")


def trials(workbench: Workbench, study: str) -> pd.DataFrame:
    return trials_of(Store(workbench.uri), workbench.read(study))


def texts(sheet) -> list[list[str]]:
    """The entries of a sheet."""
    return [[entry.text for entry in row] for row in sheet.rows]


def everything(folder: Path) -> str:
    """All text files below a folder."""
    return "\n".join(
        path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in (".tex", ".txt", ".yaml", "")
    )
