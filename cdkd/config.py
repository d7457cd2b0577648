"""The training configuration: every option, the rules between options, the presets, and how layers of them combine.

Standard library only, so that a study can be checked without importing torch. The JSON Schema, the fingerprint
(`cdkd.identity`) and the documentation are all read off these declarations (`cdkd.options`).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cdkd.options import (
    ConfigError,
    ConfigProblem,
    declared_fields,
    flatten_keys,
    from_mapping,
    nearest,
    option,
    type_hints,
    value_problems,
)

BACKBONES = ("hrnet_w32", "hrnet_w48", "hrnet_w16", "resnet18", "resnet50", "resnet101", "resnet152")
HRNETS = ("hrnet_w32", "hrnet_w48", "hrnet_w16")
KEYPOINT_SETS = ("coco17", "mpii16", "crowdpose14", "lsp14")
SCORES = ("pckh@0.5", "pckh@0.1", "pckh@0.11", "pck@0.2", "ap", "ap50", "ap75", "ar")
FILE_KINDS = ("coco_layout", "mpii")
MILESTONES = (170 / 210, 200 / 210)
"""Where the step size falls, as parts of a training (method 6.2: after epochs 170 and 200 of 210)."""
TAU_AT_THETA_ONE = 1.0 + 20.0 / (1.0 + math.exp(-1.0))


@dataclass(frozen=True)
class SourceConfig:
    """One annotation file, the folder of its images and what belongs to it, relative to the data root."""

    annotations: str = option(help="annotation file, relative to data.root")
    images: str = option(help="image folder, relative to data.root")
    detections: str = option(
        "", help="boxes of a person detector in COCO's results layout, scored beside the annotated boxes (coco_layout)"
    )
    head_boxes: str = option("", help="MPII's gt_valid.mat, whose head boxes normalise PCKh (mpii)")


@dataclass(frozen=True)
class SyntheticConfig:
    """The drawn data set (used when data.kind is `synthetic`)."""

    seed: int = option(0, help="seed of the drawing", minimum=0)
    train_images: int = option(1200, help="images of the training split", minimum=1)
    val_images: int = option(400, help="images of the validation split", minimum=1)
    image_size: int = option(192, help="side of each square image, pixels", minimum=64, maximum=1024)


@dataclass(frozen=True)
class AugmentationConfig:
    """Random views of a training instance, in the order half body, scale, rotation, flip (method 6.3)."""

    half_body_probability: float = option(
        0.0, help="probability of a half-body box", minimum=0, maximum=1, schedulable=True
    )
    scale_factor: float = option(0.25, help="spread of the box scale", minimum=0, maximum=0.9, schedulable=True)
    rotation_degrees: float = option(
        30.0, help="spread of the rotation, degrees", minimum=0, maximum=90, schedulable=True
    )
    rotation_probability: float = option(0.6, help="probability of a rotation", minimum=0, maximum=1, schedulable=True)
    flip_probability: float = option(
        0.5, help="probability of a horizontal flip", minimum=0, maximum=1, schedulable=True
    )


@dataclass(frozen=True)
class DataConfig:
    """Which people are trained and tested on."""

    kind: str = option(
        "synthetic",
        help="synthetic set, files in COCO keypoint layout (COCO, CrowdPose, ...), or MPII's JSON files",
        choices=("synthetic", *FILE_KINDS),
    )
    root: str = option(
        "",
        help="data folder; empty: the environment variable CDKD_DATA_ROOT (files) or the cache (synthetic)",
        operational=True,
    )
    keypoint_set: str = option("mpii16", help="keypoint convention of the annotation files", choices=KEYPOINT_SETS)
    train: tuple[SourceConfig, ...] = option((), help="training files")
    val: tuple[SourceConfig, ...] = option((), help="validation files; none: data.holdout of the training images")
    test: tuple[SourceConfig, ...] = option((), help="test files, evaluated once at the end of a training; may be none")
    holdout: float = option(
        0.1, help="part of the training images held out for validation when data.val is empty", minimum=0, maximum=0.9
    )
    box_padding: float = option(1.25, help="factor on the square box around a person", exclusive_minimum=0)
    warp: str = option(
        "size",
        help="the box becomes S pixels of a crop, or S - 1, from the first pixel's centre to the last one's (UDP)",
        choices=("size", "size_minus_one"),
    )
    on_bad_record: str = option("stop", help="what a broken image or record does", choices=("stop", "skip"))
    synthetic: SyntheticConfig = option(SyntheticConfig, help="the drawn set")
    augmentation: AugmentationConfig = option(AugmentationConfig, help="random views of training instances")


@dataclass(frozen=True)
class ModelConfig:
    """One pose network's backbone and the side of its square input."""

    backbone: str = option("hrnet_w32", help="backbone architecture", choices=BACKBONES)
    input_size: int = option(64, help="side of the square input, pixels (a multiple of 32)", minimum=32)
    pretrained: str = option("", help="backbone weights to start from (a state-dict file); empty: random")


