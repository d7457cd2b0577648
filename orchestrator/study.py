"""A study file, read and checked: everything that can be known without data, torch or Ray.

    load_study(path, overrides, profile) -> Study
    compile_study(study) -> Plan            (orchestrator.compiler: also looks at the data)

All faults of a file are found in one go and raised as one `UserError`, each with file, line, column and
the nearest valid name. Layers of the training configuration, later over earlier: base, the study's `set`,
the profile's `set`, `--set`, the arm. Paths of files start at the folder of the file that says them, those
of `--set` at the current folder; an empty `data.root` stands for the environment variable CDKD_DATA_ROOT.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cdkd.config import FILE_KINDS, SCORES, TrainingConfig, UncheckedConfig, resolve
from cdkd.data.paths import DATA_ROOT_VARIABLE
from cdkd.identity import semantic_mapping
from cdkd.options import ConfigError, ConfigProblem, describe, flatten_keys, nearest, to_mapping
from orchestrator import settings
from orchestrator.constraints import check_enqueued, read_constraints
from orchestrator.design import BASE_ARM, BASELINE, MOST_ARMS, Arm, Component, Designer, read_components, refit_arms
from orchestrator.errors import Place, Problem, UserError
from orchestrator.library import base_names, find_base, find_profile, profile_names
from orchestrator.metrics import column_fault, objective_fault
from orchestrator.objectives import read_limits, read_objectives
from orchestrator.overrides import Layer, Layers, plain_layer, read_layer
from orchestrator.plan import Budget, Metric, Reference, RefitSpec, RepeatRule, Resources, SearchSpec, TableSpec
from orchestrator.reference import reference_column
from orchestrator.repeats import read_rule
from orchestrator.search_options import (
    PBT,
    canonical,
    check_population_resources,
    check_sampler_fits,
    check_sampler_takes,
    read_options,
    read_population,
    with_pruner,
    with_sampler_defaults,
)
from orchestrator.sections import (
    AblationSection,
    MetricSection,
    RefitSection,
    SearchSection,
    StudySection,
    TableSection,
    read_section,
)
from orchestrator.space import conditions, extremes, read_enqueued, read_space
from orchestrator.table_layout import ShownOptions, check_paths, read_decimals
from orchestrator.yaml_reader import Node, read_file

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")
PARTS = ("ablation", "search")
"""Sections of which a study has one or both: a profile for any study changes those that are there."""
RESERVED_NAMES = ("teachers", "artifacts")


@dataclass(frozen=True)
class StudyArm:
    """One setting of an ablation, resolved.

    Attributes:
        name: name in the tables.
        overrides: what it changes in the study's configuration, by dotted path.
        config: the configuration it makes (with the study's seed).
        switches: component -> on; empty in a study without components.
        place: the line that asks for it.
    """

    name: str
    overrides: dict[str, Any]
    config: TrainingConfig
    switches: dict[str, bool]
    place: Place


@dataclass(frozen=True)
class Study:
    """A checked study file with its profile and `--set` applied.

    Attributes:
        path: the file.
        name: the study's name, fit for a folder.
        question: its description, else the comment it opens with.
        config: base and `set`, resolved: what the arms and the space change.
        arms: of the ablation, each training once; empty for a pure search.
        merged: name of an arm that is the same training as another -> the name it is kept under.
        seeds: repeats of every arm; with `repeats` the most there may be.
        repeats: the rule that adds repeats, or None.
        search: the search, or None.
        budget: what the study may cost.
        layers: where the training options were set.
    """

    path: Path
    name: str
    question: str
    metric: Metric
    resources: Resources
    config: TrainingConfig
    arms: tuple[StudyArm, ...]
    merged: dict[str, str]
    seeds: tuple[int, ...]
    repeats: RepeatRule | None
    search: SearchSpec | None
    table: TableSpec
    budget: Budget
    layers: Layers


def load_study(path: Path | str, overrides: Sequence[str] = (), profile: str | None = None) -> Study:
    """Read and check a study file.

    Args:
        path: the study file.
        overrides: values of `--set`, each `key=value`.
        profile: one of the file's `profiles`, or of the folder `profiles` beside it or of cdkd.

    Raises:
        UserError: with every fault of the file, its base, the profile and the overrides.
    """
    path = Path(path)
    loader = _Loader(path, read_file(path))
    study = loader.load(overrides, profile)
    if study is None or loader.problems:
        raise UserError.of(loader.problems)
    return study


class _Loader:
    """Reads the parts of one study file, collecting problems."""

    def __init__(self, path: Path, root: Node) -> None:
        self.path = path
        self.root = root
        self.problems: list[Problem] = []
        self.chosen = settings.Changes()
        self.broken: frozenset[ConfigProblem] = frozenset()  # rules that the study's own configuration breaks

    def load(self, overrides: Sequence[str], profile: str | None) -> Study | None:
        """The study; None, with problems, when some part of it cannot be made."""
        command_line = settings.command_line(overrides, self.problems)
        self.chosen = self._profile(profile)
        self.root = settings.changed(settings.changed(self.root, self.chosen), command_line)
        section = read_section(StudySection, self.root, "", self.problems)
        layers = self._layers(section, [self.chosen.training, command_line.training])
        self._check_name(section)
        ablation = section.ablation if section else None
        components = read_components(ablation.components if ablation else None, self.problems)
        drafts = self._drafts(ablation, components)
        if section is not None and section.search is not None and section.search.refit is not None:
            drafts.append(Arm(BASE_ARM, {}, self.root.place_of(["search", "refit"])))
        config = self._config(layers)
        if section is None or config is None:
            self._check_space_alone()
            return None
        return self._assemble(section, layers, config, components, drafts)

    def _assemble(
        self,
        section: StudySection,
        layers: Layers,
        config: TrainingConfig,
        components: Mapping[str, Component],
        drafts: Sequence[Arm],
    ) -> Study:
        self._check_metric(section, config)
        metric = Metric(section.metric.name, section.metric.mode, section.metric.select)
        search = self._search(section.search, metric, config, layers) if section.search else None
        arms, merged = self._arms(drafts, components, layers)
        if search is not None and search.pbt is not None:
            self._check_population_resources(section)
        resources = Resources(**{name: getattr(section.resources, name) for name in Resources.__dataclass_fields__})
        table = self._table(section.table, section.metric, config, arms, merged, tuple(components), search)
        return Study(
            path=self.path,
            name=section.study,
            question=section.description or _opening_comment(self.path),
            metric=metric,
            resources=resources,
            config=config,
            arms=arms,
            merged=merged,
            seeds=self._seeds(section, config),
            repeats=self._repeats(section.ablation, table.baseline),
            search=search,
            table=table,
            budget=Budget(section.budget.gpu_hours, section.budget.cpu_hours),
            layers=layers,
        )

    def _tell(self, path: Sequence[str | int], message: str, key: str = "") -> None:
        """Add a problem at a path of the file."""
        self.problems.append(Problem(self.root.place_of(path), key or ".".join(map(str, path)), message))

    # ------------------------------------------------------------------- profile, base, configuration

    def _profile(self, name: str | None) -> settings.Changes:
        """The chosen profile's changes; every profile of the file is checked."""
        node = self.root.value.get("profiles", Node({}, self.root.place))
        if not isinstance(node.value, dict):
            self._tell(["profiles"], f"must be a section of profiles, got {describe(node.plain())}")
            return settings.Changes()
        own = {key: settings.profile(key, child, self.problems) for key, child in node.value.items()}
        known = sorted({*own, *profile_names(self.path)})
        if name is not None and name not in known:
            self._tell(
                ["profiles"],
                f"there is no profile {name!r}{nearest(name, known)}; this study has {', '.join(known)}",
                "--profile",
            )
        shared = self._shared_profile(name) if name is not None else settings.Changes()
        return own.get(name or "", settings.Changes()).over(shared)

    def _shared_profile(self, name: str) -> settings.Changes:
        """The profile of that name for any study; no changes where there is none."""
        file = find_profile(name, self.path) if re.fullmatch(r"[\w-]+", name) else None
        if file is None:
            return settings.Changes()
        try:
            found = settings.profile("", read_file(file), self.problems)
            there = {key: node for key, node in found.study.items() if key[0] not in PARTS or key[0] in self.root.value}
            return replace(found, study=there)
        except UserError as error:
            if not error.problems:
                raise
            self.problems.extend(error.problems)
            return settings.Changes()

    def _layers(self, section: StudySection | None, changes: Sequence[Layer]) -> Layers:
        base_key = self.root.place_of(["base"])
        layers: list[Layer] = [self._implied(section), self._base()]
        if section is not None and section.set is not None:
            layers.append(read_layer(section.set, "set", self.problems))
        replaced = [self.chosen.replaced(layer) for layer in layers]
        return _with_data_root(Layers((*replaced, *changes), base_key))

    def _base(self) -> Layer:
        node = self.root.value.get("base")
        if node is None or not isinstance(node.value, str):
            return {}
        file = find_base(node.value, self.path) if re.fullmatch(r"[\w.-]+", node.value) else None
        if file is None:
            known = base_names(self.path)
            self._tell(
                ["base"], f"there is no base {node.value!r}{nearest(node.value, known)}; bases are {', '.join(known)}"
            )
            return {}
        try:
            return read_layer(read_file(file), "", self.problems)
        except UserError as error:
            if not error.problems:
                raise
            self.problems.extend(error.problems)
            return {}

    def _implied(self, section: StudySection | None) -> Layer:
        """The study's metric also names the best epoch, unless `evaluation.select` is written somewhere."""
        score = section.metric.name.partition("/")[2] if section else ""
        place = self.root.place_of(["metric", "name"])
        return {"evaluation.select": Node(score, place)} if score in SCORES else {}

    def _config(self, layers: Layers) -> TrainingConfig | None:
        """The study's configuration; where it breaks rules between options, as it is, to check the rest by.

        Faulty options are left out of it, so that broken rules are told only where there are none.
        """
        try:
            return layers.resolve()
        except ConfigError as error:
            if not self.problems:
                self.problems.extend(layers.problems(error))
            self.broken = frozenset(error.problems)
        try:
            return layers.resolve(UncheckedConfig)
        except ConfigError:
            return None

    def _check_name(self, section: StudySection | None) -> None:
        if section is None:
            return
        if not _NAME.fullmatch(section.study):
            self._tell(["study"], f"must have 1 to 80 letters, digits, `_`, `.` and `-`, got {describe(section.study)}")
        if section.study.lower() in RESERVED_NAMES:
            self._tell(["study"], f"{section.study!r} is a folder of the results; choose another name")
        if not {"ablation", "search"} & self.root.value.keys():
            self._tell(["study"], "the study asks for nothing: it needs `ablation`, `search` or both", "study")

    def _check_metric(self, section: StudySection, config: TrainingConfig) -> None:
        fault = objective_fault(section.metric.name, config)
        if fault:
            self._tell(["metric", "name"], fault)
        if section.search and section.metric.name.startswith("test/"):
            self._tell(["metric", "name"], "a search is not steered by the test split; use val/...")

    # -------------------------------------------------------------------------------------- ablation

    def _seeds(self, section: StudySection, config: TrainingConfig) -> tuple[int, ...]:
        """The seeds of the arms, with a rule for repeats the most there may be."""
        ablation, refit = section.ablation, section.search.refit if section.search else None
        if ablation is None:
            return refit.seeds if refit else ()
        if ablation.repeats is not None:
            return tuple(range(ablation.repeats.max))
        return ablation.seeds or (config.seed,)

    def _repeats(self, ablation: AblationSection | None, baseline: str) -> RepeatRule | None:
        if ablation is None or ablation.repeats is None:
            return None
        said, path = ablation.repeats, ["ablation", "repeats"]
        if ablation.seeds:
            self._tell(path, "the repeats are seeds 0, 1, ...; leave out ablation.seeds")
        try:
            rule = read_rule(said.min, said.max, said.until)
        except ValueError as error:
            self._tell([*path, "until"], str(error))
            return None
        if rule.statistic == "difference" and not baseline:
            self._tell([*path, "until"], "there is no baseline to take differences to; name one in table.baseline")
        if rule.width >= 1:
            self._tell([*path, "until"], f"scores lie in [0, 1]: for {rule.width:g} points write {rule.width / 100:g}")
        return rule

    def _drafts(self, ablation: AblationSection | None, components: Mapping[str, Component]) -> list[Arm]:
        """The arms that the section asks for, unresolved, doubles included."""
        if ablation is None:
            return []
        if ablation.design is None and ablation.arms is None:
            self._tell(["ablation"], "needs `design` or `arms`")
        is_faulty = ablation.components is not None and not components
        designer = Designer(components, [] if is_faulty else self.problems)
        explicit = designer.explicit(ablation.arms, ablation.arms.place, "ablation.arms") if ablation.arms else ()
        drafts = [*explicit, *designer.arms(ablation.design)]
        return [replace(draft, overrides=self.chosen.replaced(draft.overrides)) for draft in drafts]

    def _arms(
        self, drafts: Sequence[Arm], components: Mapping[str, Component], layers: Layers
    ) -> tuple[tuple[StudyArm, ...], dict[str, str]]:
        """Resolve the arms and keep one of each training."""
        kept: dict[str, StudyArm] = {}
        by_name: dict[str, str] = {}
        merged: dict[str, str] = {}
        if len(drafts) > MOST_ARMS:
            self._tell(["ablation"], f"makes more than {MOST_ARMS} arms")
            return (), {}
        for draft in drafts:
            config = self._arm_config(draft, layers)
            if config is None:
                continue
            identity = _identity(config)
            if by_name.setdefault(draft.name, identity) != identity:
                message = f"two arms of different content are called {draft.name!r}"
                self.problems.append(Problem(draft.place, "ablation", message))
            arm = kept.setdefault(identity, _resolved(draft, config, components))
            if arm.name != draft.name:
                merged[draft.name] = arm.name
        return tuple(kept.values()), merged

    def _arm_config(self, draft: Arm, layers: Layers) -> TrainingConfig | None:
        together = Layers((*layers.layers, draft.overrides), draft.place)
        try:
            return together.resolve()
        except ConfigError as error:
            own = Layers((draft.overrides,), draft.place).problems(self._unknown(error))
            self.problems.extend(Problem(p.place, p.key, f"{p.message} (in arm {draft.name!r})") for p in own)
            return None if own else together.resolve(UncheckedConfig)

    def _unknown(self, error: ConfigError) -> ConfigError:
        """What is wrong beside the rules that the study's own configuration breaks."""
        return ConfigError([problem for problem in error.problems if problem not in self.broken])

    # ---------------------------------------------------------------------------------------- search

    def _search(self, section: SearchSection, metric: Metric, config: TrainingConfig, layers: Layers) -> SearchSpec:
        node = self.root.value["search"]
        space = read_space(section.space, "search.space", self.problems)
        if section.pbt is None:
            check_sampler_fits(section.sampler, space, node, self.problems)
        training_seed = config.seed if section.training_seed is None else section.training_seed
        self._check_combinations(space, section.space, layers)
        self._check_refit(section.refit, training_seed)
        population = read_population(section, space, config, node, self.problems)
        search = SearchSpec(
            sampler=PBT if population is not None else canonical(section.sampler),
            sampler_options=self._sampler_options(section, node),
            pruner="none",
            pruner_options={},
            trials=section.trials,
            seed=section.seed,
            space=space,
            training_seed=training_seed,
            enqueue=read_enqueued(section.enqueue, space, "search.enqueue", self.problems),
            refit=RefitSpec(section.refit.top, section.refit.seeds) if section.refit else None,
            pbt=population,
            objectives=read_objectives(section.objectives, metric, config, self.problems),
            constraints=read_constraints(section.constraints, space, self.problems),
            limits=read_limits(section.limits, config, self.problems),
        )
        search = replace(search, sampler_options=with_sampler_defaults(search))
        search = with_pruner(search, section, config.train.epochs, node, self.problems)
        check_enqueued(search.enqueue, search.constraints, section.enqueue, self.problems)
        check_sampler_takes(search, node, self.problems)
        return search

    def _sampler_options(self, section: SearchSection, node: Node) -> dict[str, Any]:
        """The options of the sampler; a population has none."""
        return {} if section.pbt is not None else read_options("sampler", section.sampler, node, self.problems)

    def _check_population_resources(self, section: StudySection) -> None:
        resources = section.resources
        self.problems.extend(
            check_population_resources(
                resources.num_workers, resources.backend, lambda key: self.root.place_of(["resources", key])
            )
        )

    def _check_refit(self, refit: RefitSection | None, training_seed: int) -> None:
        """Seeds that tuned and seeds that are reported never mix; all rows of a table have the same seeds."""
        if refit is None:
            return
        path = ["search", "refit", "seeds"]
        if not refit.seeds:
            self._tell(path, "must name at least one seed")
        if training_seed in refit.seeds:
            self._tell(path, f"seed {training_seed} is the search's own (search.training_seed); report other seeds")
        ablation = self.root.value.get("ablation")
        if ablation is None:
            return
        said = ablation.plain()
        if "repeats" in said and "seeds" not in said:
            listed = ", ".join(map(str, refit.seeds))
            message = f"no rule adds repeats to a refit, which the table shows too: write ablation.seeds: [{listed}]"
            self._tell(["ablation", "repeats"], f"{message} instead")
        elif said.get("seeds") != list(refit.seeds):
            self._tell(path, "must be the same as ablation.seeds, since the arms stand in one table")

    def _check_combinations(self, space: Mapping[str, Mapping[str, Any]], node: Node, layers: Layers) -> None:
        """Try every extreme value of every option, by itself, against the rules between options."""
        below = [plain_layer(layer) for layer in layers.layers]
        for path, declaration in space.items():
            place = node.place_of([path])
            parents = conditions(path, space)
            for value in extremes(declaration):
                try:
                    resolve(*below, {**parents, path: value})
                except ConfigError as error:
                    if own := str(self._unknown(error)):
                        message = f"cannot be {describe(value)} here: {own}"
                        self.problems.append(Problem(place, f"search.space.{path}", message))

    def _check_space_alone(self) -> None:
        """Tell the faults of a space also where the rest of the study cannot be made."""
        node = self.root.value.get("search")
        if node is not None and isinstance(node.value, dict) and "space" in node.value:
            read_space(node.value["space"], "search.space", self.problems)

    # ----------------------------------------------------------------------------------------- table

    def _table(
        self,
        section: TableSection,
        metric: MetricSection,
        config: TrainingConfig,
        arms: Sequence[StudyArm],
        merged: Mapping[str, str],
        components: tuple[str, ...],
        search: SearchSpec | None,
    ) -> TableSpec:
        refitted = refit_arms(search.refit.top) if search and search.refit else ()
        names = {arm.name: arm.name for arm in arms} | dict(merged) | {name: name for name in refitted}
        for index, column in enumerate(section.columns):
            fault = column_fault(column, config)
            if fault:
                self._tell(["table", "columns", index], fault, f"table.columns[{index}]")
        switches = {arm.name: arm.switches for arm in arms}
        configs = {arm.name: arm.config for arm in arms} | dict.fromkeys(refitted, config)
        columns = section.columns or (metric.name,)
        baselines = self._baselines(section.baseline, names, arms)
        shown = self._shown_options(section)
        blocks = shown.blocks(self._rows(section.rows, names), configs, baselines)
        references = self._references(section.reference, (metric.name, *columns), switches)
        reference = references.pop(metric.name, Reference())
        return TableSpec(
            columns=columns,
            baseline=baselines[0] if baselines else "",
            arms=tuple(arm for block in blocks for arm in block.arms),
            components=components,
            switches=switches if components else {},
            labels=self._labels(section.labels, names),
            reference=reference.values,
            reference_name=reference.title,
            reference_std=reference.deviations,
            factors={arm.name: shown.values(arm.config) for arm in arms} if shown.paths else {},
            group_by=shown.group_by,
            blocks=blocks,
            allow=section.allow,
            side_by_side=section.side_by_side,
            decimals=read_decimals(section.decimals, (metric.name, *columns), self.problems),
            references=references,
            merged=dict(merged),
        )

    def _shown_options(self, section: TableSection) -> ShownOptions:
        for key, paths in (("factors", section.factors), ("group_by", section.group_by)):
            self.problems.extend(check_paths(f"table.{key}", paths, self.root.place_of(["table", key])))
        return ShownOptions(section.factors, section.group_by)

    def _baselines(self, node: Node | None, names: Mapping[str, str], arms: Sequence[StudyArm]) -> tuple[str, ...]:
        """The named arms, else `baseline`, else the arm that changes nothing, else none."""
        if node is None or node.value == "":
            unchanged = next((arm.name for arm in arms if not arm.overrides), "")
            return tuple(filter(None, [names.get(BASELINE, unchanged)]))
        wanted = node.plain() if isinstance(node.value, list) else [node.plain()]
        for name in wanted:
            if not isinstance(name, str) or name not in names:
                self._tell(["table", "baseline"], f"there is no arm {name!r}{nearest(str(name), list(names))}")
        return tuple(dict.fromkeys(names[name] for name in wanted if isinstance(name, str) and name in names))

    def _rows(self, node: Node | None, names: Mapping[str, str]) -> tuple[str, ...]:
        every = tuple(dict.fromkeys(names.values()))
        if node is None or node.value == "arm":
            return every
        if not isinstance(node.value, list):
            self._tell(["table", "rows"], f"must be `arm` or a list of arms, got {describe(node.plain())}")
            return every
        wanted = [item.plain() for item in node.value]
        for index, name in enumerate(wanted):
            if not isinstance(name, str) or name not in names:
                hint = nearest(str(name), list(names))
                self._tell(["table", "rows", index], f"there is no arm {describe(name)}{hint}", f"table.rows[{index}]")
        return tuple(dict.fromkeys(names[name] for name in wanted if isinstance(name, str) and name in names))

    def _labels(self, node: Node | None, names: Mapping[str, str]) -> dict[str, str]:
        if node is None:
            return {}
        if not isinstance(node.value, dict):
            self._tell(["table", "labels"], f"must be a section {{arm: text}}, got {describe(node.plain())}")
            return {}
        for name, child in node.value.items():
            if name not in names:
                self._tell(["table", "labels", name], f"there is no arm {name!r}{nearest(name, list(names))}")
            if not isinstance(child.plain(), str):
                self._tell(["table", "labels", name], f"must be a text, got {describe(child.plain())}")
        return {names[name]: str(child.plain()) for name, child in node.value.items() if name in names}

    def _references(
        self, node: Node | None, columns: Sequence[str], switches: Mapping[str, Mapping[str, bool]]
    ) -> dict[str, Reference]:
        """The paper's values by column of the table; a text is meant for the metric, which comes first in `columns`."""
        if node is None or node.value == "":
            return {}
        if not isinstance(node.value, dict):
            found = self._reference(["table", "reference"], node, switches)
            return {} if found is None else {columns[0]: found}
        for name in node.value:
            if name not in columns:
                message = f"is no column of this table{nearest(name, list(dict.fromkeys(columns)))}"
                self._tell(["table", "reference", name], message)
        read = {
            name: self._reference(["table", "reference", name], child, switches) for name, child in node.value.items()
        }
        return {name: found for name, found in read.items() if found is not None}

    def _reference(self, path: list[str], node: Node, switches: Mapping[str, Mapping[str, bool]]) -> Reference | None:
        """One column of the paper; None, with a problem, where it cannot be read."""
        if not isinstance(node.value, str):
            self._tell(path, f"must be <table>.<column>, got {describe(node.plain())}")
            return None
        try:
            return reference_column(node.value, switches)
        except ValueError as error:
            self._tell(path, str(error))
            return None


def _with_data_root(layers: Layers) -> Layers:
    """Write CDKD_DATA_ROOT into the configuration where no root is, so that workers elsewhere see the same one."""
    said = [layer[path].plain() for path in ("data.root", "data.kind") for layer in layers.layers if path in layer]
    environment = os.environ.get(DATA_ROOT_VARIABLE, "")
    root = next((layer["data.root"].plain() for layer in reversed(layers.layers) if "data.root" in layer), "")
    if root or not environment or not {*FILE_KINDS} & {*said}:
        return layers
    place = Place(f"${DATA_ROOT_VARIABLE}")
    node = Node(os.path.abspath(Path(environment).expanduser()), place)
    return Layers((*layers.layers, {"data.root": node}), layers.fallback)


def _identity(config: TrainingConfig) -> str:
    return json.dumps(semantic_mapping(config), sort_keys=True)


def _resolved(draft: Arm, config: TrainingConfig, components: Mapping[str, Component]) -> StudyArm:
    switches = dict(draft.switches) or _switches_of(config, components)
    return StudyArm(draft.name, plain_layer(draft.overrides), config, switches, draft.place)


def _switches_of(config: TrainingConfig, components: Mapping[str, Component]) -> dict[str, bool]:
    """Which components are on in a configuration: not all of their `off` holds, and what they need is on."""
    flat = flatten_keys(to_mapping(config))
    on = {
        name: any(flat.get(path) != node.plain() for path, node in component.off.items())
        for name, component in components.items()
    }
    for _ in components:
        on = {name: is_on and all(on[need] for need in components[name].needs) for name, is_on in on.items()}
    return on


def _opening_comment(path: Path) -> str:
    """The comment lines that a file opens with, as one text: up to the first that is empty or indented."""
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if "yaml-language-server" in line:
            continue
        if not line.startswith("# ") or line.startswith("#  "):
            break
        lines.append(line.removeprefix("# "))
    return " ".join(" ".join(lines).split())
