"""A driver to be killed: `python -m tests.orchestrator.drive RESULTS EXECUTOR` runs a small real study."""

from __future__ import annotations

import sys
from pathlib import Path

from orchestrator import keys
from orchestrator.plan import Resources
from orchestrator.resources import Machine
from orchestrator.stopping import stop_on_signals
from tests.orchestrator.plans import make_plan, open_conductor, student, teacher

CPUS = Machine(cpus=2, gpus=0)


def small_study(**resources: float):
    """A teacher, a distilled student and two plain ones, three epochs each."""
    needed = teacher()
    return make_plan(
        student("full", teacher=needed.fingerprint),
        student("a"),
        student("b"),
        teachers=(needed,),
        resources=Resources(**resources),
    )


def drive(plan, results: Path, executor: str, *, before_the_end=lambda: None, **options):
    """Run a plan; returns its conductor, whose ledger is closed. Ray's cluster is still there at `before_the_end`."""
    conductor = open_conductor(plan, results, **options)
    with stop_on_signals(conductor.request_stop):
        if executor == "ray":
            from orchestrator.ray_session import ray_session
            from orchestrator.tune import run_on_tune, uses_train

            with ray_session(conductor.paths, CPUS, uses_train=uses_train(plan.resources)) as machine:
                run_on_tune(conductor, machine)
                before_the_end()
        else:
            from orchestrator.in_process import run_in_process

            run_in_process(conductor, CPUS)
    conductor.close(conductor.stop_reason or keys.FINISHED)
    conductor._ledger.close()
    return conductor


def numbers(conductor) -> dict[str, object]:
    """Every number of a study that does not measure time."""
    return {
        name: (
            trial.state,
            {epoch: _untimed(metrics) for epoch, metrics in sorted(trial.epochs.items())},
            _untimed(trial.summary),
        )
        for name, trial in sorted(conductor.history.trials.items())
    }


def _untimed(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if "seconds" not in name and "memory" not in name}


if __name__ == "__main__":
    conductor = drive(small_study(), Path(sys.argv[1]), sys.argv[2])
    sys.exit(130 if conductor.stop_reason else 0)