@dataclass(frozen=True)
class TeacherConfig:
    """The frozen teacher, with the student's kind of head: given as a file, or trained once and shared."""

    backbone: str = option("hrnet_w32", help="backbone architecture", choices=BACKBONES)
    input_size: int = option(256, help="side of the teacher's square input, pixels (a multiple of 32)", minimum=32)
    split_ratio: float = option(0.0, help="SimCC bins per pixel of the teacher; 0: the student's", minimum=0)
    checkpoint: str = option("", help="file of trained weights; empty: train one")
    pretrained: str = option("", help="backbone weights to start the teacher's training from; empty: random")
    epochs: int = option(210, help="epochs of the teacher's training", minimum=1)
    batch_size: int = option(32, help="instances per step of the teacher's training", minimum=2)
    learning_rate: float = option(1e-3, help="Adam's step size in the teacher's training", exclusive_minimum=0)
    milestones: tuple[float, ...] = option(
        MILESTONES,
        help="when that step size is multiplied by train.gamma: below 1 a part of teacher.epochs, else an epoch",
        exclusive_minimum=0,
    )
    seed: int = option(0, help="seed of the teacher's training, shared by all students", minimum=0)


@dataclass(frozen=True)
class HeadTraits:
    """What is known of a kind of head without torch (`cdkd.heads.table` has the rest).

    Attributes:
        options: beginnings of the names of the options that it reads; those of other kinds are left out of a
            training's identity.
        decoding: how a prediction becomes keypoints, in words.
        flip_shift: by how much a mirrored image's prediction is shifted, in words; `none`: not at all.
        has_final_feature: it makes one map per keypoint, which feature alignment can compare.
        has_offsets: beside each of them it makes two maps of offsets, which feature alignment can compare too.
        backbones: those it can stand on.
    """

    options: tuple[str, ...]
    decoding: Callable[[TrainingConfig], str]
    flip_shift: Callable[[TrainingConfig], str]
    has_final_feature: bool = True
    has_offsets: bool = False
    backbones: tuple[str, ...] = BACKBONES


def _simcc_decoding(config: TrainingConfig) -> str:
    return f"simcc argmax, {config.simcc.split_ratio:g} bins per pixel, {config.simcc.score} score"


def _cell(is_shifted: bool) -> str:
    return "1 heatmap cell" if is_shifted else "none"


HEADS: Mapping[str, HeadTraits] = {
    "simcc": HeadTraits(("simcc.", "teacher.split_ratio"), _simcc_decoding, lambda config: config.simcc.flip_shift),
    "heatmap": HeadTraits(
        ("heatmap.",),
        lambda config: "heatmap argmax, quarter offset",
        lambda config: _cell(config.heatmap.shift_flipped),
    ),
    "dark": HeadTraits(
        ("heatmap.sigma", "dark."),
        lambda config: f"heatmap argmax, DARK step after a blur of {config.dark.blur_kernel} cells",
        lambda config: _cell(config.dark.shift_flipped),
    ),
    "cal": HeadTraits(
        ("heatmap.sigma", "cal."),
        lambda config: "heatmap argmax, its offset",
        lambda config: "none",
        has_offsets=True,
        backbones=HRNETS,
    ),
    "rle": HeadTraits((), lambda config: "regression", lambda config: "1 pixel", has_final_feature=False),
}
HEADS = {**HEADS, "tokenpose": HEADS["dark"]}
"""Every kind of head, by its name in `head.kind`. TokenPose's maps are trained and read as DARK's are."""


@dataclass(frozen=True)
class HeadConfig:
    """What a pose network ends in, and so how keypoints become a loss and a prediction becomes keypoints."""

    kind: str = option("simcc", help="kind of head of student and teacher", choices=tuple(HEADS))


@dataclass(frozen=True)
class SimCCConfig:
    """The SimCC codec and its classification loss (method section 1)."""

    split_ratio: float = option(3.0, help="bins per input pixel (k)", exclusive_minimum=0)
    label_smoothing: float = option(
        0.1, help="probability mass spread over the other bins", minimum=0, maximum=0.99, schedulable=True
    )
    loss: str = option(
        "mean_visible", help="reduction of the per-keypoint divergence", choices=("mean_visible", "nmt", "nmtnorm")
    )
    task_scale: float = option(1.0, help="factor on the task loss (the released code: 1000)", exclusive_minimum=0)
    head_init: str = option(
        "uniform",
        help="first weights of the two classifiers: random, or each map's marginals",
        choices=("uniform", "marginal"),
    )
    flip_shift: str = option("exact", help="bin shift of the flipped prediction", choices=("exact", "official", "none"))
    score: str = option("max", help="keypoint score from the two axis maxima", choices=("max", "min", "mean"))


