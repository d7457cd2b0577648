"""The order of the tests: long files first, so that two workers end at about the same time."""

from __future__ import annotations

import pytest

LONG = ("test_studies", "test_tune", "test_population", "test_in_process", "test_training", "test_run")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files in LONG in its order, then the others as they were collected."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))
