"""`cdkd validate` and `cdkd plan` as commands: exit codes, output, start-up, and five hundred broken files."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli import VERBS, main
from orchestrator.library import REPOSITORY, STUDIES

HEAVY = ("torch", "ray", "optuna", "mlflow", "pandas", "numpy", "cv2", "scipy", "matplotlib")
LINE = re.compile(r"^\S+\.yaml(:\d+(:\d+)?)?: \S.*[^ ]$")


def copied(folder: Path, name: str = "quickstart") -> Path:
    (folder / "bases").mkdir(exist_ok=True)
    for path in (STUDIES / "bases").glob("*.yaml"):
        (folder / "bases" / path.name).write_text(path.read_text())
    (folder / "study.yaml").write_text((STUDIES / f"{name}.yaml").read_text())
    return folder / "study.yaml"


class TestValidate:
    def test_good_files_are_one_line_each(self, capsys):
        assert main(["validate", str(STUDIES / "quickstart.yaml"), "quickstart_search"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 2
        assert "4 arms x 2 seeds, 1 teacher to train" in lines[0]
        assert "12 search trials (tpe, pruner median) over 5 options" in lines[1]

    def test_faults_of_every_file_are_told_and_good_files_are_still_ok(self, tmp_path, capsys):
        path = copied(tmp_path)
        path.write_text(path.read_text().replace("seeds: [0, 1]", "seeds: [a, -1]"))
        assert main(["validate", str(path), "quickstart", "quickstrt"]) == 2
        captured = capsys.readouterr()
        assert captured.out.startswith("ok ")
        assert captured.err.splitlines() == [
            f'{path}:14:11: ablation.seeds[0]: must be a whole number, got "a"',
            f"{path}:14:14: ablation.seeds[1]: must be at least 0, got -1",
            "quickstrt: no such study file (did you mean 'quickstart'?)",
        ]

    def test_data_that_are_said_to_be_somewhere_must_be_there(self, tmp_path, capsys, monkeypatch):
        monkeypatch.delenv("CDKD_DATA_ROOT", raising=False)
        assert main(["validate", "table4_modules"]) == 0
        assert "data not looked at" in capsys.readouterr().out
        assert main(["validate", "table4_modules", "--set", f"data.root={tmp_path}"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("--set:1: data.root: data set not found")
        assert len(error.splitlines()) == 1

    def test_the_environment_is_named_where_it_is_the_cause(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setenv("CDKD_DATA_ROOT", str(tmp_path))
        assert main(["plan", "table4_modules"]) == 2
        assert capsys.readouterr().err.startswith("$CDKD_DATA_ROOT: data.root: data set not found")


class TestPlan:
    def test_it_shows_arms_seeds_teachers_and_the_total(self, capsys, tmp_path):
        assert main(["plan", "quickstart", "--profile", "tiny", "--results", str(tmp_path)]) == 0
        output = capsys.readouterr().out
        assert "quickstart: Does each part of CDKD help" in output
        table = output[: output.index("student trainings")]
        rows = [line.split("  ")[0] for line in table.splitlines()]
        assert [row for row in rows if row in ("baseline", "+sape", "+sape+cca", "+sape+cca+etht", "(teacher)")] == [
            "baseline",
            "+sape",
            "+sape+cca",
            "+sape+cca+etht",
            "(teacher)",
        ]
        assert "4 student trainings, 1 teachers, 4 student epochs" in output
        assert list(tmp_path.iterdir()) == []

    def test_trials_that_the_ledger_holds_as_finished_are_counted(self, capsys, tmp_path):
        import dataclasses

        from orchestrator import keys
        from orchestrator.compiler import compile_study
        from orchestrator.ledger import Ledger
        from orchestrator.paths import StudyPaths
        from orchestrator.study import load_study

        spec = compile_study(load_study(STUDIES / "quickstart.yaml")).trials[0]
        ledger_file = StudyPaths(tmp_path, "quickstart").ledger
        ledger_file.parent.mkdir(parents=True)
        with Ledger.open(ledger_file, writer=True) as ledger:
            ledger.append(keys.STARTED, {"trial": dataclasses.asdict(spec), "attempt": 1})
            ended = {"trial_id": spec.trial_id, "attempt": 1, "state": keys.FINISHED, "summary": {}}
            ledger.append(keys.ENDED, {**ended, "reason": "", "epoch": 8})
        assert main(["plan", "quickstart", "--results", str(tmp_path)]) == 0
        output = capsys.readouterr().out
        assert next(line for line in output.splitlines() if line.startswith("baseline")).endswith("1/2")
        assert "8 student trainings, 1 of them done" in output

    def test_a_search_is_described(self, capsys, tmp_path):
        assert main(["plan", "quickstart_search", "--results", str(tmp_path)]) == 0
        output = capsys.readouterr().out
        assert "distill.alpha: float in [0.01, 10.0], log" in output
        assert "when distill.sape.enabled is true" in output


class TestCommandLine:
    @pytest.mark.parametrize(
        "words",
        [
            [],
            ["valdate", "x"],
            ["validate"],
            ["validate", "--unknown", "x"],
            ["validate", "no such\nfile.yaml"],
            ["validate", "nul\0.yaml"],
            ["validate", "x" * 5000],
            ["validate", "/"],
            ["plan", "quickstart", "--set"],
            ["plan", "quickstart", "--set", "a"],
            ["plan", "quickstart", "--set", "=1"],
            ["plan", "quickstart", "--set", "train.epochs={a: 1}"],
            ["plan", "quickstart", "--set", "train=1"],
            ["plan", "quickstart", "--set", "ablation=1"],
            ["plan", "quickstart", "--set", "train.epochs=!!python/object:os.system 1"],
            ["plan", "quickstart", "--profile", "none"],
        ],
        ids=range(16),
    )
    def test_a_wrong_command_is_one_line_and_exit_code_2(self, words, capsys):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1
        assert len(error) < 6000

    @pytest.mark.parametrize("verb", VERBS)
    def test_every_verb_has_help_with_an_example(self, verb, capsys):
        with pytest.raises(SystemExit) as caught:
            main([verb, "--help"])
        assert caught.value.code == 0
        assert re.search(rf"Examples?:\s+cdkd {verb}", capsys.readouterr().out)

    @pytest.mark.parametrize("verb", ["validate", "plan"])
    def test_it_starts_without_anything_heavy(self, verb):
        code = (
            "import sys; from orchestrator.cli import main; "
            f"code = main(['{verb}', 'quickstart_search']); "
            f"print('loaded', [name for name in {HEAVY!r} if name in sys.modules]); sys.exit(code)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
            env=dict(os.environ),
        )
        assert done.stdout.splitlines()[-1] == "loaded []"


MUTATIONS = {
    "drop a line": lambda text, rng: "".join(without(text.splitlines(True), rng)),
    "double a line": lambda text, rng: "".join(doubled(text.splitlines(True), rng)),
    "drop a letter": lambda text, rng: with_span(text, rng, 1, ""),
    "drop a stretch": lambda text, rng: with_span(text, rng, rng.randint(2, 40), ""),
    "truncate": lambda text, rng: text[: rng.randrange(len(text))],
    "odd letter": lambda text, rng: with_span(
        text, rng, 0, rng.choice("\t\x00\x07\x1b{}[]:,#&*!|>'\"%@`-?\u2028\ufeffé😀")
    ),
    "other value": lambda text, rng: replaced_value(text, rng),
    "indent a line": lambda text, rng: indented(text, rng),
    "swap letters": lambda text, rng: swapped(text, rng),
    "tag": lambda text, rng: text.replace(": ", ": !!python/object/apply:os.system ", rng.randint(1, 12)),
    "nest": lambda text, rng: with_span(text, rng, 0, "[" * rng.randint(30, 400)),
    "anchor": lambda text, rng: text.replace(": {", ": &a {", 1).replace("[", "[*a, ", rng.randint(1, 3)),
}
VALUES = (
    "-1",
    "null",
    "1e999",
    "-0",
    ".nan",
    "9" * 400,
    "[]",
    "{}",
    "true",
    "'1'",
    "0x1F",
    "~",
    "[[1]]",
    "{a: {b: c}}",
    '"\\ud800"',
)


def without(lines, rng):
    del lines[rng.randrange(len(lines))]
    return lines


def doubled(lines, rng):
    index = rng.randrange(len(lines))
    return [*lines[:index], lines[index], *lines[index:]]


def with_span(text, rng, length, new):
    start = rng.randrange(len(text))
    return text[:start] + new + text[start + length :]


def replaced_value(text, rng):
    values = list(re.finditer(r"(?<=: )[\w./@-]+|(?<=[\[ ])[\w.]+(?=[,\]])", text))
    chosen = rng.choice(values)
    return text[: chosen.start()] + rng.choice(VALUES) + text[chosen.end() :]


def indented(text, rng):
    lines = text.splitlines(True)
    index = rng.randrange(len(lines))
    lines[index] = " " * rng.randint(1, 3) + lines[index]
    return "".join(lines)


def swapped(text, rng):
    index = rng.randrange(len(text) - 1)
    return text[:index] + text[index + 1] + text[index] + text[index + 2 :]


@pytest.mark.parametrize("name", ["quickstart", "quickstart_search", "table4_modules"])
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutated_study_is_valid_or_told_in_lines_never_a_traceback(tmp_path, capsys, mutation, name, monkeypatch):
    monkeypatch.delenv("CDKD_DATA_ROOT", raising=False)
    path = copied(tmp_path, name)
    original = path.read_text()
    rng = random.Random(f"{mutation}/{name}")
    refused = 0
    for _ in range(14):
        text = MUTATIONS[mutation](original, rng)
        path.write_text(text)
        code = main(["validate", str(path)])
        captured = capsys.readouterr()
        lines = captured.err.splitlines()
        refused += code == 2
        assert (code, bool(lines), bool(captured.out)) in ((0, False, True), (2, True, False)), text
        assert all(LINE.match(line) and line.startswith(str(tmp_path)) for line in lines), lines
        assert "Traceback" not in captured.err
    assert refused > 0
    assert sorted(item.name for item in tmp_path.iterdir()) == ["bases", "study.yaml"]
