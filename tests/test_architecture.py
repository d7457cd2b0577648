"""Which module may import which: one case per source file."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for package in ("cdkd", "orchestrator", "analysis") for path in (ROOT / package).rglob("*.py"))
LAUNCHERS = {f"orchestrator/{name}.py" for name in ("tune", "ray_train", "ray_session", "ray_probe")}
# Importances are Optuna's own; nothing else of a search needs it, and nothing that draws needs what trains.
OPTUNA = {"analysis/figures/importance.py"}
MLFLOW = {"orchestrator/tracking.py", "analysis/store.py"}
CDKD_USES = {"cdkd", "numpy", "cv2", "torch", "pycocotools", "faster_coco_eval", "scipy"}
CDKD_LAYERS = {
    "options": -1, "config": 0, "identity": 1,
    "checkpoint": 0, "distributed": 0, "instances": 0, "keypoints": 0, "simcc": 1, "drawing": 1,
    "data": 2, "models": 2, "evaluation": 2, "heads": 3, "distill": 4, "engine": 5, "training": 6, "inference": 7,
    "memory": 0, "pilot": 7, "panels": 2, "attention": 4, "failures": 3, "gallery": 8,
    "step_size": 1,
}  # fmt: skip


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """Every module named by an import statement of a file, at any depth."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            found.add(str(node.module))
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def roots(modules: set[str]) -> set[str]:
    return {module.split(".")[0] for module in modules}


def test_there_are_files_to_check() -> None:
    assert len(FILES) > 30


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downward(path: Path) -> None:
    name, imported = str(path.relative_to(ROOT)), imports_of(path)
    used = roots(imported)
    if name.startswith("cdkd/"):
        assert used <= set(sys.stdlib_module_names) | CDKD_USES
        assert_layered(path, imported)
    if name.startswith("analysis/"):
        assert not used & {"torch", "ray", "cdkd"}
        assert "optuna" not in used or name in OPTUNA
        inside = {module for module in imported if module.startswith("orchestrator")}
        assert inside <= {"orchestrator", "orchestrator.keys"} | {
            m for m in inside if m.startswith("orchestrator.keys.")
        }
    if name.startswith("orchestrator/"):
        assert "ray" not in used or name in LAUNCHERS
    if name not in MLFLOW:
        assert "mlflow" not in used


def assert_layered(path: Path, imported: set[str]) -> None:
    parts = path.relative_to(ROOT / "cdkd").with_suffix("").parts
    if parts[0] == "__init__":
        return
    own = CDKD_LAYERS[parts[0]]
    for module in imported:
        target = module.split(".")[1] if module.startswith("cdkd.") else None
        if target in CDKD_LAYERS and target != parts[0]:
            assert CDKD_LAYERS[target] < own, f"{path}: {module} is not below {parts[0]}"


def test_no_import_cycles() -> None:
    known = {module_name(path) for path in FILES}
    graph = {module_name(path): imports_of(path) & known - {module_name(path)} for path in FILES}
    finished: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module in finished:
            return
        for target in sorted(graph[module]):
            visit(target, (*trail, module))
        finished.add(module)

    for module in sorted(graph):
        visit(module, ())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_runs_code_from_data(path: Path) -> None:
    called = {
        ast.unparse(node.func): node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
    }
    assert not called.keys() & {"eval", "exec", "pickle.load", "pickle.loads", "yaml.load", "os.system"}
    load = called.get("torch.load")
    assert load is None or any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in load.keywords)
