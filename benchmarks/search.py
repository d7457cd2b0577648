"""How fast a search gets to good configurations: our conductor, sampler and ledger on a surrogate of trainings.

Nothing is trained. A network fitted to LCBench (YAHPO Gym's, Apache-2.0: `model.onnx`, `encoding.json`) answers what
a training of so many epochs reaches and how long it takes, so that workers run by a simulated clock. Arms:

    random           uniform draws, many seeds
    optuna           Optuna alone at its own defaults: TPESampler(seed) in a plain loop, in memory
    ours_1, ours_8   the default sampler with one worker, and with eight asynchronous ones
    ours_asha, ...   the default sampler with a pruner at its defaults, one worker

Regret is that of the best trial of full length so far; 0 is the best value known of a task, 1 the median of random
configurations. Budgets are in trainings of full length, counted as epochs are reported. Without a pruner that is
at a trial's end: what runs at a mark is neither spent nor an incumbent, so that eight workers are charged for nothing
but proposals made on fewer results. The ledger lies in memory: disks are not measured here.

    python -m benchmarks.search --surrogate FOLDER --seeds 5
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import CONFIDENCE, environment, write
from orchestrator.conductor import WAIT, Conductor
from orchestrator.execution import STOPPED, Job, Outcome
from orchestrator.keys import FINISHED
from orchestrator.ledger import Ledger
from orchestrator.paths import StudyPaths
from orchestrator.plan import Metric, Plan, Resources, SearchSpec, TableSpec, TrialSpec
from orchestrator.sampler import make_sampler
from orchestrator.search_options import rungs, with_defaults, with_sampler_defaults
from orchestrator.sections import SearchSection
from orchestrator.space import suggest

VARIABLE = "CDKD_SEARCH_SURROGATE"
TASKS = ("167168", "189873", "189906")  # of YAHPO-SO, the suite for one objective
EPOCHS, BUDGET, MARKS = 52, 100, (10, 25, 50, 100)
METRIC = Metric("val/accuracy", "max", "last")
REFERENCE = 100_000  # random configurations for the scale of a task
RANDOM_SEEDS = 200
RESAMPLES = 2000
ACCURACY, TIME = 1, 0  # columns of the surrogate's answer


def _number(kind: str, low: float, high: float, *, log: bool = False) -> dict[str, Any]:
    return {"type": kind, "low": low, "high": high, "log": log, "step": None, "when": {}}


SPACE = {
    "batch_size": _number("int", 16, 512, log=True),
    "learning_rate": _number("float", 1e-4, 0.1, log=True),
    "momentum": _number("float", 0.1, 0.99),
    "weight_decay": _number("float", 1e-5, 0.1),
    "num_layers": _number("int", 1, 5),
    "max_units": _number("int", 64, 1024, log=True),
    "max_dropout": _number("float", 0.0, 1.0),
}
"""The surrogate's options, in its own order (after the epoch)."""


