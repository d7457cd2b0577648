"""Study files: what they mean, and that every fault is told at its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.plan import Budget, RefitSpec, RepeatRule
from orchestrator.study import Study, load_study

BASE = "student: {input_size: 32, backbone: hrnet_w16}\nteacher: {input_size: 128}\nsimcc: {split_ratio: 2.0}\n"

DESIGN_EXAMPLE = """\
# Which of SAPE, CCA and ETHT matters at 64x64?  -> Table IV
study: table4-modules-mpii-64
base: tiny
metric: {name: val/pckh@0.5, mode: max, select: best}
ablation:
  components:
    projector: {off: {distill.sape.enabled: false}}
    ensemble:  {off: {distill.sape.projectors: 1}, needs: [projector]}
    sau:       {off: {distill.sape.sau: false}, needs: [ensemble]}
    cca:       {off: {distill.cca.enabled: false}}
    etht:      {off: {distill.etht.learn: []}, needs: [cca]}
  design: [{ladder: [projector, ensemble, sau]}, {ladder: [cca, etht]}, leave_one_out, full]
  seeds: [0, 1, 2, 3, 4]
resources: {num_workers: 1, gpus_per_worker: 1, cpus_per_worker: 4, max_concurrent_trials: auto}
budget: {gpu_hours: 400}
table:
  rows: arm
  columns: [val/pckh@0.5, params_m, gflops, train_seconds]
  reference: table_IV.mpii_mean
"""

ONE_ARM = """\
study: s
base: tiny
metric: {name: val/pckh@0.5}
ablation: {arms: {a: {}}}
"""


ONE_ABLATION = "ablation: {arms: {a: {}}}"


def write(folder: Path, text: str, base: str = BASE) -> Path:
    (folder / "bases").mkdir(exist_ok=True)
    (folder / "bases" / "tiny.yaml").write_text(base)
    path = folder / "study.yaml"
    path.write_text(text)
    return path


def read(folder: Path, text: str, *overrides: str, profile: str | None = None, base: str = BASE) -> Study:
    return load_study(write(folder, text, base), overrides, profile)


def faults(folder: Path, text: str, *overrides: str, profile: str | None = None, base: str = BASE) -> list[str]:
    """The lines of the error, with the folder taken off."""
    with pytest.raises(UserError) as caught:
        read(folder, text, *overrides, profile=profile, base=base)
    return [line.replace(f"{folder}/", "") for line in caught.value.lines]


class TestTheExampleOfTheDesign:
    def test_arms_are_the_union_of_the_designs_each_training_once(self, tmp_path):
        study = read(tmp_path, DESIGN_EXAMPLE)
        assert [arm.name for arm in study.arms] == [
            "baseline",
            "+projector",
            "+projector+ensemble",
            "+projector+ensemble+sau",
            "+cca",
            "+cca+etht",
            "without_ensemble",
            "without_sau",
            "without_etht",
            "full",
        ]
        assert study.merged == {"without_projector": "+cca+etht", "without_cca": "+projector+ensemble+sau"}

    def test_switching_a_component_off_switches_off_what_needs_it(self, tmp_path):
        arms = {arm.name: arm for arm in read(tmp_path, DESIGN_EXAMPLE).arms}
        assert arms["without_ensemble"].switches == {
            "projector": True,
            "ensemble": False,
            "sau": False,
            "cca": True,
            "etht": True,
        }
        config = arms["without_ensemble"].config.distill.sape
        assert (config.projectors, config.sau) == (1, False)
        assert arms["full"].overrides == {}

    def test_everything_else_of_the_file_is_read(self, tmp_path):
        study = read(tmp_path, DESIGN_EXAMPLE)
        assert study.question == "Which of SAPE, CCA and ETHT matters at 64x64? -> Table IV"
        assert study.seeds == (0, 1, 2, 3, 4)
        assert study.budget == Budget(gpu_hours=400)
        assert study.resources.cpus_per_worker == 4
        assert study.resources.max_concurrent_trials == 0
        assert study.table.baseline == "baseline"
        assert study.table.columns == ("val/pckh@0.5", "params_m", "gflops", "train_seconds")

    def test_the_papers_numbers_are_found_by_the_components_that_are_on(self, tmp_path):
        table = read(tmp_path, DESIGN_EXAMPLE).table
        assert table.reference["+projector+ensemble"] == 78.88
        assert table.reference["full"] == 79.24
        assert "without_etht" not in table.reference
        assert table.reference_name == "Table IV, mpii_mean"
        assert table.reference_std["full"] == 0.21


def designed(
    design: str, components: str = "a: {off: {distill.sape.enabled: false}}, c: {off: {distill.cca.enabled: false}}"
):
    return f"""\
