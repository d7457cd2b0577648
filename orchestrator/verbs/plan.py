"""`cdkd plan STUDY`: what a study would run, without running it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.compiler import compile_study
from orchestrator.paths import StudyPaths, results_folder
from orchestrator.plan import Plan, TrialSpec
from orchestrator.search_notes import search_notes, unproven, warnings
from orchestrator.study import Study
from orchestrator.verbs.printing import print_table
from orchestrator.verbs.study_arguments import add_study_arguments, load

if TYPE_CHECKING:
    from orchestrator.history import TrialHistory

HEADINGS = ("arm", "seeds", "changes", "epochs", "teacher", "done")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.description = "Show the trainings a study asks for: arms, seeds, teachers, epochs, and what is done already."
    parser.epilog = "Example: cdkd plan studies/quickstart.yaml --set train.epochs=2"
    add_study_arguments(parser)
    parser.add_argument("--results", metavar="DIR", help="results folder (default: $CDKD_RESULTS, else ./results)")


def run(args: argparse.Namespace) -> int:
    """Prints the plan.

    Raises:
        UserError: the study file, its data or its ledger cannot be used.
    """
    study = load(args)
    plan = compile_study(study)
    ledger = StudyPaths(results_folder(args.results), plan.study).ledger
    finished = finished_fingerprints(ledger)
    _print_head(plan)
    rows = [_row(plan, arm, finished) for arm in dict.fromkeys(spec.arm for spec in plan.trials)]
    rows += [_teacher_row(spec, finished) for spec in plan.teachers]
    print_table(HEADINGS, rows)
    sys.stdout.write("".join(f"{line}\n" for line in _notes(study, plan, finished, ledger)))
    return 0


def finished_fingerprints(ledger: Path) -> set[str]:
    """Fingerprints of the trainings that this study's ledger holds as finished."""
    return {trial.spec.fingerprint for trial in _finished(ledger)}


def full_trials(ledger: Path) -> int:
    """How many trials of the study's search were trained to the end, by its ledger."""
    return sum(trial.spec.number >= 0 for trial in _finished(ledger))


def _finished(ledger: Path) -> list[TrialHistory]:
    if not ledger.exists():
        return []
    from orchestrator import keys
    from orchestrator.history import History
    from orchestrator.ledger import Ledger

    with Ledger.open(ledger, writer=False) as opened:
        history = History.replay(opened.records())
    return [trial for trial in history.trials.values() if trial.state == keys.FINISHED]


def student_epochs(plan: Plan) -> int:
    """Epochs of all students' trainings together, the search's at full length."""
    epochs = sum(int(spec.config["train"]["epochs"]) for spec in plan.trials)
    return epochs + (plan.search.trials * int(plan.base["train"]["epochs"]) if plan.search else 0)


def _print_head(plan: Plan) -> None:
    metric = plan.metric
    sys.stdout.write(f"{plan.study}: {plan.question}\n" if plan.question else f"{plan.study}\n")
    sys.stdout.write(f"metric {metric.name} ({metric.mode}, {metric.select} epoch)\n")


def _row(plan: Plan, arm: str, finished: set[str]) -> tuple[str, ...]:
    specs = [spec for spec in plan.trials if spec.arm == arm]
    teachers = sorted({_teacher_name(spec) for spec in specs})
    return (
        arm,
        " ".join(str(spec.seed) for spec in specs),
        _changes(specs[0].overrides),
        str(specs[0].config["train"]["epochs"]),
        " ".join(teachers),
        _done(specs, finished),
    )


def _teacher_row(spec: TrialSpec, finished: set[str]) -> tuple[str, ...]:
    student = spec.config["student"]
    what = f"{student['backbone']} at {student['input_size']}"
    epochs = str(spec.config["train"]["epochs"])
    return ("(teacher)", str(spec.seed), what, epochs, spec.fingerprint[:8], _done([spec], finished))


def _teacher_name(spec: TrialSpec) -> str:
    if spec.teacher:
        return spec.teacher[:8]
    uses_one = spec.config["distill"]["sape"]["enabled"] or spec.config["distill"]["cca"]["enabled"]
    return Path(spec.config["teacher"]["checkpoint"]).name if uses_one else "-"


def _changes(overrides: Mapping[str, Any]) -> str:
    return " ".join(f"{path}={json.dumps(value)}" for path, value in overrides.items()) or "-"


def _done(specs: Sequence[TrialSpec], finished: set[str]) -> str:
    return f"{sum(spec.fingerprint in finished for spec in specs)}/{len(specs)}"


def _notes(study: Study, plan: Plan, finished: set[str], ledger: Path) -> list[str]:
    notes = [f"{double} is the same training as {kept}: trained once" for double, kept in study.merged.items()]
    if plan.search:
        notes += search_notes(plan.search)
        notes += [f"warning: {line}" for line in warnings(study)]
        notes += unproven(plan.search, full_trials(ledger))
    open_trials = [spec for spec in plan.trials if spec.fingerprint not in finished]
    students = len(plan.trials) + (plan.search.trials if plan.search else 0)
    done = f", {len(plan.trials) - len(open_trials)} of them done" if finished else ""
    notes.append(
        f"{students} student trainings{done}, {len(plan.teachers)} teachers, {student_epochs(plan)} student epochs"
    )
    return notes
