"""Figures of a study: one file a kind, each with a function for the numbers and one that draws them.

Only names here, so that the command line can offer them without importing pandas or Matplotlib.
"""

from __future__ import annotations

KINDS = {
    "curves": "score per epoch",
    "cost": "accuracy against GFLOPs",
    "projectors": "accuracy against the number of projectors",
    "importance": "importance of the searched options",
    "slice": "score against each searched option",
    "parallel": "searched options side by side",
    "pareto": "accuracy against cost, with the front",
    "gradients": "gradient ratios and temperature per epoch",
    "keypoints": "difference to the baseline per keypoint",
}
"""Kind -> its line in `cdkd figure --help`. `analysis.figures.kinds` has what makes and draws it."""

FORMATS = ("pdf", "svg", "png")
WIDTHS = {"single": 88.0, "double": 180.0}
"""Width of a figure in one column and across both, mm."""

BANDS = {"std": "standard deviation", "range": "smallest to largest"}
COSTS = ("train_seconds", "gflops", "gmacs", "params_m")
