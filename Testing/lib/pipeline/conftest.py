"""What tests of the pipeline share."""

from __future__ import annotations

import pytest
from sliced_chest import sliced_chest

from SAMLungSegLib.volume import Volume


@pytest.fixture(scope="session")
def volume() -> Volume:
    """The chest that is sliced, where a file has no volume of its own; nobody changes it."""
    return sliced_chest()
