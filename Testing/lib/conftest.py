"""Fixtures that tests of the library share."""

from __future__ import annotations

from pathlib import Path

import pytest
from cohorts import DarkIsLung, use_dark_is_lung, write_cohort

from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.base import PromptableModel


@pytest.fixture(scope="session")
def model() -> PromptableModel:
    """The bundled model, where a file has none of its own."""
    return load_model("lung-compact", device="cpu")


@pytest.fixture
def dark_is_lung(monkeypatch) -> DarkIsLung:
    """The model that every run gets."""
    return use_dark_is_lung(monkeypatch)


@pytest.fixture
def cohort(tmp_path) -> Path:
    """Three pictures, a volume and a series."""
    return write_cohort(tmp_path / "in", pictures=3, volumes=1, series=1)
