"""The paper's printed numbers for the arms of a study."""

from __future__ import annotations

import pytest

from orchestrator.reference import reference_column


def test_a_mean_comes_with_its_deviation():
    found = reference_column("table_IV.mpii_mean", {"full": {}, "+projector": {}, "ours": {}})
    assert found.values == {"full": 79.24, "+projector": 78.73}
    assert found.deviations == {"full": 0.21, "+projector": 0.1}
    assert found.title == "Table IV, mpii_mean"


@pytest.mark.parametrize("column", ["table_IV.coco_ap", "table_I.pckh05"])
def test_a_column_without_deviations_has_none(column):
    found = reference_column(column, {"full": {}, "CDKD/HRNet-W32/64": {}})
    assert found.values
    assert found.deviations == {}


def test_a_row_is_found_by_its_components():
    switches = {"a": {"sape": True, "cca": False, "etht": False}}
    assert reference_column("table_IV.mpii_mean", switches).values == {"a": 78.95}
