"""Weights of a model, fetched once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


class DownloadJob:
    """Download of a model's weights, checked against their SHA-256; goes on where it was stopped before."""

    def __init__(self, modelName: str) -> None:
        """Raises ModelError where there is no such model."""
        from SAMLungSegLib.models.registry import model_spec

        self.modelName = modelName
        self._spec = model_spec(modelName)

    def run(self, progress: Callable[[int, int], None], cancelled: Callable[[], bool]) -> Path:
        """Fetch what is missing, on any thread; progress is in bytes.

        Raises:
            CancelledError: stopped; what has arrived is kept.
            ModelError: no connection, no space, or the file is not what it should be.
        """
        from SAMLungSegLib.models.checkpoints import fetch

        return fetch(self._spec, progress=progress, cancelled=cancelled)

    def finish(self, result: Path) -> Path:
        """Where the weights are."""
        return result
