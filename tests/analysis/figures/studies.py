"""Studies in a real store that figures are made of."""

from __future__ import annotations

import numpy as np

from analysis.figures.source import Source
from analysis.store import Store
from orchestrator import keys
from tests.analysis.recorded import StudyBuilder, Workbench, specification_of

MPII = {"keypoints": "mpii16", "splits": {"val": [{"annotations": "valid.json"}]}, "input_size": 64, "epochs": 3}
SEARCH = {
    "sampler": "tpe", "pruner": "median", "trials": 30, "seed": 0, "training_seed": 0,
    "space": {
        "distill.alpha": {"type": "float", "low": 0.01, "high": 10.0, "log": True, "when": {}},
        "distill.beta": {"type": "float", "low": 0.0, "high": 4.0, "log": False, "when": {}},
        "distill.sape.enabled": {"type": "categorical", "choices": [True, False], "when": {}},
        "distill.sape.projectors": {
            "type": "int", "low": 1, "high": 4, "log": False, "when": {"distill.sape.enabled": [True]},
        },
        "distill.sape.kernels": {
            "type": "categorical", "choices": [[3, 5, 7], [3, 5, 7, 7]], "when": {"distill.sape.enabled": [True]},
        },
    },
}  # fmt: skip


def source(workbench: Workbench, study: str, **options) -> Source:
    """The study as figures are made from it."""
    return Source(Store(workbench.uri), workbench.read(study), **options)


def sizes_study(workbench: Workbench) -> StudyBuilder:
    """Three networks on MPII at 64x64, of different cost."""
    layout = {"arms": ["SimCC", "CDKD", "CDKD-48"], "baseline": "SimCC", "labels": {"CDKD-48": "CDKD W48"}}
    builder = workbench.study("sizes", specification_of("sizes", table=layout))
    cost = {"SimCC": (28.6, 0.6), "CDKD": (28.6, 0.6), "CDKD-48": (63.7, 1.2)}
    for arm, first in (("SimCC", 0.783), ("CDKD", 0.794), ("CDKD-48", 0.801)):
        params_m, gflops = cost[arm]
        for seed in range(3):
            score = {"best/val/pckh@0.5": first + 0.002 * seed, "params_m": params_m, "gflops": gflops}
            builder.trial(arm, seed, score, protocol=MPII, params={"student.input_size": 64, "seed": seed})
    return builder


def projectors_study(workbench: Workbench) -> StudyBuilder:
    """One to four projectors, with SAU and with a linear layer in it, and a baseline without SAPE."""
    builder = workbench.study("count", specification_of("count", table={"arms": [], "baseline": "baseline"}))
    base = {"distill.sape.sau": "true", "distill.alpha": 1.0}
    off = base | {"distill.sape.enabled": "false", "distill.sape.extra_fc": "none", "distill.sape.projectors": 1}
    builder.trial("off", 0, {"best/val/pckh@0.5": 0.5}, params=off | {"seed": 0})
    for seed in range(2):
        own = base | {"distill.sape.enabled": "false", "distill.sape.extra_fc": "none", "distill.sape.projectors": 3}
        builder.trial("baseline", seed, {"best/val/pckh@0.5": 0.70 + 0.01 * seed}, params=own | {"seed": seed})
        for extra, height in (("none", 0.0), ("post_gap", -0.01)):
            for count in range(1, 5):
                own = base | {"distill.sape.enabled": "true", "distill.sape.extra_fc": extra}
                own |= {"distill.sape.projectors": count, "seed": seed, "runtime.threads": count}
                score = {"best/val/pckh@0.5": 0.72 + height + 0.01 * count - 0.003 * count**2 + 0.01 * seed}
                builder.trial(f"{extra}-{count}", seed, score, params=own)
    own = base | {"distill.sape.enabled": "true", "distill.sape.extra_fc": "none", "distill.sape.projectors": 3}
    builder.trial("alpha", 0, {"best/val/pckh@0.5": 0.9}, params=own | {"distill.alpha": 5.0, "seed": 0})
    return builder


def search_study(workbench: Workbench, study: str = "wide-search", trials: int = 20) -> StudyBuilder:
    """A search in which alpha decides, with a base, pruned trials and options that depend on another."""
    layout = {"arms": ["base"], "baseline": "base"}
    builder = workbench.study(study, specification_of(study, table=layout, seeds=[7], search=SEARCH))
    builder.trial("base", 7, {"best/val/pckh@0.5": 0.55, "train_seconds": 900.0})
    rng = np.random.default_rng(0)
    for number in range(trials):
        alpha, beta = 10 ** rng.uniform(-2, 1), rng.uniform(0, 4)
        is_on, count, layers = bool(rng.random() < 0.6), int(rng.integers(1, 5)), int(rng.integers(0, 2))
        score = 0.6 - 0.08 * np.log10(alpha) ** 2 - 0.004 * (beta - 2) ** 2 + 0.02 * is_on + 0.004 * rng.normal()
        state = keys.PRUNED if number % 5 == 4 else keys.FINISHED
        params = {
            "distill.alpha": alpha,
            "distill.beta": beta,
            "distill.sape.enabled": "true" if is_on else "false",
            "distill.sape.projectors": count if is_on else 3,
            "distill.sape.kernels": str([[3, 5, 7], [3, 5, 7, 7]][layers]),
        }
        seconds = 800.0 + 40 * count * is_on + 30 * rng.random()
        builder.trial(
            "search",
            7,
            {"best/val/pckh@0.5": score, "train_seconds": seconds},
            state=state,
            trial_id=f"search-{number:04d}",
            params=params,
        )
    return builder


PARTS = {"left_ankle": 0.01, "right_ankle": 0.02, "head_top": 0.0, "left_knee": -0.01, "right_knee": 0.0}


def parts_study(workbench: Workbench) -> StudyBuilder:
    """A baseline and a method, scored keypoint by keypoint and in groups, with diagnostics of a learned temperature."""
    layout = {"arms": ["plain", "ours", "late"], "baseline": "plain", "labels": {"ours": "CDKD"}}
    builder = workbench.study("parts", specification_of("parts", table=layout))
    for seed in range(3):
        plain = dict.fromkeys(PARTS, 0.5 + 0.01 * seed)
        ours = {part: plain[part] + gain * (1 + seed) for part, gain in PARTS.items()}
        for arm, scores in (("plain", plain), ("ours", ours)):
            groups = {"ankle": 0.5, "knee": 0.5, "head": 0.5, "unweighted": 0.5}
            summary = {f"best/val/pckh@0.5/{part}": value for part, value in (scores | groups).items()}
            ratio = [0.01 * (1 + seed), 0.02, 0.03]
            epochs = {
                "diag/tau": [15.0, 14.0, 13.0 + seed],
                "diag/alpha": [1.0] * 3,
                "diag/gradient_ratio_logit": ratio,
            }
            builder.trial(arm, seed, summary, epochs=epochs if arm == "ours" else None)
    builder.trial("late", 5, {"best/val/pckh@0.5/head_top": 0.9})
    return builder
