"""`cdkd plan STUDY`: what a study would run, what is there already, what changed, and what the rest costs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.changes import Standing, change_lines, past_of, stand
from orchestrator.compiler import begun_afresh, compile_study
from orchestrator.history import History
from orchestrator.paths import StudyPaths, results_folder
from orchestrator.plan import Plan, TrialSpec
from orchestrator.sampler import budget_of
from orchestrator.search_notes import doubts, drop_notes, full_trials, search_notes, warnings
from orchestrator.study import Study
from orchestrator.verbs.pricing import print_price
from orchestrator.verbs.printing import print_table
from orchestrator.verbs.study_arguments import add_study_arguments, load

HEADINGS = ("arm", "seeds", "changes", "epochs", "teacher", "done")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.description = (
        "Show the trainings a study asks for: arms, seeds, teachers, epochs; what the results folder holds of them,\n"
        "what changed since the study was last run, and what the rest will cost on this machine."
    )
    parser.epilog = (
        "Examples:\n"
        "  cdkd plan studies/quickstart.yaml --set train.epochs=2\n"
        "  cdkd plan studies/quickstart.yaml --pilot    also measure what no training so far tells"
    )
    add_study_arguments(parser)
    parser.add_argument("--results", metavar="DIR", help="results folder (default: $CDKD_RESULTS, else ./results)")
    parser.add_argument(
        "--pilot", action="store_true", help="time a few steps of every kind of training that nothing is known of"
    )


def run(args: argparse.Namespace) -> int:
    """Prints the plan.

    Raises:
        UserError: the study file, its data or its ledger cannot be used.
    """
    study = load(args)
    paths = StudyPaths(results_folder(args.results), study.name)
    history = past_of(paths)
    said = history.specification
    plan = begun_afresh(compile_study(study), int(said.get("generation", 0)), float(said.get("fresh_since", 0.0)))
    standing = stand(plan, history, paths)
    _print_head(plan)
    rows = [_row(plan, arm, standing) for arm in dict.fromkeys(spec.arm for spec in plan.trials)]
    rows += [_teacher_row(spec, standing) for spec in plan.teachers]
    print_table(HEADINGS, rows)
    _say([*_notes(study, plan, standing, history), *change_lines(standing, plan)])
    print_price(plan, history, standing, paths, pilot=args.pilot)
    return 0


def _say(lines: Sequence[str]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def search_trainings(plan: Plan) -> int:
    """Trainings that a search asks for: its proposals and its refit."""
    search = plan.search
    if search is None:
        return 0
    return budget_of(search) + (search.refit.top * len(search.refit.seeds) if search.refit else 0)


def student_epochs(plan: Plan) -> int:
    """Epochs of all students' trainings together, the search's at full length."""
    epochs = sum(int(spec.config["train"]["epochs"]) for spec in plan.trials)
    return epochs + search_trainings(plan) * int(plan.base["train"]["epochs"])


def _print_head(plan: Plan) -> None:
    metric = plan.metric
    sys.stdout.write(f"{plan.study}: {plan.question}\n" if plan.question else f"{plan.study}\n")
    sys.stdout.write(f"metric {metric.name} ({metric.mode}, {metric.select} epoch)\n")


def _row(plan: Plan, arm: str, standing: Standing) -> tuple[str, ...]:
    specs = [spec for spec in plan.trials if spec.arm == arm]
    teachers = sorted({_teacher_name(spec) for spec in specs})
    return (
        arm,
        " ".join(str(spec.seed) for spec in specs),
        _changes(specs[0].overrides),
        str(specs[0].config["train"]["epochs"]),
        " ".join(teachers),
        _done(specs, standing),
    )


def _teacher_row(spec: TrialSpec, standing: Standing) -> tuple[str, ...]:
    student = spec.config["student"]
    what = f"{student['backbone']} at {student['input_size']}"
    epochs = str(spec.config["train"]["epochs"])
    return ("(teacher)", str(spec.seed), what, epochs, spec.fingerprint[:8], _done([spec], standing))


def _teacher_name(spec: TrialSpec) -> str:
    if spec.teacher:
        return spec.teacher[:8]
    uses_one = spec.config["distill"]["sape"]["enabled"] or spec.config["distill"]["cca"]["enabled"]
    return Path(spec.config["teacher"]["checkpoint"]).name if uses_one else "-"


def _changes(overrides: Mapping[str, Any]) -> str:
    return " ".join(f"{path}={json.dumps(value)}" for path, value in overrides.items()) or "-"


def _done(specs: Sequence[TrialSpec], standing: Standing) -> str:
    done = sum(standing.is_done(spec) for spec in specs)
    elsewhere = sum(bool(standing.sources.get(spec.trial_id)) for spec in specs)
    return f"{done}/{len(specs)}" + (f" ({elsewhere} of other studies)" if elsewhere else "")


def _notes(study: Study, plan: Plan, standing: Standing, history: History) -> list[str]:
    notes = [f"{double} is the same training as {kept}: trained once" for double, kept in study.merged.items()]
    if plan.repeats is not None:
        rule = plan.repeats
        of = "the difference to the baseline" if rule.statistic == "difference" else "the mean"
        notes.append(
            f"repeats: {rule.minimum} to {len(plan.seeds)} of each arm, added while half the 95 % interval of {of} "
            f"is above {rule.width:g}"
        )
    if plan.search:
        notes += search_notes(plan.search)
        notes += drop_notes(study)
        notes += doubts(plan.search, plan.metric, full_trials(history, plan.generation, standing.superseded))
    notes += [f"warning: {line}" for line in warnings(study)]
    open_trials = [spec for spec in plan.trials if not standing.is_done(spec)]
    students = len(plan.trials) + search_trainings(plan)
    done = len(plan.trials) - len(open_trials) + standing.answered
    of_them = f", {done} of them done" if done else ""
    notes.append(
        f"{students} student trainings{of_them}, {len(plan.teachers)} teachers, {student_epochs(plan)} student epochs"
    )
    return notes
