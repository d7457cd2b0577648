"""`cdkd train CONFIG`: one training without Ray, MLflow or Optuna; its teacher first where it needs one.

Needs no more than torch, NumPy and OpenCV for a configuration in JSON; one in YAML needs PyYAML as well.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdkd.config import TrainingConfig, field_at, resolve
from cdkd.options import flatten_keys
from orchestrator.errors import UserError
from orchestrator.paths import StudyPaths, results_folder
from orchestrator.stopping import stop_on_signals
from orchestrator.teachers import TeacherStore

if TYPE_CHECKING:
    from cdkd.training import EpochReport


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.description = (
        "Train one configuration in this process. Interrupted, the same command goes on from the last checkpoint.\n"
        "A teacher that it needs is trained first, and shared with the studies of the same results folder."
    )
    parser.epilog = "Example: cdkd train studies/bases/synthetic_tiny.yaml --set train.epochs=5 --output trained"
    add_config_arguments(parser)
    parser.add_argument("--output", metavar="DIR", type=Path, help="checkpoints and results (default: in the results)")
    parser.add_argument("--results", metavar="DIR", help="results folder (default: $CDKD_RESULTS, else ./results)")


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """CONFIG and --set."""
    parser.add_argument("config", metavar="CONFIG", type=Path, help="a training configuration, .yaml or .json")
    parser.add_argument("--set", dest="overrides", metavar="KEY=VALUE", action="append", default=[], help=SET_HELP)


SET_HELP = "change an option by its dotted path, the value in JSON (train.epochs=5); may be repeated"


def run(args: argparse.Namespace) -> int:
    """Trains, with a line for every epoch, and prints the summary.

    Raises:
        UserError: the configuration file cannot be read.
        ConfigError: it is wrong.
        DataError: the data set is missing or broken.
        WeightsError: a weights file does not fit.
    """
    config = read_config(args.config, args.overrides)
    results = results_folder(args.results)
    folder = args.output or results / "trained" / args.config.stem
    stops: list[str] = []
    with stop_on_signals(stops.append) as signals:
        teacher = _teacher(config, results, stops)
        summary = _train(config, folder, teacher, stops) if not stops else {}
    if stops:
        sys.stderr.write(f"stopped ({stops[0]}); the same command goes on from here\n")
        return 128 + signals[0]
    _print_summary(summary, folder)
    return 0


def read_config(path: Path, overrides: Sequence[str] = ()) -> TrainingConfig:
    """A training configuration from a file and from `key=value` texts.

    Raises:
        UserError: the file cannot be read, or something in it or in a text is wrong (with its line, in YAML).
        ConfigError: something in a JSON file is wrong.
    """
    if path.suffix == ".json":
        return resolve(_read_json(path), read_overrides(overrides))
    from orchestrator.training_file import read_training_file

    return read_training_file(path, overrides)


def read_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """`train.epochs=5` and its like as a layer of options; a value that is no JSON is a text.

    Raises:
        UserError: a text has no `=`.
        ConfigError: there is no such option.
    """
    layer: dict[str, Any] = {}
    for text in texts:
        path, separator, value = text.partition("=")
        if not separator:
            raise UserError(f"--set {text}: must be KEY=VALUE")
        field_at(path)
        try:
            layer[path] = json.loads(value)
        except ValueError:
            layer[path] = value
    return flatten_keys(layer)


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: must hold a section of keys")
    return content


def _teacher(config: TrainingConfig, results: Path, stops: list[str]) -> Path | None:
    """The teacher's weights: none needed, a given file, one trained before, or one trained now."""
    if not config.needs_teacher:
        return None
    if config.teacher.checkpoint:
        return Path(config.teacher.checkpoint)
    from cdkd.data.content import content_digest
    from orchestrator.fingerprint import fingerprint

    own = config.for_teacher()
    identity = fingerprint(own, data_digest=content_digest(own.data), teacher="")
    store = TeacherStore(StudyPaths(results, "trained"))
    if not store.is_complete(identity):
        if not store.claim(identity):
            raise UserError(
                f"{store.file(identity)}: another process is training this teacher; try again when it is done"
            )
        store.discard(identity)
        sys.stderr.write(f"teacher {own.student.backbone} at {own.student.input_size} ({identity})\n")
        _train(own, store.file(identity).parent, None, stops)
        store.release(identity)
    return store.file(identity)


def _train(config: TrainingConfig, folder: Path, teacher: Path | None, stops: list[str]) -> dict[str, float]:
    from cdkd.engine import Diverged
    from cdkd.training import train

    selected = f"val/{config.evaluation.select}"

    def report(epoch: EpochReport) -> bool:
        values = epoch.metrics
        score = f", {selected} {values[selected]:.4f}" if selected in values else ""
        seconds = values.get("time/epoch_seconds", 0.0)
        line = f"epoch {epoch.epoch}/{config.train.epochs}: loss {values['train/loss']:.4f}{score}, {seconds:.1f} s"
        sys.stderr.write(line + "\n")
        return bool(stops)

    try:
        return train(config, report, folder=folder, teacher_file=teacher)
    except Diverged as error:
        raise UserError(f"{folder}: the training diverged: {error}") from None


def _print_summary(summary: Mapping[str, float], folder: Path) -> None:
    """Scores of all keypoints together, and costs; the rest is in summary.json."""
    for name, value in summary.items():
        is_of_one_keypoint = name.count("/") > 2
        if not is_of_one_keypoint:
            sys.stdout.write(f"{name}\t{value:.6g}\n")
    sys.stderr.write(f"networks and summary in {folder}\n")
