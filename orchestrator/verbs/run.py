"""`cdkd run STUDY`: do what a study asks for; run again, it continues."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator import keys
from orchestrator.compiler import begun_afresh, compile_study, refit_trial, search_trial
from orchestrator.conductor import Conductor
from orchestrator.errors import Place, Problem, Refused, UserError
from orchestrator.history import History
from orchestrator.ledger import Ledger, holder
from orchestrator.library import find_study
from orchestrator.overrides import COMMAND_LINE
from orchestrator.paths import StudyPaths, results_folder
from orchestrator.plan import Plan, TrialSpec
from orchestrator.preflight import preflight
from orchestrator.progress import Progress
from orchestrator.resources import check, this_machine
from orchestrator.specification import specification
from orchestrator.stopping import stop_on_signals
from orchestrator.tracking import ProjectionThread
from orchestrator.verbs.stored import store_uri
from orchestrator.verbs.study_arguments import add_study_arguments, load
from orchestrator.yaml_reader import read_file

DELIVERY_S = 60.0
"""How long the end of a run waits for MLflow; what is left is delivered by the next run."""
INTERRUPTED = 130
MOST_LEFT_OUT = 40


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.description = (
        "Run a study. Finished trials are kept, interrupted ones go on from their last checkpoint.\n"
        "Ctrl-C once stops cleanly, twice at once. Exit code 1 when some trial failed."
    )
    parser.epilog = "Example: cdkd run studies/quickstart.yaml --set train.epochs=2"
    add_study_arguments(parser)
    parser.add_argument("--results", metavar="DIR", help="results folder (default: $CDKD_RESULTS, else ./results)")
    parser.add_argument("--tracking-uri", metavar="URI", help="MLflow store (default: mlflow.db in the results folder)")
    parser.add_argument("--retry-failed", action="store_true", help="run failed and diverged trials once more")
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="train every student again; what was trained before stays in the store, teachers are shared as ever",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--address", metavar="ADDRESS", help="of a Ray cluster (auto, or host:port); default: start one here"
    )
    where.add_argument(
        "--in-process", action="store_true", help="one trial after the other in this process, without Ray"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the study and prints its table.

    Raises:
        UserError: the study, its data, its weights files or its resources cannot be used; nothing was started.
        Refused: another process runs this study.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    study = load(args)
    plan = compile_study(study)
    paths = StudyPaths(results_folder(args.results), plan.study)
    _refuse_second_driver(paths)
    _check_resources(plan, args)
    preflight(plan, study.layers.place)
    uri = store_uri(args.results, args.tracking_uri)
    with Ledger.open(paths.ledger, writer=True) as ledger:
        plan = _begun_afresh(plan, ledger, is_fresh=args.fresh)
        conductor = Conductor(
            plan,
            ledger,
            paths,
            retry_failed=args.retry_failed,
            search_trials=search_trial,
            refit_trial=refit_trial,
        )
        with _delivered(uri, paths, plan), stop_on_signals(conductor.request_stop) as signals:
            conductor.begin(specification(plan, command_again(args), executor(args)))
            try:
                with Progress(conductor.history) as progress:
                    conductor.listen(progress.hear)
                    _execute(conductor, args)
            finally:
                conductor.close(_reason(conductor))
        if conductor.stop_reason:
            how = "the same command without --fresh" if args.fresh else "the same command"
            sys.stderr.write(f"stopped ({conductor.stop_reason}); {how} goes on from here\n")
            return 128 + signals[0] if signals else INTERRUPTED
    _print_table(args, plan, uri)
    left = left_out(conductor) if conductor.is_spent() else []
    if left:
        sys.stderr.write("".join(f"{line}\n" for line in left))
        return Refused.exit_code
    return 1 if conductor.has_failures() else 0


def _begun_afresh(plan: Plan, ledger: Ledger, *, is_fresh: bool) -> Plan:
    """The plan with the ids of the study's present generation; `--fresh` begins the next one."""
    past = History.replay(ledger.records()).specification
    generation, since = int(past.get("generation", 0)), float(past.get("fresh_since", 0.0))
    return begun_afresh(plan, generation + 1, time.time()) if is_fresh else begun_afresh(plan, generation, since)


