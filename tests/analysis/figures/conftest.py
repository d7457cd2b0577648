"""The studies that figures of this folder's tests are made of, each filled once into the store of tests.analysis."""

from __future__ import annotations

import pytest

from analysis.figures.source import Source
from tests.analysis.figures.studies import (
    parts_study,
    projectors_study,
    search_study,
    sizes_study,
    source,
)
from tests.analysis.recorded import StudyBuilder, Workbench


@pytest.fixture(scope="session")
def modules_source(workbench: Workbench, modules: StudyBuilder) -> Source:
    return source(workbench, "modules")


@pytest.fixture(scope="session")
def sizes(workbench: Workbench) -> Source:
    sizes_study(workbench)
    return source(workbench, "sizes")


@pytest.fixture(scope="session")
def count(workbench: Workbench) -> Source:
    projectors_study(workbench)
    return source(workbench, "count")


@pytest.fixture(scope="session")
def parts(workbench: Workbench) -> Source:
    parts_study(workbench)
    return source(workbench, "parts")


@pytest.fixture(scope="session")
def search(workbench: Workbench) -> Source:
    search_study(workbench)
    return source(workbench, "wide-search")
