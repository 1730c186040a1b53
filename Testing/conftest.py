"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

os.environ.setdefault("SAMLUNGSEG_ACCEPT_WEIGHTS_LICENCE", "1")
os.environ["SAMLUNGSEG_NO_CONFIG"] = "1"  # of whoever runs the tests, in their processes as well

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images beside the repository; tests that need it skip where it is absent."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real images are not on this machine (expected at {folder})")
    return folder


@pytest.fixture(scope="module", autouse=True)
def earlier_modules_are_not_searched_for_garbage() -> Iterator[None]:
    """What was imported and kept until now makes a collection take a quarter of a second, in the midst of tests."""
    gc.collect()
    gc.freeze()
    yield


@pytest.fixture
def measured_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No other test that measures delays, or moves gigabytes, runs beside this one in another process."""
    with FileLock(tmp_path_factory.getbasetemp().parent / "measured_alone.lock"):
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first, so that most failures show within seconds."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
