"""The options that the method's notes ask for, and where the configuration has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cdkd.config import TAU_AT_THETA_ONE

SECTION_12: Mapping[str, tuple[str, tuple[Any, ...]]] = {
    "simcc.k": ("simcc.split_ratio", (3.0,)),
    "simcc.label_smoothing": ("simcc.label_smoothing", (0.2,)),
    "simcc.loss": ("simcc.loss", ("nmtnorm", "nmt", "mean_visible")),
    "simcc.flip_shift": ("simcc.flip_shift", ("exact", "official", "none")),
    "simcc.score": ("simcc.score", ("max", "min", "mean")),
    "pair.student_size": ("student.input_size", (64,)),
    "pair.teacher_size": ("teacher.input_size", (256,)),
    "pair.teacher.backbone": ("teacher.backbone", ("hrnet_w32",)),
    "pair.teacher.k": ("teacher.split_ratio", (3.0,)),
    "pair.teacher.checkpoint": ("teacher.checkpoint", ("teacher.pt",)),
    "sape.enabled": ("distill.sape.enabled", (True, False)),
    "sape.feature": ("distill.sape.feature", ("final_layer", "stage4", "heads")),
    "sape.projector": ("distill.sape.projector", ("spatial", "full", "separable")),
    "sape.K": ("distill.sape.projectors", (3,)),
    "sape.sau": ("distill.sape.sau", (True, False)),
    "sape.kernels": ("distill.sape.kernels", ((3, 5, 7, 7),)),
    "sape.fuse": ("distill.sape.fuse", ("sum", "concat")),
    "sape.add_mean_branch": ("distill.sape.add_mean_branch", (False, True)),
    "sape.hidden": ("distill.sape.hidden", (32,)),
    "sape.extra_fc": ("distill.sape.extra_fc", ("none", "post_gap", "pre_softmax")),
    "sape.detach_student": ("distill.sape.detach_student", (False, True)),
    "sape.trainable": ("distill.sape.trainable", (True, False)),
    "sape.cosine": ("distill.sape.cosine", ("sample", "channel")),
    "sape.eps": ("distill.sape.eps", (1.0e-8,)),
    "paper_order (3.3)": ("distill.sape.fuse_order", ("sum_gap_fc", "fc_gap_sum")),
    "relu between fc and fcs (3.3)": ("distill.sape.hidden_relu", (False, True)),
    "cca.enabled": ("distill.cca.enabled", (True, False)),
    "cca.merge": ("distill.cca.merge", ("floor", "centred", "split", "matrix")),
    "cca.class_reduction": ("distill.cca.class_reduction", ("sum", "mean")),
    "cca.batch_reduction": ("distill.cca.batch_reduction", ("mean", "sum")),
    "cca.mask_invisible": ("distill.cca.mask_invisible", (False, True)),
    "cca.tau_grad_teacher": ("distill.cca.tau_grad_teacher", (True, False)),
    "etht.enabled, etht.learn": ("distill.etht.learn", ((), ("tau",), ("tau", "alpha"), ("tau", "alpha", "beta"))),
    "etht.init_theta": ("distill.etht.init_tau", (TAU_AT_THETA_ONE,)),
    "etht.tau_min": ("distill.etht.tau_min", (1.0,)),
    "etht.tau_range": ("distill.etht.tau_range", (20.0,)),
    "etht.schedule": ("distill.etht.schedule", ("cosine", "linear", "constant", "official")),
    "etht.sign": ("distill.etht.direction", ("auto", "ascend", "descend")),
    "etht.length": ("distill.etht.length", (0, 10)),
    "etht.optimiser": ("distill.etht.optimizer", ("sgd", "adam")),
    "loss.ori_scale": ("simcc.task_scale", (1.0, 1000.0)),
    "loss.alpha": ("distill.alpha", (1.0,)),
    "loss.beta": ("distill.beta", (1.0,)),
    "loss.legacy_factor": ("distill.legacy_factor", (1.0, 0.4)),
    "preset": ("preset", ("paper", "official", "fixed")),
    "Table V, features": ("distill.feature_alignment", ("sape", "conv_downsample", "avgpool", "fully_connected")),
    "Table V, cosine or MSE": ("distill.sape.loss", ("cosine", "mse")),
    "Table V, logits": ("distill.logit_alignment", ("cca", "same_class_number", "fully_connected")),
    "Table V, adapter's side": ("distill.cca.adapter_side", ("student", "teacher")),
}
"""The method notes' configuration surface (section 12, 3.3 and 8) -> where it is, and the values asked for.

`strict_load` is no option: weights are always loaded strictly.
"""