study: s
base: tiny
metric: {{name: val/pckh@0.5}}
ablation:
  components: {{{components}}}
  design: {design}
"""


class TestDesigns:
    @pytest.mark.parametrize(
        ("design", "names"),
        [
            ("[{ladder: [c, a]}]", ["baseline", "+c", "+c+a"]),
            ("[leave_one_out]", ["without_a", "without_c"]),
            ("[baseline, full]", ["baseline", "full"]),
            ("[factorial]", ["baseline", "+c", "+a", "+a+c"]),
            ("[{factorial: [a]}]", ["baseline", "+a"]),
            (
                "[{one_factor: {distill.sape.projectors: [1, 2], distill.alpha: [5]}}]",
                ["projectors=1", "projectors=2", "alpha=5"],
            ),
            (
                "[{factorial: {distill.alpha: [1, 2], distill.beta: [3, 4]}}]",
                ["alpha=1,beta=3", "alpha=1,beta=4", "alpha=2,beta=3", "alpha=2,beta=4"],
            ),
            ("[{one_factor: {distill.sape.kernels: [[3, 5, 7], [3]]}}]", ["kernels=3-5-7", "kernels=3"]),
            ("[{arms: {mine: {distill.alpha: 2}, base: }}]", ["mine", "base"]),
        ],
    )
    def test_arms_of_each_design(self, tmp_path, design, names):
        assert [arm.name for arm in read(tmp_path, designed(design)).arms] == names

    def test_pairwise_covers_every_pair_with_fewer_arms_than_all_combinations(self, tmp_path):
        factors = "{distill.alpha: [1, 2, 3], distill.beta: [1, 2, 3], train.gamma: [0.1, 0.2, 0.3]}"
        arms = read(tmp_path, designed(f"[{{pairwise: {factors}}}]")).arms
        assert len(arms) < 15
        for first, second in (("distill.alpha", "distill.beta"), ("distill.beta", "train.gamma")):
            assert len({(arm.overrides[first], arm.overrides[second]) for arm in arms}) == 9

    def test_components_of_explicit_arms_are_found_from_their_configuration(self, tmp_path):
        text = designed("[{arms: {half: {distill.sape.enabled: false}, all: {}}}]")
        switches = {arm.name: arm.switches for arm in read(tmp_path, text).arms}
        assert switches == {"half": {"a": False, "c": True}, "all": {"a": True, "c": True}}

    def test_a_component_is_off_where_what_it_needs_is_off(self, tmp_path):
        components = "cca: {off: {distill.cca.enabled: false}}, etht: {off: {distill.etht.learn: []}, needs: [cca]}"
        arm = read(tmp_path, designed("[{arms: {x: {distill.cca.enabled: false}}}]", components)).arms[0]
        assert arm.switches == {"cca": False, "etht": False}

    @pytest.mark.parametrize(
        ("design", "fault"),
        [
            (
                "[laddr]",
                "pairwise, arms, got 'laddr' (did you mean 'ladder'?)",
            ),
            ("[ladder]", "must be a list of components, got nothing"),
            ("[{ladder: [b]}]", '"b" is no component'),
            ("[{ladder: [a, a]}]", "names a component twice"),
            ("[3]", "got 3"),
            ("full", "must be a list of designs"),
            ("[{one_factor: {distill.alpa: [1]}}]", "no such configuration key (did you mean 'distill.alpha'?)"),
            ("[{one_factor: {distill.alpha: 1}}]", "must be a list of values, got 1"),
            ("[{one_factor: {distill.alpha: [-1]}}]", "must be at least 0, got -1"),
            ("[{one_factor: {seed: [1]}}]", "a seed is no factor; repeats belong to ablation.seeds"),
            ("[{arms: {x: {seed: 1}}}]", "an arm does not set the seed"),
            (
                "[{arms: {x: {distill.alpha: 1}}}, {arms: {x: {distill.alpha: 2}}}]",
                "two arms of different content are called 'x'",
            ),
            ("[{arms: {x: {student.input_size: 33}}}]", "must be a multiple of 32, got 33 (in arm 'x')"),
        ],
    )
    def test_a_faulty_design_is_one_line_at_the_design(self, tmp_path, design, fault):
        lines = faults(tmp_path, designed(design))
        assert len(lines) == 1
        assert lines[0].startswith("study.yaml:6:")
        assert fault in lines[0]

    @pytest.mark.parametrize(
        ("components", "fault"),
        [
            ("a: {}", "needs `off: {path: value}`"),
            ("a: {off: {distill.sape.enabled: 0}}", "must be true or false, got 0"),
            ("a: {off: {distill.alpha: 1}, needs: [b]}", '"b" is no other component'),
            ("a: {off: {distill.alpha: 1}, need: []}", "unknown key (did you mean 'needs'?)"),
            (
                "a: {off: {distill.alpha: 1}}, b: {off: {distill.alpha: 2}}",
                "'b' and 'a' set distill.alpha to different values",
            ),
            ("a: {off: {distill.alpha: 1}, needs: [b]}, b: {off: {distill.beta: 1}, needs: [a]}", "needs itself"),
        ],
    )
    def test_a_faulty_component_is_told_at_its_line(self, tmp_path, components, fault):
        lines = faults(tmp_path, designed("[full]", components))
        assert all(line.startswith("study.yaml:5:") for line in lines)
        assert fault in lines[0]

    def test_a_ladder_may_not_switch_on_what_still_lacks_something(self, tmp_path):
        components = "cca: {off: {distill.cca.enabled: false}}, etht: {off: {distill.etht.learn: []}, needs: [cca]}"
        lines = faults(tmp_path, designed("[{ladder: [etht, cca]}]", components))
        assert len(lines) == 1
        assert "'etht' needs 'cca', which is not before it in the ladder" in lines[0]

    @pytest.mark.parametrize("design", ["factorial", "pairwise"])
    def test_combinations_may_not_leave_out_what_one_of_them_needs(self, tmp_path, design):
        components = (
            "sape: {off: {distill.sape.enabled: false}}, cca: {off: {distill.cca.enabled: false}}, "
            "etht: {off: {distill.etht.learn: []}, needs: [cca]}"
        )
        (line,) = faults(tmp_path, designed(f"[{{{design}: [sape, etht]}}]", components))
        assert line.startswith("study.yaml:6:")
        assert line.endswith(f"{design}: 'etht' needs 'cca', which is not among the components named")
        assert len(read(tmp_path, designed(f"[{{{design}: [sape, cca]}}, {design}]", components)).arms) >= 4


class TestFaults:
    def test_all_faults_of_a_file_and_its_base_are_told_at_once_in_order(self, tmp_path):
        text = """\