def left_out(conductor: Conductor) -> list[str]:
    """What a used-up budget left undone, in lines; none where everything was done."""
    lines = []
    for item in conductor.left_out():
        if isinstance(item, TrialSpec):
            lines.append(f"  {item.trial_id}: not begun")
        else:
            epochs = item.spec.config["train"]["epochs"]
            lines.append(f"  {item.spec.trial_id}: interrupted after epoch {item.last_epoch} of {epochs}")
    proposals = conductor.remaining_proposals()
    if proposals:
        lines.append(f"  {proposals} trials of the search: not proposed")
    if not lines:
        return []
    more = [f"  and {len(lines) - MOST_LEFT_OUT} more"] if len(lines) > MOST_LEFT_OUT else []
    return [
        f"{conductor.spent_budget()}; left out:",
        *lines[:MOST_LEFT_OUT],
        *more,
        "raise it and run again (without --fresh) to go on",
    ]


def executor(args: argparse.Namespace) -> str:
    """Where the trials run, in a word."""
    if args.in_process:
        return "in_process"
    return "cluster" if args.address else "ray"


def command_again(args: argparse.Namespace) -> str:
    """The command as far as it says what is trained; where results go may carry credentials and names of folders."""
    changes = [word for text in args.overrides for word in ("--set", text)]
    profile = ["--profile", args.profile] if args.profile else []
    return shlex.join(["cdkd", "run", args.study, *changes, *profile])


def _refuse_second_driver(paths: StudyPaths) -> None:
    """Say so before a file is touched; the lock itself is taken later."""
    owner = holder(paths.ledger)
    if owner is not None:
        raise Refused(f"{paths.study}: this study is being run by {owner} ({paths.ledger})")


def _check_resources(plan: Plan, args: argparse.Namespace) -> None:
    if not args.address and not args.in_process:
        try:
            check(plan.resources, this_machine(plan.resources))
        except UserError as error:
            place = _place_of_resources(args)
            raise UserError.of(Problem(place, "", line) for line in error.lines) from None


def _place_of_resources(args: argparse.Namespace) -> Place:
    """Where the study, or the command line, says what a trial needs."""
    for index, text in enumerate(args.overrides, start=1):
        if text.strip().startswith("resources."):
            return Place(COMMAND_LINE, index)
    return read_file(find_study(args.study)).place_of(["resources", "cpus_per_worker"])


def _execute(conductor: Conductor, args: argparse.Namespace) -> None:
    if conductor.next_trial() is None:
        return  # everything is done already: no Ray needed to say so
    machine = this_machine(conductor.plan.resources)
    if args.in_process:
        from orchestrator.in_process import run_in_process

        run_in_process(conductor, machine)
        return
    from orchestrator.ray_session import ray_session
    from orchestrator.tune import run_on_tune, uses_train

    trains = uses_train(conductor.plan.resources)
    with ray_session(conductor.paths, machine, address=args.address, uses_train=trains) as cluster:
        check(conductor.plan.resources, cluster)
        run_on_tune(conductor, cluster)


def _reason(conductor: Conductor) -> str:
    """Why this run of the study ended."""
    if conductor.stop_reason:
        return conductor.stop_reason
    if sys.exc_info()[0] is not None:
        return "the driver failed"
    return conductor.spent_budget() or keys.FINISHED


@contextmanager
def _delivered(uri: str, paths: StudyPaths, plan: Plan) -> Iterator[None]:
    """Deliver the ledger to MLflow meanwhile, and what is left at the end."""
    projection = ProjectionThread(uri, None, paths.ledger, study=plan.study).start()
    try:
        yield
    finally:
        left = projection.close(DELIVERY_S)
        if left:
            why = projection.problem or "MLflow is slow"
            sys.stderr.write(f"{left} records are not in MLflow yet ({why}); the next run delivers them\n")


def _print_table(args: argparse.Namespace, plan: Plan, uri: str) -> None:
    from orchestrator.verbs import table

    parser = argparse.ArgumentParser()
    table.configure(parser)
    results = ["--results", args.results] if args.results else []
    try:
        table.run(parser.parse_args([plan.study, "--tracking-uri", uri, "--format", "md", *results]))
    except (UserError, Refused) as error:
        sys.stderr.write(f"no table: {error}\n")
    named = f" --results {args.results}" if args.results and not os.environ.get("CDKD_RESULTS") else ""
    sys.stderr.write(f"this table again: cdkd table {plan.study}{named}; in MLflow: cdkd ui{named}\n")