@dataclass(frozen=True)
class HeatmapConfig:
    """Heatmaps as targets and predictions (method section 8)."""

    sigma: float = option(1.0, help="width of a target's Gaussian, heatmap cells", exclusive_minimum=0)
    shift_flipped: bool = option(True, help="move the flipped prediction by one heatmap cell")


@dataclass(frozen=True)
class DarkConfig:
    """DARK's decoding of heatmaps, which TokenPose shares (method section 8)."""

    blur_kernel: int = option(
        11, help="side of the kernel that smooths a heatmap before it is read, cells (odd)", minimum=1, maximum=63
    )
    shift_flipped: bool = option(False, help="move the flipped prediction by one heatmap cell")


@dataclass(frozen=True)
class CalConfig:
    """CAL's offsets from a heatmap's cells to the keypoint (method section 8)."""

    offset_weight: float = option(1.0, help="weight of the offsets' loss", minimum=0)
    offset_unit: float = option(1.0, help="heatmap cells to one unit of offset", exclusive_minimum=0)
    mask: str = option(
        "disc",
        help="where offsets are learned: in a disc, or on 7x7 cells by the density of the batch's errors",
        choices=("disc", "errors"),
    )
    radius: float = option(4.0, help="of the disc around a keypoint, heatmap cells", exclusive_minimum=0)


@dataclass(frozen=True)
class SapeConfig:
    """Feature alignment by the scale-adaptive projector ensemble (paper Eq. 1-5, method section 3) or a comparator.

    `enabled`, `feature`, `loss`, `cosine`, `eps`, `detach_student` and `trainable` hold for every method of
    `distill.feature_alignment`, the rest for SAPE alone.
    """

    enabled: bool = option(True, help="use feature alignment")
    feature: str = option(
        "final_layer",
        help="the aligned feature: one map a keypoint, the backbone's, or CAL's heatmaps and offsets (3 a keypoint)",
        choices=("final_layer", "stage4", "heads"),
    )
    projector: str = option(
        "spatial", help="form of a projector's linear map", choices=("spatial", "full", "separable")
    )
    projectors: int = option(3, help="number of projectors (K)", minimum=1, maximum=32)
    sau: bool = option(True, help="weigh the projectors by the scale-adaptive unit; false: plain mean (PEFD)")
    kernels: tuple[int, ...] = option(
        (3, 5, 7, 7), help="kernel sizes of the unit's convolutions (odd)", minimum=1, maximum=31
    )
    fuse: str = option("sum", help="fusion of the unit's branches", choices=("sum", "concat"))
    fuse_order: str = option(
        "sum_gap_fc", help="order of fusion, pooling and the linear map", choices=("sum_gap_fc", "fc_gap_sum")
    )
    add_mean_branch: bool = option(False, help="append the projectors' mean as one more branch (released code)")
    hidden: int = option(32, help="width of the unit's hidden layer", minimum=1)
    hidden_relu: bool = option(False, help="ReLU after the unit's hidden layer")
    extra_fc: str = option(
        "none", help="one more linear layer in the unit (Fig. 6)", choices=("none", "post_gap", "pre_softmax")
    )
    detach_student: bool = option(False, help="cut the gradient to the student (released code)")
    trainable: bool = option(
        True, help="train projectors and unit, or the adapter; false: frozen at initialisation (released code)"
    )
    loss: str = option("cosine", help="distance of the aligned features", choices=("cosine", "mse"))
    cosine: str = option("sample", help="vectors compared by the cosine", choices=("sample", "channel"))
    eps: float = option(1e-8, help="smallest norm in the cosine", exclusive_minimum=0)


@dataclass(frozen=True)
class CcaConfig:
    """Logit alignment by cross-class alignment (paper Eq. 6-7, method section 4) or a comparator.

    `merge` is CCA's alone and `adapter_side` that of `distill.logit_alignment: fully_connected`; the rest
    holds for every method.
    """

    enabled: bool = option(True, help="use logit alignment")
    merge: str = option(
        "floor", help="how teacher bins are merged into student bins", choices=("floor", "centred", "split", "matrix")
    )
    class_reduction: str = option("sum", help="reduction of the divergence over bins", choices=("sum", "mean"))
    batch_reduction: str = option("mean", help="reduction over instances, keypoints and axes", choices=("mean", "sum"))
    mask_invisible: bool = option(False, help="leave out keypoints without a label")
    tau_grad_teacher: bool = option(True, help="let the temperature's gradient pass through the teacher's softmax")
    adapter_side: str = option(
        "student", help="whose logits a fully connected adapter maps to the other's", choices=("student", "teacher")
    )


