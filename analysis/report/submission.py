"""The files that go with a paper: tables, figures, appendices, seeds, commands, configurations, checksums.

No file names a folder, a user or a machine's address, so that the whole can go to double-blind review.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from analysis.explanation import CONFIG
from analysis.figures.kinds import MAKERS
from analysis.figures.style import Page, save
from analysis.latex import PACKAGES, latex
from analysis.report.appendix import compute, figures, hyperparameters
from analysis.report.configuration import SEED, configuration
from analysis.report.files import write_text
from analysis.report.reproduction import Origin, origin
from analysis.report.sections import Material
from analysis.report.spending import spending
from analysis.report.trials import ARMS, TEACHERS, rows_of, seeds_of
from orchestrator import keys

CONFIGS, CHECKSUMS = "configs", "checksums.txt"
WIDTH = "single"
WEIGHTS = (("student", "pretrained"), ("teacher", "pretrained"), ("teacher", "checkpoint"))


def write_submission(material: Material, folder: Path, teacher_digests: Mapping[str, str]) -> list[Path]:
    """Writes the folder and returns the paths of its files.

    Args:
        material: the study.
        folder: where to; files of others that are in it already are summed with ours.
        teacher_digests: fingerprint of a teacher -> SHA-256 of its weights' file, as far as they are known.

    Raises:
        StoreError: the configuration of a run cannot be read.
    """
    texts = dict(_texts(material))
    paths = [write_text(folder / name, text) for name, text in texts.items()]
    captions = dict(_figures(material, folder))
    paths += [*(folder / name for name in captions), write_text(folder / "figures.tex", figures(captions))]
    sums = "\n".join([*_file_sums(folder), *_run_digests(material.trials, teacher_digests)]) + "\n"
    return [*paths, write_text(folder / CHECKSUMS, sums)]


def _texts(material: Material) -> Iterator[tuple[str, str]]:
    """Name and content of every file but figures and checksums."""
    study, trials = material.record.study, material.trials
    yield from ((f"{sheet.name}.tex", latex(sheet)) for sheet in material.sheets)
    yield "hyperparameters.tex", hyperparameters(study, configuration(trials))
    yield "compute.tex", compute(study, spending(material.record, trials))
    yield "seeds.txt", "\n".join(_seeds(material)) + "\n"
    configs = arm_configs(material)
    yield from ((f"{CONFIGS}/{name}.yaml", text) for name, text in configs.values())
    names = {label: name for label, (name, _) in configs.items()}
    found = origin(material.record, trials, Path(material.study_file).name)
    yield "commands.txt", "\n".join(_commands(found, names, seeds_of(material.record))) + "\n"
    yield "README", _readme(study)


def _figures(material: Material, folder: Path) -> Iterator[tuple[str, str]]:
    """Draws them as PDF: name of each file and its caption."""
    for made in material.figures:
        if made.found is not None:
            figure = MAKERS[made.kind].draw(made.found, Page.of(WIDTH))
            path = save(figure, folder / f"{material.record.study}-{made.kind}", ["pdf"])[0]
            yield path.name, " ".join(made.found.caption)


def arm_configs(material: Material) -> dict[str, tuple[str, str]]:
    """Label of each arm -> name of its file without suffix, and its configuration without the seed."""
    arms = material.trials[material.trials["role"] == ARMS].drop_duplicates("label")
    found: dict[str, tuple[str, str]] = {}
    for row in rows_of(arms):
        name = _file_name(row["arm"], [taken for taken, _ in found.values()])
        content = material.store.artifact(material.record.study, row["run_id"], CONFIG)
        found[str(row["label"])] = (name, _anonymous(yaml.safe_load(content)))
    return found


def _file_name(arm: str, taken: Sequence[str]) -> str:
    plain = re.sub(r"[^a-z0-9_.-]+", "_", arm.lower().replace("+", "_plus_")).strip("_.") or "arm"
    same = sum(name == plain or name.startswith(f"{plain}-") for name in taken)
    return f"{plain}-{same + 1}" if same else plain


def _anonymous(config: dict[str, Any]) -> str:
    """YAML without the seed, which the command says, and without the folders of one machine."""
    config = {name: value for name, value in config.items() if name != SEED}
    if config.get("data"):
        config["data"] = {**config["data"], "root": ""}
    for section, option in WEIGHTS:
        if config.get(section, {}).get(option):
            config[section] = {**config[section], option: Path(config[section][option]).name}
    return yaml.safe_dump(config, sort_keys=False)


def _seeds(material: Material) -> Iterator[str]:
    """One line for each arm, for the search and for each teacher."""
    for label, rows in material.trials[material.trials["role"] == ARMS].groupby("label", sort=False):
        yield f"{label}: {' '.join(_seed(row) for row in rows_of(rows))}"
    search = material.record.specification.get("search")
    if search:
        yield f"search: sampler {search.get('seed')}, every training {search.get('training_seed')}"
    teachers = material.trials[material.trials["role"] == TEACHERS]
    yield from (f"{row['trial_id']}: {row['seed']}" for row in rows_of(teachers))


def _seed(row: Mapping[str, Any]) -> str:
    return str(row["seed"]) if row["state"] == keys.FINISHED else f"{row['seed']} ({row['state']})"


def _commands(found: Origin, names: Mapping[str, str], seeds: Sequence[int]) -> Iterator[str]:
    """Comments, then one line a row of the table."""
    yield f"# Code at revision {', '.join(found.revisions)}; CDKD_DATA_ROOT names the folder of the data."
    yield "# Files of weights that a configuration names are looked for in the folder the command is given in."
    yield f"# The whole study: {_without_folders(found.command)}"
    listed = " ".join(map(str, seeds))
    for label, name in names.items():
        yield f"# {label}"
        train = f"cdkd train {CONFIGS}/{name}.yaml --set seed=$seed --output repeat/{name}-seed$seed"
        yield f"for seed in {listed}; do {train}; done"


def _without_folders(command: str) -> str:
    """Absolute paths cut to the file's own name."""
    return re.sub(r"(?<![\w./-])/(?:[^/\s'\"]+/)*", "", command)


def _readme(study: str) -> str:
    return (
        f"{study}: tables and appendices (.tex, need \\usepackage{{{PACKAGES}}}), figures (.pdf, figures.tex),"
        f" seeds.txt, commands.txt (one command per row of the table, with the configurations in {CONFIGS}/).\n"
        f"`sha256sum -c {CHECKSUMS}` checks the files; its comments name data, teacher and fingerprint of every run.\n"
    )


def _file_sums(folder: Path) -> Iterator[str]:
    """As `sha256sum -c` reads them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CHECKSUMS)
    for path in files:
        yield f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}"


def _run_digests(trials: pd.DataFrame, teacher_digests: Mapping[str, str]) -> Iterator[str]:
    """One comment for every run."""
    for row in rows_of(trials):
        data = row["protocol"].get("data", "unknown")
        own = row["fingerprint"] if row["role"] == TEACHERS else row["teacher"]
        digest = f" sha256 {teacher_digests[own]}" if own in teacher_digests else ""
        teacher = f" teacher {own}{digest}" if own else ""
        which = f"{row['run_id']} {row['label']} seed {row['seed']} fingerprint {row['fingerprint']}"
        yield f"# run {which} data {data}{teacher}"
