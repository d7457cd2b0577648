"""The distillation method: one idea of the paper, one file; `distiller` owns every learnable part."""