@dataclass(frozen=True)
class EthtConfig:
    """Easy-to-hard training: adversarially learned temperature and loss weights (paper Eq. 9-12, method section 5)."""

    learn: tuple[str, ...] = option(("tau",), help="what is learned", choices=("tau", "alpha", "beta"))
    init_tau: float = option(
        TAU_AT_THETA_ONE,
        help="temperature at the start (constant when not learned)",
        exclusive_minimum=0,
        schedulable=True,
    )
    tau_min: float = option(1.0, help="lower bound of the temperature", exclusive_minimum=0)
    tau_range: float = option(20.0, help="width of the temperature's range", exclusive_minimum=0)
    schedule: str = option(
        "cosine", help="growth of the reversal strength xi", choices=("cosine", "linear", "constant", "official")
    )
    direction: str = option(
        "auto",
        help="where the learned scalars follow the loss: ascend it (the paper's reversal) or descend it, as the "
        "student does; auto: ascend, but descend with the schedule `official` (released code)",
        choices=("auto", "ascend", "descend"),
    )
    length: int = option(0, help="epochs over which xi grows; 0: all epochs", minimum=0)
    optimizer: str = option("sgd", help="optimizer of the learned scalars", choices=("sgd", "adam"))
    learning_rate: float = option(1e-3, help="step size for the learned scalars", exclusive_minimum=0)
    trainable: bool = option(True, help="false: the scalars are in no optimizer (released code)")

    @property
    def ascends(self) -> bool:
        """Whether the learned scalars climb the loss (paper Eq. 10-11)."""
        return self.ascends_by_itself if self.direction == "auto" else self.direction == "ascend"

    @property
    def ascends_by_itself(self) -> bool:
        """What `auto` stands for.

        Differs from paper, for `official` only: the released factor is positive, so its "reversal" reverses nothing.
        """
        return self.schedule != "official"


@dataclass(frozen=True)
class DistillConfig:
    """The distillation losses and their weights: L_task + alpha L_feature + beta tau^2 L_logit (paper Eq. 8)."""

    alpha: float = option(1.0, help="weight of the feature loss", minimum=0, schedulable=True)
    beta: float = option(1.0, help="weight of the logit loss", minimum=0, schedulable=True)
    legacy_factor: float = option(
        1.0, help="constant factor on both distillation losses (released code: 0.4)", exclusive_minimum=0
    )
    feature_alignment: str = option(
        "sape",
        help="how features are aligned while distill.sape.enabled (Table V)",
        choices=("sape", "conv_downsample", "avgpool", "fully_connected"),
    )
    logit_alignment: str = option(
        "cca",
        help="how logits are aligned while distill.cca.enabled (Table V)",
        choices=("cca", "same_class_number", "fully_connected"),
    )
    sape: SapeConfig = option(SapeConfig, help="feature alignment")
    cca: CcaConfig = option(CcaConfig, help="logit alignment")
    etht: EthtConfig = option(EthtConfig, help="easy-to-hard curriculum")


@dataclass(frozen=True)
class TrainConfig:
    """Optimizer, schedule and budget (method 6.2)."""

    epochs: int = option(210, help="passes over the training set", minimum=1)
    batch_size: int = option(32, help="instances per step, over all workers", minimum=2)
    learning_rate: float = option(1e-3, help="Adam's step size", exclusive_minimum=0, schedulable=True)
    weight_decay: float = option(0.0, help="Adam's weight decay", minimum=0, schedulable=True)
    decay: str = option(
        "step",
        help="how the student's step size falls: at train.milestones, or in every epoch towards 0 at the end",
        choices=("step", "cosine", "linear"),
    )
    milestones: tuple[float, ...] = option(
        MILESTONES,
        help="when the step size is multiplied by train.gamma: below 1 a part of train.epochs, else an epoch",
        exclusive_minimum=0,
    )
    gamma: float = option(0.1, help="factor on the step size at each milestone", exclusive_minimum=0, maximum=1)
    precision: str = option("fp32", help="arithmetic of the forward pass", choices=("fp32", "bf16"))


@dataclass(frozen=True)
class EvaluationConfig:
    """How predictions are made and scored."""

    flip_test: bool = option(True, help="average with the mirrored image's prediction")
    select: str = option("pckh@0.5", help="the validation score that names the best epoch", choices=SCORES)
    keypoint_score_threshold: float = option(
        0.02, help="keypoints scored at or below it have no part in a person's score (0.2 for heatmaps)", minimum=0
    )
    oks_nms: float = option(
        0.9,
        help="of two predictions more alike than this, by OKS, the weaker is dropped; 1: none is",
        maximum=1,
        exclusive_minimum=0,
    )
    detection_threshold: float = option(0.0, help="detector boxes scored below it are left out", minimum=0)
    batch_size: int = option(64, help="instances per forward pass", minimum=1, operational=True)