study: s
base: tiny
metric: {name: val/pckh@0.5, mod: max}
set: {train.epoch: 3, distill: {alpha: two}}
ablation:
  arms: {a: {distill.sape.kernel: [3]}}
  seeds: [0, 0]
resorces: {num_workers: 1}
resources: {num_workers: 0}
"""
        assert faults(tmp_path, text, base=BASE + "train:\n  epochs: 0\n") == [
            "bases/tiny.yaml:5:3: train.epochs: must be at least 1, got 0",
            "study.yaml:3:30: metric.mod: unknown key (did you mean 'mode'?)",
            "study.yaml:4:7: train.epoch: no such configuration key (did you mean 'train.epochs'?)",
            'study.yaml:4:33: distill.alpha: must be a number, got "two"',
            "study.yaml:6:14: distill.sape.kernel: no such configuration key (did you mean 'distill.sape.kernels'?)",
            "study.yaml:7:14: ablation.seeds[1]: 0 is in the list twice",
            "study.yaml:8:1: resorces: unknown key (did you mean 'resources'?)",
            "study.yaml:9:13: resources.num_workers: must be at least 1, got 0",
        ]

    @pytest.mark.parametrize(
        ("old", "new", "fault"),
        [
            ("study: s", "study: ../s", "study.yaml:1:1: study: must have 1 to 80 letters"),
            ("study: s", "study: teachers", "study.yaml:1:1: study: 'teachers' is a folder of the results"),
            ("study: s\n", "", "study.yaml:1:1: study: is missing"),
            ("base: tiny", "base: tny", "study.yaml:2:1: base: there is no base 'tny' (did you mean 'tiny'?)"),
            ("base: tiny", "base: ../../etc/passwd", "study.yaml:2:1: base: there is no base"),
            ("val/pckh@0.5", "val/pckh@0.6", "(did you mean 'val/pckh@0.5'?)"),
            ("val/pckh@0.5", "test/pckh@0.5", "study.yaml:3:10: metric.name: test/pckh@0.5 needs a test split"),
            ("ablation: {arms: {a: {}}}", "", "study.yaml:1:1: study: the study asks for nothing"),
            ("{arms: {a: {}}}", "{seeds: [0]}", "study.yaml:4:1: ablation: needs `design` or `arms`"),
            ("{arms: {a: {}}}", "{arms: {a: {}}, seeds: [-1]}", "ablation.seeds[0]: must be at least 0, got -1"),
            ("{arms: {a: {}}}", "{arms: {a: {}}, seeds: 3}", "ablation.seeds: must be a list, got 3"),
            ("{arms: {a: {}}}", "[1]", "study.yaml:4:1: ablation: must be a section of keys, got [1]"),
        ],
    )
    def test_one_fault_is_one_line(self, tmp_path, old, new, fault):
        lines = faults(tmp_path, ONE_ARM.replace(old, new))
        assert len(lines) == 1
        assert fault in lines[0]

    @pytest.mark.parametrize(
        ("extra", "fault"),
        [
            (
                "table: {columns: [val/pckh@0.5, gflop]}",
                "table.columns[1]: no such score or cost: 'gflop' (did you mean 'gflops'?)",
            ),
            (
                "table: {columns: [val/pckh@0.5/left_kne]}",
                "mpii16 has no keypoint 'left_kne' (did you mean 'left_knee'?)",
            ),
            ("table: {rows: [b]}", 'table.rows[0]: there is no arm "b"'),
            ("table: {baseline: b}", "table.baseline: there is no arm 'b'"),
            ("table: {baseline: [b]}", "table.baseline: there is no arm 'b'"),
            ("table: {allow: [epoch]}", "table.allow[0]: must be one of data, splits"),
            ("table: {allow: [epoch]}", "got 'epoch' (did you mean 'epochs'?)"),
            ("table: {labels: {b: B}}", "table.labels.b: there is no arm 'b'"),
            ("table: {reference: table_4.x}", "table.reference: no such table of the paper"),
            ("table: {reference: table_IV.ap}", "table_IV has no column 'ap'"),
            ("table: {reference: 4}", "table.reference: must be <table>.<column>, got 4"),
            (
                "table: {columns: [params_m], reference: {param_m: table_X.params_m}}",
                "table.reference.param_m: is no column of this table (did you mean 'params_m'?)",
            ),
            (
                "table: {columns: [params_m], reference: {params_m: table_X.param_m}}",
                "table.reference.params_m: table_X has no column 'param_m' (did you mean 'params_m'?)",
            ),
            ("table: {factors: [distill.alpa]}", "table.factors[0]: no such configuration key (did you mean"),
            ("table: {group_by: [student]}", "table.group_by[0]: no such configuration key"),
            ("table: {side_by_side: both}", 'table.side_by_side: must be true or false, got "both"'),
            ("table: {decimals: 1}", "table.decimals: must be a section {column: digits}, got 1"),
            (
                "table: {decimals: {score: 1}}",
                "table.decimals.score: is no column of this table (did you mean 'scores'?)",
            ),
            ("table: {decimals: {scores: 7}}", "table.decimals.scores: must be a whole number from 0 to 6, got 7"),
            (
                "table: {decimals: {scores: true}}",
                "table.decimals.scores: must be a whole number from 0 to 6, got true",
            ),
            ("resources: {max_concurrent_trials: all}", 'must be a whole number, got "all" (or auto)'),
            ("budget: {gpu_hours: 0}", "budget.gpu_hours: must be greater than 0, got 0"),
            ("budget: {cpu_hours: -1}", "budget.cpu_hours: must be greater than 0, got -1"),
            ("budget: {hours: 1}", "budget.hours: unknown key (did you mean"),
            ("profiles: {tiny: {set: {train.epoch: 1}}}", "train.epoch: no such configuration key"),
            ("profiles: {tiny: {ablation.seed: [1]}}", "unknown key (did you mean 'ablation.seeds'?)"),
            ("set: {student: }", "student: must be a section of keys, got nothing"),
            ("set: {student: {backbone: x}, student.backbone: hrnet_w16}", "is written twice"),
            ("set: {data.train: [{annotations: a}]}", "data.train[0].images: is missing"),
            ("set: {data.kind: coco_layout}", "data.train: must name at least one annotation file"),
            ("set: {data.keypoint_set: coco17}", "metric.name: coco17 has no head segment"),
        ],
    )
    def test_faults_of_other_sections(self, tmp_path, extra, fault):
        lines = faults(tmp_path, f"{ONE_ARM}{extra}\n")
        assert fault in " | ".join(lines)
        assert all(line.startswith("study.yaml:") for line in lines)

    def test_a_rule_between_options_points_at_the_option_that_was_written(self, tmp_path):
        lines = faults(tmp_path, ONE_ARM + "set:\n  train.epochs: 3\n  student.input_size: 48\n")
        assert lines[0] == "study.yaml:7:3: student.input_size: must be a multiple of 32, got 48"

    def test_a_rule_between_options_hides_no_other_fault(self, tmp_path):
        text = """\
