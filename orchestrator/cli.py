"""`cdkd`: the command line. One verb, one module of `orchestrator.verbs`.

Exit codes: 0 ok, 1 some trial failed, 2 bad input, 3 a guard refused, 130 interrupted. Bad input is told in
one line for each fault on standard error, never as a traceback.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from cdkd import __version__
from cdkd.options import ConfigError
from orchestrator.errors import Refused, UserError, one_line

VERBS: Mapping[str, str] = {
    "validate": "check study files, every fault at once",
    "plan": "show what a study would run",
    "run": "do what a study asks for; run again, it continues",
    "status": "show where a running or past study stands",
    "stop": "stop a running study cleanly",
    "teachers": "list the trained teachers that studies share",
    "table": "print a study's table from the MLflow store",
    "explain": "show which runs made a cell of a study's table",
    "figure": "draw a study's figures from the MLflow store",
    "report": "write a study's report, or the files for a paper's appendix",
    "repro": "print the command and configuration that repeat one run",
    "ui": "serve MLflow's pages on this machine",
    "train": "train one configuration, without Ray",
    "evaluate": "score a trained network",
    "predict": "draw the predicted poses in images",
    "data": "check a data set, decode it once for all trainings, or draw the synthetic one",
}
"""Verb -> its line in `cdkd --help`. `orchestrator.verbs.<verb>` has `configure(parser)` and `run(args) -> int`."""

INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message} (see {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return _run(words)
    except UserError as error:
        return _complain(error.lines, UserError.exit_code)
    except Refused as error:
        return _complain([str(error)], Refused.exit_code)
    except KeyboardInterrupt:
        return _complain(["interrupted"], INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except ValueError as error:
        if not _is_mistake(error):
            raise
        return _complain([str(error)], UserError.exit_code)


def _run(words: Sequence[str]) -> int:
    parser = _Parser(prog="cdkd", description="Studies of cross-domain knowledge distillation for pose estimation.")
    parser.add_argument("--version", action="version", version=f"cdkd {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb, help_line in VERBS.items():
        child = verbs.add_parser(verb, help=help_line, formatter_class=argparse.RawDescriptionHelpFormatter)
        if words[:1] == [verb]:  # the others are not imported: `cdkd train` runs where their packages are missing
            module = importlib.import_module(f"orchestrator.verbs.{verb}")
            module.configure(child)
            child.set_defaults(run=module.run)
    args = parser.parse_args(words)
    code: int = args.run(args)
    return code


def _is_mistake(error: ValueError) -> bool:
    """True for the errors by which `cdkd` says that its input is wrong (ConfigError, DataError, WeightsError)."""
    kind = type(error)
    return isinstance(error, ConfigError) or (kind.__module__.startswith("cdkd.") and kind is not ValueError)


def _complain(lines: Sequence[str], code: int) -> int:
    for line in lines:
        print(one_line(line), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