@dataclass(frozen=True)
class RuntimeConfig:
    """Where and how fast: nothing here changes a result."""

    device: str = option("auto", help="torch device; auto: CUDA where present", operational=True)
    threads: int = option(0, help="CPU threads of a worker; 0: leave to the launcher", minimum=0, operational=True)
    loader_workers: int = option(0, help="processes that load images", minimum=0, operational=True)
    cache_images: bool = option(True, help="keep decoded images in this process's memory", operational=True)
    crop_cache: bool = option(
        False,
        help="read pixels from a file of decoded images that all trainings on this machine share, built on first use",
        operational=True,
    )
    teacher_cache_gb: float = option(
        0.0,
        help="disk space (1e9 bytes) for what teachers said of batches, so that later arms of a seed do not ask again; "
        "an arm's seconds and memory then depend on which was first",
        minimum=0,
        operational=True,
    )


@dataclass(frozen=True)
class ScheduleStep:
    """From the start of an epoch on, one option has another value."""

    epoch: int = option(help="first epoch with the value (the option itself holds that of epoch 1)", minimum=2)
    value: float = option(help="the option's value from that epoch on")
    option: str = option(help="dotted path of an option that may change during a training")


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that determines one training (and, in `runtime`, where it runs)."""

    preset: str = option(
        "paper",
        help="the method variant whose values the rest starts from",
        choices=("paper", "official", "fixed"),
        operational=True,
    )
    seed: int = option(0, help="seed of every random stream of the student's training", minimum=0)
    data: DataConfig = option(DataConfig, help="data set")
    student: ModelConfig = option(ModelConfig, help="the low-resolution network")
    teacher: TeacherConfig = option(TeacherConfig, help="the high-resolution network")
    head: HeadConfig = option(HeadConfig, help="kind of pose model")
    simcc: SimCCConfig = option(SimCCConfig, help="codec and task loss of head.kind simcc")
    heatmap: HeatmapConfig = option(HeatmapConfig, help="codec of heads that make heatmaps")
    dark: DarkConfig = option(DarkConfig, help="decoding of head.kind dark and tokenpose")
    cal: CalConfig = option(CalConfig, help="offsets of head.kind cal")
    distill: DistillConfig = option(DistillConfig, help="distillation")
    train: TrainConfig = option(TrainConfig, help="optimizer and budget")
    schedule: tuple[ScheduleStep, ...] = option(
        (), help="values that options take during the training; those after train.epochs are never reached"
    )
    evaluation: EvaluationConfig = option(EvaluationConfig, help="prediction and scores")
    runtime: RuntimeConfig = option(RuntimeConfig, help="where it runs")

    def __post_init__(self) -> None:
        problems = list(_cross_field_problems(self))
        if problems:
            raise ConfigError(problems)

    @property
    def needs_teacher(self) -> bool:
        """True when some distillation loss is switched on."""
        return self.distill.sape.enabled or self.distill.cca.enabled

    @property
    def trains_teacher(self) -> bool:
        """True when its teacher is trained (`for_teacher`), and not given as a file."""
        return self.needs_teacher and not self.teacher.checkpoint

    @property
    def learned(self) -> tuple[str, ...]:
        """The scalars ETHT really learns: those of `distill.etht.learn` whose loss is switched on."""
        user = {"tau": self.distill.cca.enabled, "alpha": self.distill.sape.enabled, "beta": self.distill.cca.enabled}
        return tuple(name for name in ("tau", "alpha", "beta") if name in self.distill.etht.learn and user[name])

    @property
    def uses_sau(self) -> bool:
        """True when the scale-adaptive unit has projectors to choose from (one alone always weighs 1)."""
        sape = self.distill.sape
        return sape.enabled and self.distill.feature_alignment == "sape" and sape.sau and sape.projectors > 1

    @property
    def teacher_split_ratio(self) -> float:
        """Bins per pixel of the teacher's SimCC head."""
        return self.teacher.split_ratio or self.simcc.split_ratio

    @property
    def decoding(self) -> str:
        """How a prediction becomes keypoints, in words."""
        return HEADS[self.head.kind].decoding(self)

    @property
    def flip_shift(self) -> str:
        """By how much a mirrored image's prediction is shifted."""
        return HEADS[self.head.kind].flip_shift(self)

    def at_epoch(self, epoch: int) -> TrainingConfig:
        """The configuration in force in `epoch` (from 1): the schedule's values in place, and no schedule."""
        values = {step.option: step.value for step in in_order(self.schedule) if step.epoch <= epoch}
        plain = dataclasses.replace(self, schedule=())
        return functools.reduce(lambda config, path: _with_value(config, path, values[path]), values, plain)

    def up_to(self, epoch: int) -> TrainingConfig:
        """The same training as far as its first `epoch` epochs know it: without the later steps of the schedule."""
        return dataclasses.replace(self, schedule=tuple(step for step in self.schedule if step.epoch <= epoch))

    def for_teacher(self) -> TrainingConfig:
        """The configuration that trains this student's teacher: the same head at its size, without distillation.

        A schedule is the student's, and so is `train.decay`: the teacher's step size falls at `teacher.milestones`, by
        `train.gamma`, so that students which differ in it share a teacher. What the two share (the augmentation, say)
        the teacher has as in epoch 1.
        """
        return dataclasses.replace(
            self,
            schedule=(),
            seed=self.teacher.seed,
            student=ModelConfig(self.teacher.backbone, self.teacher.input_size, self.teacher.pretrained),
            teacher=TeacherConfig(),
            simcc=dataclasses.replace(self.simcc, split_ratio=self.teacher_split_ratio),
            distill=DistillConfig(
                sape=SapeConfig(enabled=False), cca=CcaConfig(enabled=False), etht=EthtConfig(learn=())
            ),
            train=dataclasses.replace(
                self.train,
                epochs=self.teacher.epochs,
                batch_size=self.teacher.batch_size,
                learning_rate=self.teacher.learning_rate,
                decay="step",
                milestones=self.teacher.milestones,
            ),
        )


