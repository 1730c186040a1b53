"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("SAMLUNGSEG_ACCEPT_WEIGHTS_LICENCE", "1")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images beside the repository; tests that need it skip where it is absent."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real images are not on this machine (expected at {folder})")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first, so that most failures show within seconds."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
