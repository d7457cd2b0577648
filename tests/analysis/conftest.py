"""One real SQLite MLflow store for the tests of this folder; every study is an experiment of its own."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from tests.analysis.recorded import StudyBuilder, Workbench, modules_study, resolutions_study, tuning_study


@pytest.fixture(scope="session")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return Workbench(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="session")
def modules(workbench: Workbench) -> StudyBuilder:
    return modules_study(workbench)


@pytest.fixture(scope="session")
def tuning(workbench: Workbench) -> StudyBuilder:
    return tuning_study(workbench)


@pytest.fixture(scope="session")
def resolutions(workbench: Workbench) -> StudyBuilder:
    return resolutions_study(workbench)