@dataclass(frozen=True)
class UncheckedConfig(TrainingConfig):
    """A configuration that may break rules between options: to find the other faults of its file, not to train."""

    def __post_init__(self) -> None:
        """Look at no rule."""


def span(size: int, warp: str) -> int:
    """Crop pixels that the side of a box becomes; also of a network's maps, in cells (`data.warp`)."""
    return size if warp == "size" else size - 1


def _cross_field_problems(config: TrainingConfig) -> Iterator[ConfigProblem]:
    """Rules between fields that no single field can state."""
    for path, size in (
        ("student.input_size", config.student.input_size),
        ("teacher.input_size", config.teacher.input_size),
    ):
        if size % 32:
            yield ConfigProblem(path, f"must be a multiple of 32, got {size}")
    if any(kernel % 2 == 0 for kernel in config.distill.sape.kernels):
        yield ConfigProblem(
            "distill.sape.kernels", f"kernel sizes must be odd, got {list(config.distill.sape.kernels)}"
        )
    if config.distill.sape.sau and not config.distill.sape.kernels:
        yield ConfigProblem("distill.sape.kernels", "must name at least one kernel while distill.sape.sau is true")
    etht = config.distill.etht
    if not etht.tau_min < etht.init_tau < etht.tau_min + etht.tau_range:
        yield ConfigProblem(
            "distill.etht.init_tau",
            f"must lie between tau_min={etht.tau_min} and tau_min+tau_range={etht.tau_min + etht.tau_range}, "
            f"got {etht.init_tau}",
        )
    if config.head.kind == "simcc":
        yield from _bin_problems(config)
    if config.dark.blur_kernel % 2 == 0:
        yield ConfigProblem("dark.blur_kernel", f"must be odd, got {config.dark.blur_kernel}")
    yield from _backbone_problems(config)
    yield from _distillation_problems(config)
    yield from _feature_problems(config)
    yield from _source_problems(config.data)
    yield from _schedule_problems(config)


def _schedule_problems(config: TrainingConfig) -> Iterator[ConfigProblem]:
    """Which options a schedule may change, and to what: each value by itself, and against the rules between fields."""
    seen: set[tuple[int, str]] = set()
    for index, step in enumerate(config.schedule):
        path = f"schedule[{index}]"
        if step.option not in schedulable_paths():
            known = schedulable_paths()
            reason = nearest(step.option, known) or f"; these can: {', '.join(known)}"
            yield ConfigProblem(f"{path}.option", f"{step.option!r} cannot change during a training{reason}")
            continue
        if (step.epoch, step.option) in seen:
            yield ConfigProblem(path, f"{step.option} has two values from epoch {step.epoch} on")
        seen.add((step.epoch, step.option))
        found = problems_at(step.option, step.value) or _problems_with(config, step)
        yield from (ConfigProblem(f"{path}.value", f"{step.option} {problem.message}") for problem in found)


def _problems_with(config: TrainingConfig, step: ScheduleStep) -> list[ConfigProblem]:
    """What is wrong at the scheduled option once it has the step's value."""
    try:
        _with_value(dataclasses.replace(config, schedule=()), step.option, step.value)
    except ConfigError as error:
        return [problem for problem in error.problems if problem.path == step.option]
    return []


def _with_value(section: Any, path: str, value: float) -> Any:
    """A configuration, or section of one, with one option changed."""
    name, _, rest = path.partition(".")
    return dataclasses.replace(section, **{name: _with_value(getattr(section, name), rest, value) if rest else value})


def in_order(schedule: Sequence[ScheduleStep]) -> list[ScheduleStep]:
    """The steps by epoch, those of one epoch by their option."""
    return sorted(schedule, key=lambda step: (step.epoch, step.option))


def _backbone_problems(config: TrainingConfig) -> Iterator[ConfigProblem]:
    """Which heads stand on which backbones."""
    known = HEADS[config.head.kind].backbones
    networks = [("student.backbone", config.student.backbone)]
    if config.needs_teacher:
        networks.append(("teacher.backbone", config.teacher.backbone))
    for path, backbone in networks:
        if backbone not in known:
            listed = ", ".join(known)
            yield ConfigProblem(path, f"must be one of {listed} with head.kind {config.head.kind}, got {backbone!r}")