class Surrogate:
    """What trainings of one task would report.

    Args:
        folder: with `model.onnx` and `encoding.json`.
        task: OpenML's number of it.
    """

    def __init__(self, folder: Path, task: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
        self._code = json.loads((folder / "encoding.json").read_text())["OpenML_task_id"][task]

    def ask(self, configurations: np.ndarray, epochs: Sequence[int]) -> np.ndarray:
        """Seconds and accuracies.

        Args:
            configurations: (n, 7) values in the order of SPACE.
            epochs: m of them, from 1.

        Returns:
            (n, m, 2): seconds since the start, and accuracy in percent, at each epoch.
        """
        rows = np.repeat(configurations, len(epochs), axis=0)
        continuous = np.column_stack([np.tile(epochs, len(configurations)), rows]).astype(np.float32)
        category = np.full((len(rows), 1), self._code, dtype=np.int32)
        (answer,) = self._session.run(None, {"x_cat": category, "x_cont": continuous})
        return np.asarray(answer, dtype=float).reshape(len(configurations), len(epochs), -1)[..., [TIME, ACCURACY]]

    def curve(self, options: Mapping[str, Any], epochs: Sequence[int]) -> np.ndarray:
        """(m, 2) of one configuration; time never runs backwards."""
        answer = self.ask(np.array([[options[name] for name in SPACE]]), epochs)[0]
        answer[:, 0] = np.maximum.accumulate(np.maximum(answer[:, 0], 1e-3))
        return answer


def draw(count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 7) random configurations."""
    columns = []
    for each in SPACE.values():
        low, high = (np.log([each["low"], each["high"]]) if each["log"] else [each["low"], each["high"]])[:2]
        values = rng.uniform(low, high, count) if each["type"] == "float" or each["log"] else None
        values = rng.integers(low, high, count, endpoint=True).astype(float) if values is None else values
        values = np.exp(values) if each["log"] else values
        columns.append(np.round(values) if each["type"] == "int" else values)
    return np.column_stack(columns)


@dataclass
class Trace:
    """The incumbent of a search: best accuracy of a full training, by budget spent (in full trainings)."""

    budgets: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, budget: float, value: float) -> None:
        """A full training ended."""
        self.budgets.append(budget)
        self.values.append(value)

    def best(self, grid: np.ndarray) -> np.ndarray:
        """The best value at each budget of the grid; minus infinity before the first."""
        found = np.full(len(grid), -np.inf)
        for budget, value in zip(self.budgets, self.values, strict=True):
            found[grid >= budget - 1e-9] = np.maximum(found[grid >= budget - 1e-9], value)
        return found


# ------------------------------------------------------------------------------------------------- arms


def search_spec(seed: int, pruner: str = "none", trials: int = BUDGET) -> SearchSpec:
    """A search as a study file that names only space, trials and pruner asks for it."""
    options = with_defaults(pruner, {}, EPOCHS)
    defaults = {item.name: item.default for item in SearchSection.__dataclass_fields__.values()}
    search = SearchSpec(
        sampler=defaults["sampler"],
        sampler_options={},
        pruner=pruner,
        pruner_options=options,
        trials=trials,
        seed=seed,
        space=SPACE,
        training_seed=0,
        rungs=rungs(options, EPOCHS),
    )
    return replace(search, sampler_options=with_sampler_defaults(search))


def trial_of(plan: Plan, number: int, overrides: Mapping[str, Any]) -> tuple[TrialSpec, None]:
    """One proposal as a trial."""
    identity = hashlib.sha256(json.dumps(overrides, sort_keys=True).encode()).hexdigest()[:32]
    config = {"train": {"epochs": EPOCHS}, "teacher": {"checkpoint": ""}}
    return TrialSpec(
        f"search-{number:04d}", "student", "search", 0, config, dict(overrides), identity, "", {}, number
    ), None


def reported_epochs(search: SearchSpec) -> list[int]:
    """Epochs worth a report: those at which the pruner decides, and the last."""
    if search.pruner in ("asha", "hyperband"):
        return [*search.rungs, EPOCHS]
    return [*(range(search.rungs[0], EPOCHS, 5) if search.pruner != "none" else ()), EPOCHS]


def ours(surrogate: Surrogate, search: SearchSpec, workers: int) -> tuple[Trace, list[dict[str, Any]]]:
    """Our driver on simulated workers; its trace, and what it proposed in order."""
    with conducted(search) as conductor:
        simulation = Simulation(conductor, surrogate, reported_epochs(search))
        simulation.run(workers)
        return simulation.trace, [trial.spec.overrides for trial in conductor.history.trials.values()]


@contextmanager
def conducted(search: SearchSpec) -> Iterator[Conductor]:
    """A conductor on a ledger in memory."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    table = TableSpec(columns=(METRIC.name,), baseline="", arms=())
    base = {"train": {"epochs": EPOCHS}}
    plan = Plan("surrogate", "", METRIC, Resources(), table, (), (), search, base, (0,))
    with tempfile.TemporaryDirectory(prefix="cdkd-search-", dir=memory) as folder:
        paths = StudyPaths(Path(folder), plan.study)
        with Ledger.open(paths.ledger, writer=True) as ledger:
            yield Conductor(plan, ledger, paths, search_trials=trial_of)


@dataclass
class Simulation:
    """Workers by a simulated clock."""

    conductor: Conductor
    surrogate: Surrogate
    epochs: list[int]
    trace: Trace = field(default_factory=Trace)
    spent: int = 0  # epochs
    _events: list[tuple[float, int, int, Job, np.ndarray]] = field(default_factory=list)
    _count: int = 0

    def run(self, workers: int) -> None:
        """Until the budget is spent."""
        now = 0.0
        while True:
            while len(self._events) < workers and self.spent < BUDGET * EPOCHS and self._begin(now):
                pass
            if not self._events:
                return
            now = self._step()

    def _begin(self, now: float) -> bool:
        spec = self.conductor.next_trial()
        if spec is None or spec is WAIT:
            return False
        assert isinstance(spec, TrialSpec)
        curve = self.surrogate.curve(spec.overrides, self.epochs)
        curve[:, 0] += now
        self._push(0, self.conductor.on_started(spec), curve)
        return True

    def _push(self, index: int, job: Job, curve: np.ndarray) -> None:
        self._count += 1
        heapq.heappush(self._events, (curve[index, 0], self._count, index, job, curve))

    def _step(self) -> float:
        now, _, index, job, curve = heapq.heappop(self._events)
        epoch, value = self.epochs[index], float(curve[index, 1])
        self.spent += epoch - (self.epochs[index - 1] if index else 0)
        is_stopped = self.conductor.on_epoch(job.trial_id, job.attempt, epoch, {METRIC.name: value})
        if epoch == EPOCHS:
            self.trace.add(self.spent / EPOCHS, value)
            self.conductor.on_outcome(job.trial_id, job.attempt, Outcome(FINISHED, {f"final/{METRIC.name}": value}))
        elif is_stopped:
            self.conductor.on_outcome(job.trial_id, job.attempt, Outcome(STOPPED, {}))
        else:
            self._push(index + 1, job, curve)
        return now


def optuna_alone(
    surrogate: Surrogate, seed: int, reseeded: SearchSpec | None = None
) -> tuple[Trace, list[dict[str, Any]]]:
    """A plain loop over Optuna in memory; with `reseeded`, its sampler is made anew for every proposal as ours is."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    trace, proposed = Trace(), []
    for number in range(BUDGET):
        if reseeded is not None:
            study.sampler = make_sampler(reseeded, number)
        trial = study.ask()
        proposed.append(suggest(trial, SPACE))
        value = float(surrogate.curve(proposed[-1], [EPOCHS])[0, 1])
        study.tell(trial, value)
        trace.add(number + 1, value)
    return trace, proposed


# -------------------------------------------------------------------------------------------- measuring


def measure(folder: Path, tasks: Sequence[str], seeds: int, pruners: Sequence[str], jobs: int = 1) -> dict[str, Any]:
    """Run every arm on every task and seed.

    Raises:
        AssertionError: our driver with one worker proposes otherwise than Optuna, re-seeded as documented.
    """
    arms = ["optuna", "ours_1", "ours_8", *(f"ours_{name}" for name in pruners)]
    check_same(Surrogate(folder, tasks[0]))
    asked = [(folder, task, arm, seed) for seed in range(seeds) for task in tasks for arm in arms]
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        answers = dict(zip(asked, pool.map(run_one, asked), strict=True))
    found = {
        task: _regrets(
            Surrogate(folder, task),
            {arm: np.stack([answers[folder, task, arm, seed][0] for seed in range(seeds)]) for arm in arms},
        )
        for task in tasks
    }
    by_arm = {arm: np.stack([found[task][arm] for task in tasks]) for arm in ("random", *arms)}
    rng = np.random.default_rng(0)
    return {
        "name": "search",
        "tasks": list(tasks),
        "seeds": seeds,
        "random_seeds": RANDOM_SEEDS,
        "marks": list(MARKS),
        "arms": {arm: _described(regrets, by_arm["random"], rng) for arm, regrets in by_arm.items()},
        "differences": {
            "ours_1 - optuna": _difference(by_arm["ours_1"], by_arm["optuna"], rng),
            "ours_8 - ours_1": _difference(by_arm["ours_8"], by_arm["ours_1"], rng),
        },
        "seconds": {arm: float(np.mean([s for (*_, own, _), (_, s) in answers.items() if own == arm])) for arm in arms},
        "environment": environment(),
    }


def run_one(asked: tuple[Path, str, str, int]) -> tuple[np.ndarray, float]:
    """Best values after 1, 2, ... full trainings of one search, and the seconds it took."""
    folder, task, arm, seed = asked
    surrogate, began = Surrogate(folder, task), time.perf_counter()
    pruner = arm.removeprefix("ours_")
    if arm == "optuna":
        trace = optuna_alone(surrogate, seed)[0]
    elif pruner.isdigit():
        trace = ours(surrogate, search_spec(seed), int(pruner))[0]
    else:
        trace = ours(surrogate, search_spec(seed, pruner, 20 * BUDGET), 1)[0]
    return trace.best(np.arange(1, BUDGET + 1)), time.perf_counter() - began


def check_same(surrogate: Surrogate) -> None:
    """Our driver with one worker proposes what Optuna alone does, with its sampler seeded as ours documents.

    Raises:
        AssertionError: it does not.
    """
    search = search_spec(0)
    assert ours(surrogate, search, 1)[1] == optuna_alone(surrogate, 0, reseeded=search)[1]


def _regrets(surrogate: Surrogate, best: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arm -> (seeds, BUDGET) regrets after 1, 2, ... full trainings; random search among them."""
    drawn = surrogate.ask(draw(REFERENCE, np.random.default_rng(12345)), [EPOCHS])[:, 0, 1]
    random = np.maximum.accumulate(drawn[: RANDOM_SEEDS * BUDGET].reshape(RANDOM_SEEDS, BUDGET), axis=1)
    top = max(drawn.max(), *(values.max() for values in best.values()))
    scale = top - np.median(drawn)
    return {arm: np.minimum((top - values) / scale, 1.0) for arm, values in {"random": random, **best}.items()}


def _described(regrets: np.ndarray, random: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    """Of (tasks, seeds, budgets) regrets: means at the marks, and how much less budget than random they take."""
    at_marks = regrets[..., [mark - 1 for mark in MARKS]]
    resampled = [speed_up(_resampled(regrets, rng), _resampled(random, rng)) for _ in range(RESAMPLES)]
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {
        "regret": dict(zip(map(str, MARKS), at_marks.mean(axis=(0, 1)).tolist(), strict=True)),
        "regret_by_task": at_marks.mean(axis=1).tolist(),
        "speed_up": {"ratio": speed_up(regrets, random), "low": float(low), "high": float(high)},
        "speed_up_by_task": [speed_up(regrets[[i]], random[[i]]) for i in range(len(regrets))],
    }


def speed_up(regrets: np.ndarray, random: np.ndarray) -> float:
    """Random's whole budget over the budget at which the mean regret is as small as random's at its end; 0: never."""
    target = random.mean(axis=(0, 1))[-1]
    reached = np.flatnonzero(regrets.mean(axis=(0, 1)) <= target)
    return random.shape[-1] / float(reached[0] + 1) if len(reached) else 0.0


def _resampled(regrets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other seeds of the same tasks."""
    count = regrets.shape[1]
    return np.stack([task[rng.integers(0, count, count)] for task in regrets])


def _difference(arm: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    """Differences of mean regret at the marks with their intervals; pairs of one task and seed are resampled."""
    marks = [mark - 1 for mark in MARKS]
    means = [_resampled(arm - other, rng).mean(axis=(0, 1))[marks] for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    middle = (arm.mean(axis=(0, 1)) - other.mean(axis=(0, 1)))[marks]
    return {
        str(mark): {"difference": float(d), "low": float(lo), "high": float(hi)}
        for mark, d, lo, hi in zip(MARKS, middle, low, high, strict=True)
    }


def lines(report: Mapping[str, Any]) -> str:
    """The report for people."""
    found = []
    for arm, values in report["arms"].items():
        regret = ", ".join(f"@{mark} {value:.3f}" for mark, value in values["regret"].items())
        faster = values["speed_up"]
        by_task = ", ".join(f"{value:.1f}" for value in values["speed_up_by_task"])
        found.append(
            f"{arm}: regret {regret}; {faster['ratio']:.1f} times less budget than random "
            f"(95 % CI {faster['low']:.1f} to {faster['high']:.1f}; by task {by_task})"
        )
    for name, marks in report["differences"].items():
        at = ", ".join(f"@{m} {v['difference']:+.3f} ({v['low']:+.3f} to {v['high']:+.3f})" for m, v in marks.items())
        found.append(f"{name}: {at}")
    return "\n".join(found)


def surrogate_folder(argument: str | None) -> Path:
    """The surrogate's folder; ends the program with one line where it or onnxruntime is missing."""
    import importlib.util

    named = argument or os.environ.get(VARIABLE, "")
    folder = Path(named)
    missing = [name for name in ("model.onnx", "encoding.json") if not (folder / name).is_file()]
    if not named or missing:
        sys.exit(f"no surrogate: --surrogate FOLDER or ${VARIABLE} must hold model.onnx and encoding.json of lcbench")
    if importlib.util.find_spec("onnxruntime") is None:
        sys.exit("onnxruntime is not installed: pip install 'cdkd[bench]'")
    return folder


def main() -> None:
    """Measure every arm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--surrogate", metavar="FOLDER", help=f"model.onnx and encoding.json (default: ${VARIABLE})")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), help="OpenML tasks")
    parser.add_argument("--seeds", type=int, default=5, help="searches of each arm and task")
    parser.add_argument("--pruners", nargs="*", default=["asha"], help="arms with a pruner at its defaults")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    args = parser.parse_args()
    report = measure(surrogate_folder(args.surrogate), args.tasks, args.seeds, args.pruners, args.jobs)
    print(lines(report))
    print(write(report))


if __name__ == "__main__":
    main()
