"""Cross-domain knowledge distillation (CDKD) for low-resolution human pose estimation.

The PyTorch library of the method. It knows nothing of Ray, MLflow, Optuna, YAML or pandas.
Importing the package imports neither torch nor numpy; the submodules do.
"""

__version__ = "0.1.0"

METHOD_VERSION = 2
"""Part of every trial's fingerprint: raise it in the commit that changes what a training computes."""