def _distillation_problems(config: TrainingConfig) -> Iterator[ConfigProblem]:
    """Which distillation losses go with which head."""
    kind, sape = config.head.kind, config.distill.sape
    if config.distill.cca.enabled and config.data.warp != "size":
        yield ConfigProblem("data.warp", "must be size: CCA's classes lie over each other in crops of that warp only")
    if config.distill.cca.enabled and kind != "simcc":
        yield ConfigProblem(
            "distill.cca.enabled", f"must be false: CCA aligns the logits of head.kind simcc, not {kind}"
        )
    if sape.enabled and sape.feature == "final_layer" and not HEADS[kind].has_final_feature:
        yield ConfigProblem(
            "distill.sape.feature", f"must be stage4: head.kind {kind} has no map per keypoint to align"
        )
    if sape.enabled and sape.feature == "heads" and not HEADS[kind].has_offsets:
        having = ", ".join(name for name, traits in HEADS.items() if traits.has_offsets)
        yield ConfigProblem(
            "distill.sape.feature", f"heads belongs to head.kind {having}: {kind} has no offsets to align"
        )


def _source_problems(data: DataConfig) -> Iterator[ConfigProblem]:
    """Which files go with which kind of data, and with which split."""
    if data.kind in FILE_KINDS and not data.train:
        yield ConfigProblem("data.train", f"must name at least one annotation file when data.kind is {data.kind}")
    if data.kind == "mpii" and data.keypoint_set != "mpii16":
        yield ConfigProblem("data.keypoint_set", f"must be mpii16 when data.kind is mpii, got {data.keypoint_set!r}")
    for split, sources in (("train", data.train), ("val", data.val), ("test", data.test)):
        if len({bool(source.head_boxes) for source in sources}) > 1:
            yield ConfigProblem(f"data.{split}", "either every source has head_boxes or none: PCKh needs one head size")
        for position, source in enumerate(sources):
            path = f"data.{split}[{position}]"
            if source.detections and (data.kind != "coco_layout" or split == "train"):
                yield ConfigProblem(f"{path}.detections", "belongs to data.val or data.test of data.kind coco_layout")
            if source.head_boxes and (data.kind != "mpii" or split == "train"):
                yield ConfigProblem(f"{path}.head_boxes", "belongs to data.val or data.test of data.kind mpii")


def _bin_problems(config: TrainingConfig) -> Iterator[ConfigProblem]:
    """Rules on the classifiers' lengths, which are rounded down as in `cdkd.simcc.class_count`."""
    student_bins = int(config.student.input_size * config.simcc.split_ratio)
    teacher_bins = int(config.teacher.input_size * config.teacher_split_ratio)
    if student_bins < 2:
        yield ConfigProblem("simcc.split_ratio", f"must give the student at least 2 bins, got {student_bins}")
        return
    if config.needs_teacher and teacher_bins < 2:
        yield ConfigProblem("teacher.split_ratio", f"must give the teacher at least 2 bins, got {teacher_bins}")
    if not (config.distill.cca.enabled and _are_sizes_valid(config)):
        return
    method, merge = config.distill.logit_alignment, config.distill.cca.merge
    if method == "cca" and merge != "matrix" and teacher_bins % student_bins:
        yield ConfigProblem(
            "distill.cca.merge",
            f"{teacher_bins} teacher bins do not divide into {student_bins} student bins; use merge: matrix",
        )
    if method == "same_class_number" and teacher_bins != student_bins:
        yield ConfigProblem(
            "distill.logit_alignment",
            f"same_class_number needs equal class counts, got {student_bins} of the student and {teacher_bins} of the "
            f"teacher; set simcc.split_ratio: {teacher_bins / config.student.input_size:g} with teacher.split_ratio: "
            f"{config.teacher_split_ratio:g}, or teacher.split_ratio: {student_bins / config.teacher.input_size:g}",
        )


def _are_sizes_valid(config: TrainingConfig) -> bool:
    return config.student.input_size % 32 == 0 and config.teacher.input_size % 32 == 0


def downsampling_steps(teacher_side: int, student_side: int) -> int | None:
    """How often the teacher's side is halved to become the student's, at least once; None where it never does."""
    ratio, rest = divmod(teacher_side, student_side)
    is_power_of_two = ratio & (ratio - 1) == 0
    return ratio.bit_length() - 1 if ratio > 1 and is_power_of_two and rest == 0 else None