study: s
base: tiny
metric: {name: val/pckh@0.6}
set: {student.input_size: 48}
ablation: {arms: {a: {}, b: {train.epochs: 9}, c: {distill.etht.init_tau: 40}}, seeds: [0]}
search:
  sampler: tpee
  space: {distill.alpha: {low: 0.1, high: 1}, distill.etht.init_tau: {low: 2, high: 30}}
  trials: 3
table: {columns: [gflop], rows: [a, b]}
"""
        assert [line.partition(": ")[2].partition(",")[0] for line in faults(tmp_path, text)] == [
            "metric.name: must be val/<score> or test/<score>",
            "student.input_size: must be a multiple of 32",
            "distill.etht.init_tau: must lie between tau_min=1.0 and tau_min+tau_range=21.0",
            "search.sampler: must be one of tpe",
            "search.space.distill.etht.init_tau: cannot be 30.0 here: distill.etht.init_tau: must lie between "
            "tau_min=1.0 and tau_min+tau_range=21.0",
            "table.columns[0]: no such score or cost: 'gflop' (did you mean 'gflops'?)",
        ]


class TestSettings:
    def test_later_layers_hold_base_set_profile_command_line(self, tmp_path):
        text = ONE_ARM + "set: {train.epochs: 2}\nprofiles: {tiny: {set: {train.epochs: 3}}}\n"
        base = BASE + "train: {epochs: 1}\n"
        assert read(tmp_path, ONE_ARM, base=base).config.train.epochs == 1
        assert read(tmp_path, text, base=base).config.train.epochs == 2
        assert read(tmp_path, text, base=base, profile="tiny").config.train.epochs == 3
        assert read(tmp_path, text, "train.epochs=4", base=base, profile="tiny").config.train.epochs == 4

    def test_the_command_line_also_changes_keys_of_the_study(self, tmp_path):
        overrides = ["ablation.seeds=[4, 5]", "study=other", "resources.cpus_per_worker=2", "metric.select=last"]
        study = read(tmp_path, ONE_ARM, *overrides)
        assert study.seeds == (4, 5)
        assert study.name == "other"
        assert study.resources.cpus_per_worker == 2
        assert study.metric.select == "last"

    def test_a_change_replaces_the_other_spelling_of_a_key(self, tmp_path):
        text = ONE_ARM.replace("val/pckh@0.5}", "val/pckh@0.5, goal: maximize}")
        assert read(tmp_path, text).metric.mode == "max"
        assert read(tmp_path, text, "metric.mode=min").metric.mode == "min"

    def test_a_profile_changes_the_study_in_dotted_or_nested_spelling(self, tmp_path):
        text = ONE_ARM + "profiles: {a: {ablation.seeds: [7]}, b: {ablation: {seeds: [8]}}}\n"
        assert read(tmp_path, text, profile="a").seeds == (7,)
        assert read(tmp_path, text, profile="b").seeds == (8,)

    def test_an_unknown_profile_names_the_known_ones(self, tmp_path):
        text = ONE_ARM + "profiles: {short: {}, long: {}}\n"
        assert faults(tmp_path, text, profile="shrt") == [
            "study.yaml:5:1: --profile: there is no profile 'shrt' (did you mean 'short'?); this study has long, lsp, "
            "short, tiny"
        ]

    def test_a_profile_beside_the_study_fits_any_study_and_its_own_one_stands_above(self, tmp_path):
        (tmp_path / "profiles").mkdir()
        (tmp_path / "profiles" / "small.yaml").write_text(
            "set: {train: {epochs: 2, batch_size: 4}}\nablation.seeds: [7]\nsearch.trials: 3\n"
        )
        study = read(tmp_path, ONE_ARM, profile="small")
        assert (study.config.train.epochs, study.config.train.batch_size, study.seeds) == (2, 4, (7,))
        assert study.search is None  # a profile changes only the parts that a study has
        own = ONE_ARM + "profiles: {small: {set: {train.epochs: 5}}}\n"
        study = read(tmp_path, own, profile="small")
        assert (study.config.train.epochs, study.config.train.batch_size) == (5, 4)
        assert read(tmp_path, own).config.train.batch_size != 4

    def test_a_profile_replaces_values_wherever_they_are_written(self, tmp_path):
        text = (
            ONE_ARM.replace("{a: {}}", "{a: {}, b: {student.backbone: resnet50}, c: {student.backbone: resnet101}}")
            + "profiles: {small: {replace: {student.backbone: {resnet50: resnet18, hrnet_w16: hrnet_w48}, "
            "student.input_size: {32: 64}, simcc.split_ratio: {2: 1.5}}}}\n"
        )
        arms = {arm.name: arm.config for arm in read(tmp_path, text, profile="small").arms}
        assert [arms[name].student.backbone for name in "abc"] == ["hrnet_w48", "resnet18", "resnet101"]
        assert {config.student.input_size for config in arms.values()} == {64}
        assert {config.simcc.split_ratio for config in arms.values()} == {1.5}

    @pytest.mark.parametrize(
        ("replace", "fault"),
        [
            ("{student.bone: {a: b}}", "profiles.small.replace.student.bone: no such configuration key"),
            ("{student.backbone: w16}", "must be a section {value: value}, got"),
            ("{student.backbone: {resnet50: resnet19}}", "student.backbone: must be one of"),
            ("[1]", "profiles.small.replace: must be a section of keys, got"),
            ("{student.input_size: {small: 32}}", 'student.input_size: must be a whole number, got "small"'),
        ],
    )
    def test_faults_of_replacements(self, tmp_path, replace, fault):
        lines = faults(tmp_path, ONE_ARM + f"profiles: {{small: {{replace: {replace}}}}}\n")
        assert any(fault in line for line in lines), lines

    def test_the_question_ends_where_the_commands_begin(self, tmp_path):
        text = "# Does it help,\n# and when?\n#   cdkd run study.yaml\n# Cost: much.\n" + ONE_ARM
        assert read(tmp_path, text).question == "Does it help, and when?"

    @pytest.mark.parametrize(
        ("override", "line"),
        [
            ("train.epoch=3", "--set:1: train.epoch: no such configuration key (did you mean 'train.epochs'?)"),
            ("train.epochs", "--set:1: train.epochs: must be written key=value"),
            ("train.epochs=", '--set:1: train.epochs: must be a whole number, got ""'),
            (
                "ablation.sed=[1]",
                "--set:1: ablation.sed: no such key of the training or the study (did you mean 'ablation.seeds'?)",
            ),
            (
                "train.epochs=[1",
                "--set:1: is not valid YAML: expected ',' or ']', but got '<stream end>' "
                "(while parsing a flow sequence)",
            ),
            ("train.epochs=0", "--set:1: train.epochs: must be at least 1, got 0"),
            ("student.input_size=33", "--set:1: student.input_size: must be a multiple of 32, got 33"),
            ("ablation.seeds=[a]", '--set:1: ablation.seeds[0]: must be a whole number, got "a"'),
        ],
    )
    def test_faults_of_the_command_line_are_told_as_such(self, tmp_path, override, line):
        assert faults(tmp_path, ONE_ARM, override) == [line]

    def test_numbers_of_the_command_line_are_read_like_those_of_files(self, tmp_path):
        study = read(tmp_path, ONE_ARM, "train.learning_rate=1e-4", "distill.sape.kernels=[3, 5]")
        assert study.config.train.learning_rate == 1e-4
        assert study.config.distill.sape.kernels == (3, 5)


class TestImplied:
    def test_the_metric_names_the_score_that_chooses_the_epoch_unless_one_is_written(self, tmp_path):
        text = ONE_ARM.replace("pckh@0.5", "pck@0.2")
        assert read(tmp_path, text).config.evaluation.select == "pck@0.2"
        assert read(tmp_path, text + "set: {evaluation.select: ap}\n").config.evaluation.select == "ap"

    def test_seeds_default_to_the_one_of_the_base(self, tmp_path):
        assert read(tmp_path, ONE_ARM, base=BASE + "seed: 7\n").seeds == (7,)

    def test_direction_is_read_by_optunas_word(self, tmp_path):
        text = ONE_ARM.replace("val/pckh@0.5}", "val/pckh@0.5, direction: minimize}")
        assert read(tmp_path, text).metric.mode == "min"

    def test_paths_start_at_the_file_that_says_them_and_those_of_the_command_line_here(self, tmp_path, monkeypatch):
        here = tmp_path / "here"
        here.mkdir()
        monkeypatch.chdir(here)
        text = ONE_ARM + "set: {teacher.checkpoint: weights/t.pt}\n"
        study = read(tmp_path, text, "student.pretrained=own.pt", base=BASE + "data: {root: ../data}\n")
        assert study.config.teacher.checkpoint == str(tmp_path / "weights" / "t.pt")
        assert study.config.student.pretrained == str(here / "own.pt")
        assert study.config.data.root == str(tmp_path / "data")

    def test_an_empty_data_root_stands_for_the_environment_variable(self, tmp_path, monkeypatch):
        base = BASE + "data: {kind: coco_layout, root: '', train: [{annotations: a, images: b}]}\n"
        monkeypatch.setenv("CDKD_DATA_ROOT", str(tmp_path / "sets"))
        assert read(tmp_path, ONE_ARM, base=base).config.data.root == str(tmp_path / "sets")
        assert read(tmp_path, ONE_ARM, "data.root=/else", base=base).config.data.root == "/else"
        monkeypatch.delenv("CDKD_DATA_ROOT")
        assert read(tmp_path, ONE_ARM, base=base).config.data.root == ""

    def test_the_drawn_set_does_not_move_with_the_data_root(self, tmp_path, monkeypatch):
        monkeypatch.setenv("CDKD_DATA_ROOT", str(tmp_path))
        assert read(tmp_path, ONE_ARM).config.data.root == ""


def test_a_rule_between_options_points_at_the_last_of_them_that_was_written(tmp_path):
    text = ONE_ARM + "set: {distill.alpha: 2}\n"
    merge = "distill.cca.merge: 256 teacher bins do not divide into 96 student bins; use merge: matrix"
    assert faults(tmp_path, text, "simcc.split_ratio=3", "teacher.split_ratio=2") == [f"--set:1: {merge}"]


class TestRepeats:
    RULE = "ablation: {arms: {a: {}}, repeats: {min: 3, max: 8, until: ci95 <= 0.005}}"

    def test_the_rule_is_read(self, tmp_path):
        study = read(tmp_path, ONE_ARM.replace(ONE_ABLATION, self.RULE))
        assert study.repeats == RepeatRule(3, "mean", 0.005)
        assert study.seeds == tuple(range(8))

    @pytest.mark.parametrize(
        ("change", "fault"),
        [
            (("min: 3", "min: 1"), "ablation.repeats.min: must be at least 2, got 1"),
            (("max: 8", "max: 2"), "ablation.repeats.until: max must be at least min, got 2 and 3"),
            (("ci95", "ci90"), "ablation.repeats.until: must be written `ci95 <= 0.005`"),
            (("0.005", "2"), "ablation.repeats.until: scores lie in [0, 1]: for 2 points write 0.02"),
            (("repeats:", "seeds: [1], repeats:"), "ablation.repeats: the repeats are seeds 0, 1, ...; leave out"),
            ((", until: ci95 <= 0.005", ""), "ablation.repeats.until: is missing"),
        ],
    )
    def test_faults(self, tmp_path, change, fault):
        lines = faults(tmp_path, ONE_ARM.replace(ONE_ABLATION, self.RULE.replace(*change)))
        assert any(fault in line for line in lines), lines


class TestRefit:
    SEARCH = "search: {space: {distill.alpha: {low: 0.1, high: 1}}, trials: 4, refit: {top: 2, seeds: [7, 8]}}"

    def test_base_and_best_are_rows_and_the_base_is_the_baseline(self, tmp_path):
        study = read(tmp_path, ONE_ARM.replace(ONE_ABLATION, self.SEARCH))
        assert [arm.name for arm in study.arms] == ["base"]
        assert study.seeds == (7, 8)
        assert study.table.arms == ("base", "best-1", "best-2")
        assert study.table.baseline == "base"
        assert study.search is not None
        assert study.search.refit == RefitSpec(2, (7, 8))

    def test_an_arm_that_is_the_base_is_trained_once(self, tmp_path):
        arms = ONE_ARM.replace("arms:", "seeds: [7, 8], arms:")
        study = read(tmp_path, f"{arms}{self.SEARCH}\n")
        assert study.merged == {"base": "a"}
        assert study.table.arms == ("a", "best-1", "best-2")
        assert study.table.baseline == "a"

    @pytest.mark.parametrize(
        ("change", "fault"),
        [
            (("[7, 8]", "[0, 7]"), "search.refit.seeds: seed 0 is the search's own (search.training_seed)"),
            (("[7, 8]", "[]"), "search.refit.seeds: must name at least one seed"),
            (("top: 2", "top: 0"), "search.refit.top: must be at least 1, got 0"),
            ((", seeds: [7, 8]", ""), "search.refit.seeds: is missing"),
        ],
    )
    def test_faults(self, tmp_path, change, fault):
        lines = faults(tmp_path, ONE_ARM.replace(ONE_ABLATION, self.SEARCH.replace(*change)))
        assert any(fault in line for line in lines), lines

    def test_the_seeds_of_arms_and_refit_are_the_same(self, tmp_path):
        lines = faults(tmp_path, f"{ONE_ARM}{self.SEARCH}\n")
        assert any("search.refit.seeds: must be the same as ablation.seeds" in line for line in lines)

    def test_repeats_beside_a_refit_are_told_what_to_write(self, tmp_path):
        arms = ONE_ARM.replace("arms:", "repeats: {min: 2, max: 5, until: ci95 <= 0.01}, arms:")
        (line,) = faults(tmp_path, f"{arms}{self.SEARCH}\n")
        assert line.startswith("study.yaml:4:")
        assert line.endswith("which the table shows too: write ablation.seeds: [7, 8] instead")


@pytest.mark.parametrize(
    ("option", "method", "changed", "message"),
    [
        (
            "distill.logit_alignment",
            "same_class_number",
            "teacher.split_ratio=0.25",
            "same_class_number needs equal class counts, got 64 of the student and 32 of the teacher; "
            "set simcc.split_ratio: 1 with teacher.split_ratio: 0.25, or teacher.split_ratio: 0.5",
        ),
        (
            "distill.feature_alignment",
            "conv_downsample",
            "teacher.input_size=96",
            "conv_downsample needs teacher.input_size to be 2, 4, 8, ... times student.input_size, got 96 and 32",
        ),
    ],
)
def test_a_comparator_that_does_not_fit_is_told_in_one_line_where_that_was_last_said(
    tmp_path, option, method, changed, message
):
    text = ONE_ARM + f"set: {{{option}: {method}, teacher.split_ratio: 0.5}}\n"
    assert faults(tmp_path, text, "distill.cca.merge=matrix", changed) == [f"--set:2: {option}: {message}"]
