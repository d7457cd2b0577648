"""One study of every outcome, recorded once."""

from __future__ import annotations

import pytest

from tests.analysis.recorded import StudyBuilder, Workbench
from tests.analysis.report.studies import reported_study


@pytest.fixture(scope="session")
def reported(workbench: Workbench) -> StudyBuilder:
    return reported_study(workbench)