def _feature_problems(config: TrainingConfig) -> Iterator[ConfigProblem]:
    """Rules on the two features' sizes, which are those of the inputs divided by 4."""
    sizes = config.teacher.input_size, config.student.input_size
    if not (config.distill.sape.enabled and _are_sizes_valid(config)):
        return
    method = config.distill.feature_alignment
    needed = {
        "conv_downsample": (downsampling_steps(*sizes) is not None, "2, 4, 8, ... times"),
        "avgpool": (sizes[0] % sizes[1] == 0, "a multiple of"),
    }
    fits, factor = needed.get(method, (True, ""))
    if not fits:
        yield ConfigProblem(
            "distill.feature_alignment",
            f"{method} needs teacher.input_size to be {factor} student.input_size, got {sizes[0]} and {sizes[1]}",
        )


# ------------------------------------------------------------------------------------------ presets

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": {
        "simcc.task_scale": 1.0,
        "simcc.flip_shift": "exact",
        "distill.legacy_factor": 1.0,
        "distill.sape.kernels": [3, 5, 7, 7],
        "distill.sape.projector": "spatial",
        "distill.sape.add_mean_branch": False,
        "distill.sape.detach_student": False,
        "distill.sape.trainable": True,
        "distill.cca.merge": "floor",
        "distill.cca.class_reduction": "sum",
        "distill.cca.batch_reduction": "mean",
        "distill.cca.mask_invisible": False,
        "distill.cca.tau_grad_teacher": True,
        "distill.etht.schedule": "cosine",
        "distill.etht.trainable": True,
    },
    "official": {
        "simcc.task_scale": 1000.0,
        "simcc.flip_shift": "official",
        "distill.legacy_factor": 0.4,
        "distill.sape.kernels": [3, 5, 7],
        "distill.sape.projector": "full",
        "distill.sape.add_mean_branch": True,
        "distill.sape.detach_student": True,
        "distill.sape.trainable": False,
        "distill.cca.merge": "floor",
        "distill.cca.class_reduction": "mean",
        "distill.cca.batch_reduction": "sum",
        "distill.cca.mask_invisible": False,
        "distill.cca.tau_grad_teacher": False,
        "distill.etht.schedule": "official",
        "distill.etht.trainable": False,
    },
}
PRESETS = {**PRESETS, "fixed": {**PRESETS["paper"], "distill.cca.merge": "centred", "distill.cca.mask_invisible": True}}
"""What each variant of the method sets (method sections 0 and 12). All set the same keys: one replaces another."""


# ------------------------------------------------------------------------ options by their dotted path


def field_at(path: str) -> dataclasses.Field[Any]:
    """The declaration behind a dotted path of TrainingConfig.

    Raises:
        ConfigError: the path names no field; the message holds the nearest valid path.
    """
    known = declared_fields(TrainingConfig)
    if path not in known:
        raise ConfigError([ConfigProblem(path, f"no such configuration key{nearest(path, list(known))}")])
    return known[path]


@functools.cache
def schedulable_paths() -> tuple[str, ...]:
    """The options that may change between two epochs of a training."""
    declared = declared_fields(TrainingConfig)
    return tuple(path for path, item in declared.items() if item.metadata["schedulable"])


def problems_at(path: str, value: Any) -> list[ConfigProblem]:
    """What is wrong with one value at a dotted path, by itself (rules between fields are not looked at)."""
    try:
        item = field_at(path)
    except ConfigError as error:
        return list(error.problems)
    return value_problems(annotation_at(path), item, value, path)


def annotation_at(path: str) -> Any:
    """The type declared at a dotted path of TrainingConfig (the path must exist, see `field_at`)."""
    annotation: Any = TrainingConfig
    for name in path.split("."):
        annotation = type_hints(annotation)[name]
    return annotation


def resolve(*layers: Mapping[str, Any], kind: type[TrainingConfig] = TrainingConfig) -> TrainingConfig:
    """Build a configuration from layers of plain data, later layers over earlier ones.

    Each layer is a nested mapping, a mapping by dotted path, or a mixture. A layer's `preset` is
    expanded below the layer's own keys and above all earlier layers. Rules between options hold unless
    `kind` is UncheckedConfig.

    Raises:
        ConfigError: with every unknown key, wrong type and broken rule.
    """
    merged: dict[str, Any] = flatten_keys({"preset": "paper", **PRESETS["paper"]})
    problems: list[ConfigProblem] = []
    for layer in layers:
        flat = flatten_keys(layer)
        preset = flat.get("preset")
        if isinstance(preset, str) and preset in PRESETS:
            merged.update(PRESETS[preset])
        merged.update(flat)
    nested: dict[str, Any] = {}
    for path, value in merged.items():
        section = nested
        *parents, leaf = path.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                problems.append(ConfigProblem(path, f"{parent!r} is a value, not a section"))
                break
        else:
            is_empty_section = isinstance(value, Mapping) and isinstance(section.get(leaf), dict)
            if not is_empty_section:  # it says nothing, and must not wipe out what a preset or layer put there
                section[leaf] = dict(value) if isinstance(value, Mapping) else value
    if problems:
        raise ConfigError(problems)
    return from_mapping(kind, nested)
