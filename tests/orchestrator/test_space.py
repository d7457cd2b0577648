"""Search spaces: what is sampled, and which declarations cannot be."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path

import optuna
import pytest

from orchestrator.errors import Place, UserError
from orchestrator.plan import PopulationSpec, SearchSpec
from orchestrator.search_options import PRUNERS, SAMPLERS, canonical
from orchestrator.space import conditions, encode, grid, read_space, suggest
from orchestrator.study import load_study
from orchestrator.yaml_reader import read_text

SPACE = """\
distill.alpha: {type: float, low: 1e-2, high: 10, log: true}
distill.sape.enabled: {type: categorical, choices: [true, false]}
distill.sape.projectors: {type: int, low: 1, high: 4, when: {distill.sape.enabled: true}}
distill.sape.kernels:
  type: categorical
  choices: [[3, 5, 7], [3, 5, 7, 7]]
  when: {distill.sape.enabled: true, distill.sape.projectors: [2, 3, 4]}
distill.etht.learn: {type: categorical, choices: [[], [tau], [tau, alpha]]}
"""


def checked(text: str):
    problems = []
    space = read_space(read_text(text, Place("s.yaml")), "search.space", problems)
    return space, [str(problem) for problem in problems]


def study_file(folder: Path, search: str) -> Path:
    (folder / "bases").mkdir(exist_ok=True)
    (folder / "bases" / "tiny.yaml").write_text("student: {input_size: 32}\nteacher: {input_size: 128}\n")
    path = folder / "study.yaml"
    path.write_text(f"study: s\nbase: tiny\nmetric: {{name: val/pckh@0.5}}\nsearch:\n{search}")
    return path


def search_of(folder: Path, search: str) -> SearchSpec:
    spec = load_study(study_file(folder, search)).search
    assert spec is not None
    return spec


def faults(folder: Path, search: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        load_study(study_file(folder, search))
    return [line.replace(f"{folder}/", "") for line in caught.value.lines]


class TestSuggest:
    @pytest.fixture
    def proposals(self):
        space, problems = checked(SPACE)
        assert problems == []
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
        trials = [study.ask() for _ in range(60)]
        return [(suggest(trial, space), trial.params) for trial in trials]

    def test_children_are_sampled_only_where_their_conditions_hold(self, proposals):
        for overrides, _ in proposals:
            assert ("distill.sape.projectors" in overrides) == overrides["distill.sape.enabled"]
            has_several = overrides.get("distill.sape.projectors", 1) > 1
            assert ("distill.sape.kernels" in overrides) == has_several
        assert {overrides["distill.sape.enabled"] for overrides, _ in proposals} == {True, False}

    def test_lists_are_texts_for_optuna_and_lists_for_the_training(self, proposals):
        kernels = {
            (params["distill.sape.kernels"], tuple(o["distill.sape.kernels"]))
            for o, params in proposals
            if "distill.sape.kernels" in o
        }
        assert kernels == {("3-5-7", (3, 5, 7)), ("3-5-7-7", (3, 5, 7, 7))}
        learned = {(params["distill.etht.learn"], tuple(o["distill.etht.learn"])) for o, params in proposals}
        assert learned == {("none", ()), ("tau", ("tau",)), ("tau-alpha", ("tau", "alpha"))}

    def test_bounds_and_logarithm_reach_optuna(self, proposals):
        values = [overrides["distill.alpha"] for overrides, _ in proposals]
        assert all(0.01 <= value <= 10 for value in values)
        assert sum(value < 0.316 for value in values) > 15  # half of them, on a logarithmic scale

    def test_an_encoded_configuration_is_proposed_as_it_is(self):
        space, _ = checked(SPACE)
        wanted = {
            "distill.alpha": 0.5,
            "distill.sape.enabled": True,
            "distill.sape.projectors": 2,
            "distill.sape.kernels": [3, 5, 7, 7],
            "distill.etht.learn": [],
        }
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
        study.enqueue_trial(encode(wanted))
        assert suggest(study.ask(), space) == wanted

    def test_a_step_is_kept(self):
        space, _ = checked("distill.alpha: {type: float, low: 0, high: 1, step: 0.25}")
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
        values = {suggest(study.ask(), space)["distill.alpha"] for _ in range(60)}
        assert values == set(grid(space)["distill.alpha"]) == {0.0, 0.25, 0.5, 0.75, 1.0}


class TestSpellings:
    @pytest.mark.parametrize(
        ("written", "declaration"),
        [
            ("{low: 0.1, high: 1}", {"type": "float", "low": 0.1, "high": 1.0, "log": False, "step": None}),
            ("{distribution: uniform, min: 0, max: 1}", {"type": "float", "low": 0.0, "high": 1.0, "log": False}),
            ("{distribution: log_uniform_values, min: 1e-3, max: 1}", {"type": "float", "low": 0.001, "log": True}),
            ("{distribution: q_uniform, min: 0, max: 1, q: 0.5}", {"type": "float", "step": 0.5}),
            ("{values: [1, 2.5]}", {"type": "categorical", "choices": [1.0, 2.5]}),
            ("{type: int, low: 1, high: 3}", {"type": "int", "low": 1, "high": 3}),
        ],
    )
    def test_other_tools_spellings_become_ours(self, written, declaration):
        space, problems = checked(f"distill.alpha: {written}")
        assert problems == []
        assert declaration.items() <= space["distill.alpha"].items()

    def test_a_switch_needs_no_choices(self):
        space, _ = checked("distill.sape.enabled: {type: categorical}")
        assert space["distill.sape.enabled"]["choices"] == [True, False]

    def test_num_samples_is_trials(self, tmp_path):
        spec = search_of(tmp_path, "  num_samples: 7\n  space: {distill.alpha: {low: 0, high: 1}}\n")
        assert spec.trials == 7


@pytest.mark.parametrize(
    ("declaration", "fault"),
    [
        ("distill.alpa: {low: 0, high: 1}", "no such configuration key (did you mean 'distill.alpha'?)"),
        ("distill.sape: {choices: [1]}", "no such configuration key"),
        ("seed: {type: int, low: 0, high: 9}", "a seed is never searched; repeats belong to ablation.seeds"),
        ("teacher.seed: {type: int, low: 0, high: 9}", "a seed is never searched"),
        ("distill.alpha: 3", "must be a declaration such as"),
        ("distill.alpha: {low: 2, high: 1}", "distill.alpha.low: cannot be sampled: low 2.0 is above high 1.0"),
        ("distill.alpha: {low: 0, high: 1, log: true}", "distill.alpha.low: cannot be sampled: log needs low above 0"),
        ("distill.alpha: {low: 0.1, high: 1, log: true, step: 0.1}", "log and step exclude each other"),
        ("distill.alpha: {low: 0, high: 1, step: 0}", "distill.alpha.step: cannot be sampled: must be greater than 0"),
        ("distill.alpha: {low: 0}", "type: float needs low and high"),
        ("distill.alpha: {low: a, high: 1}", 'distill.alpha.low: must be a finite number, got "a"'),
        ("distill.alpha: {low: -1, high: 1}", "distill.alpha.low: must be at least 0, got -1"),
        ("distill.alpha: {low: 0, hi: 1}", "distill.alpha.hi: unknown key (did you mean 'high'?)"),
        ("distill.alpha: {low: 0, min: 0, high: 1}", "says the same as 'low'; keep one of them"),
        ("distill.alpha: {type: flot, low: 0, high: 1}", "(did you mean 'float'?)"),
        ("distill.alpha: {choices: []}", "must be a list of at least one choice"),
        ("distill.alpha: {choices: [1, 1.0]}", "is in the list twice"),
        ("distill.alpha: {choices: [1], low: 0}", "distill.alpha.low: does not go with type: categorical"),
        (
            "train.epochs: {type: float, low: 1, high: 2}",
            "is a whole number, which type: float cannot sample; use type: int",
        ),
        ("train.epochs: {type: int, low: 1.5, high: 2}", "train.epochs.low: type: int needs a whole number, got 1.5"),
        ("student.backbone: {type: float, low: 1, high: 2}", "use type: categorical"),
        ("student.backbone: {choices: [hrnet_w33]}", "(did you mean 'hrnet_w3"),
        ("distill.sape.kernels: {choices: [[3, 5], 3]}", "must be a list, got 3"),
        ("distill.alpha: {low: 0, high: 1, when: {distill.beta: 1}}", "distill.beta: is not sampled in this space"),
        ("distill.alpha: {low: 0, high: 1, when: [1]}", "must be a section {path: value}"),
    ],
)
def test_a_declaration_that_cannot_be_sampled_is_one_line(declaration, fault):
    space, problems = checked(declaration)
    assert space == {}
    assert fault in " | ".join(problems)
    assert all(problem.startswith("s.yaml:1:") for problem in problems)


@pytest.mark.parametrize(
    ("when", "fault"),
    [
        ("{train.epochs: 2}", "is declared later; declare it before"),
        ("{distill.sape.enabled: 1}", "can never be 1 in this space"),
        ("{distill.sape.projectors: 9}", "can never be 9 in this space"),
        ("{distill.sape.projectors: true}", "can never be true in this space"),
        ("{distill.beta: 0.5}", "can never be 0.5 in this space"),
        ("{distill.alpha: 1}", "is declared later"),
    ],
)
def test_a_condition_must_be_reachable(when, fault):
    before = (
        "distill.sape.enabled: {choices: [true]}\n"
        "distill.sape.projectors: {low: 1, high: 3}\n"
        "distill.beta: {low: 0, high: 1}\n"
    )
    after = "train.epochs: {low: 1, high: 3}\n"
    _, problems = checked(f"{before}distill.alpha: {{low: 0, high: 1, when: {when}}}\n{after}")
    assert len(problems) == 1
    assert problems[0].startswith("s.yaml:4:")
    assert fault in problems[0]


def test_conditions_include_those_of_the_parents():
    space, _ = checked(SPACE)
    wanted = {"distill.sape.enabled": True, "distill.sape.projectors": 2}
    assert conditions("distill.sape.kernels", space) == wanted


class TestSearchSection:
    SPACE = "  space: {distill.alpha: {low: 0, high: 1}}\n"

    @pytest.mark.parametrize(
        ("lines", "fault"),
        [
            ("  trials: 0\n", "search.trials: must be at least 1, got 0"),
            ("  sampler: tpee\n  trials: 1\n", "(did you mean 'tpe'?)"),
            ("  pruner: pbt\n  trials: 1\n", "trains a population"),
            ("  pruner: aut\n  trials: 1\n", "must be one of auto, none, median"),
            ("  trials: 1\n  sampler_options: {n_startup: 3}\n", "(did you mean 'n_startup_trials'?)"),
            ("  trials: 1\n  sampler_options: {multivariate: 1}\n", "must be true or false, got 1"),
            ("  trials: 1\n  pruner: percentile\n", "search.pruner_options.percentile: is missing"),
            ("  trials: 1\n  sampler: grid\n", "cannot be sampled by grid: a float needs step"),
            ("  trials: 1\n  enqueue: [{distill.beta: 1}]\n", "search.enqueue[0].distill.beta: is not sampled"),
            ("  trials: 1\n  enqueue: [{distill.alpha: 2}]\n", "2 is outside the space"),
            ("  trials: 1\n  enqueue: {}\n", "must be a list of sections"),
            ("  trials: 4\n  pruner: asha\n  pbt: {interval: 2}\n", "search.pruner: does not go with search.pbt"),
            ("  trials: 4\n  sampler: gp\n  pbt: {interval: 2}\n", "search.sampler: does not go with search.pbt"),
            ("  trials: 1\n  pbt: {interval: 2}\n", "search.trials: is the number of members of the population"),
            ("  trials: 4\n  pbt: {interval: 500}\n", "search.pbt.interval: must be less than train.epochs (210)"),
            ("  trials: 4\n  pbt: {interval: 2, quantile: 0.6}\n", "search.pbt.quantile: must be at most 0.5, got 0.6"),
            ("  trials: 4\n  pbt: {interval: 2, factors: []}\n", "search.pbt.factors: must name at least one factor"),
            ("  trials: 4\n  pbt: {intervall: 2, interval: 2}\n", "(did you mean 'interval'?)"),
            ("  trials: 4\n  pbt: {}\n", "search.pbt.interval: is missing"),
        ],
    )
    def test_a_faulty_search_is_one_line(self, tmp_path, lines, fault):
        found = faults(tmp_path, lines + self.SPACE)
        assert len(found) == 1
        assert found[0].startswith("study.yaml:")
        assert fault in found[0]

    def test_a_choice_that_breaks_a_rule_between_options_is_told(self, tmp_path):
        found = faults(tmp_path, "  trials: 1\n  space: {distill.sape.kernels: {choices: [[3], [4]]}}\n")
        assert len(found) == 1
        assert "cannot be [4] here: distill.sape.kernels: kernel sizes must be odd" in found[0]

    @pytest.mark.parametrize(
        ("space", "fault"),
        [
            (
                "student.backbone: {choices: [hrnet_w16]}",
                "search.space.student.backbone: cannot change during a training",
            ),
            ("train.epochs: {low: 1, high: 9}", "search.space.train.epochs: cannot change during a training"),
            ("simcc.task_scale: {low: 1, high: 9}", "these can: data.augmentation.half_body_probability"),
        ],
    )
    def test_a_population_changes_only_what_may_change_during_a_training(self, tmp_path, space, fault):
        (found,) = faults(tmp_path, f"  trials: 4\n  pbt: {{interval: 2}}\n  space: {{{space}}}\n")
        assert found.startswith("study.yaml:")
        assert fault in found

    @pytest.mark.parametrize(
        ("lines", "fault"),
        [
            (
                "resources: {num_workers: 2}\n",
                "resources.num_workers: a search by a population needs trials of one wor",
            ),
            ("resources: {backend: train}\n", "resources.backend: a search by a population needs trials of one worker"),
            ("set: {distill.sape.enabled: false}\n", "search.space.distill.alpha: has no effect in this training"),
            (
                "set: {schedule: [{epoch: 3, option: distill.beta, value: 2}]}\n",
                "search.pbt: finds the schedule itself",
            ),
        ],
    )
    def test_what_a_population_cannot_do_is_refused_in_one_line(self, tmp_path, lines, fault):
        file = study_file(tmp_path, "  trials: 4\n  pbt: {interval: 2}\n" + self.SPACE)
        file.write_text(file.read_text() + lines)
        with pytest.raises(UserError) as caught:
            load_study(file)
        (found,) = caught.value.lines
        assert found.startswith(f"{file}:")
        assert fault in found

    def test_a_population_is_read_with_rays_spellings(self, tmp_path):
        spec = search_of(tmp_path, "  num_samples: 4\n  pbt: {perturbation_interval: 3, factors: [2]}\n" + self.SPACE)
        assert (spec.sampler, spec.pruner, spec.trials) == ("pbt", "none", 4)
        assert spec.pbt == PopulationSpec(interval=3, quantile=0.25, resample_probability=0.25, factors=(2.0,))

    def test_a_search_is_not_steered_by_the_test_split(self, tmp_path):
        path = study_file(tmp_path, "  trials: 1\n" + self.SPACE)
        test_set = (
            "data: {kind: coco_layout, train: [{annotations: a, images: b}], test: [{annotations: a, images: b}]}"
        )
        path.write_text(path.read_text().replace("val/", "test/") + f"set: {{{test_set}}}\n")
        with pytest.raises(UserError, match="a search is not steered by the test split"):
            load_study(path)

    @pytest.mark.parametrize(
        ("lines", "options"),
        [
            ("", {"multivariate": False}),
            ("  sampler_options: {n_startup_trials: 4}\n", {"multivariate": False, "n_startup_trials": 4}),
            ("  sampler_options: {multivariate: true}\n", {"multivariate": True}),
            ("  sampler_options: {group: true}\n", {"group": True}),
            ("  sampler: random\n", {}),
        ],
    )
    def test_options_are_drawn_one_by_one_unless_the_study_says_otherwise(self, tmp_path, lines, options):
        assert search_of(tmp_path, "  trials: 1\n" + lines + self.SPACE).sampler_options == options

    def test_names_of_optunas_classes_are_read(self, tmp_path):
        spec = search_of(tmp_path, "  trials: 1\n  sampler: TPESampler\n  pruner: successive_halving\n" + self.SPACE)
        assert (spec.sampler, spec.pruner) == ("tpe", "asha")


@pytest.mark.parametrize(
    ("module", "name", "algorithm"),
    [
        *((optuna.samplers, name, algorithm) for name, algorithm in SAMPLERS.items()),
        *((optuna.pruners, name, algorithm) for name, algorithm in PRUNERS.items()),
    ],
)
def test_the_options_written_down_are_those_of_the_installed_optuna(module, name, algorithm):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parameters = inspect.signature(getattr(module, algorithm.class_name)).parameters
    assert set(algorithm.options) <= set(parameters)
    assert canonical(algorithm.class_name) == name
