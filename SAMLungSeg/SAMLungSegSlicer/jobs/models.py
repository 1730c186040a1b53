"""Models stay in memory between jobs."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from SAMLungSegSlicer.imports import keepTritonApart
from SAMLungSegSlicer.jobs.settings import Settings

if TYPE_CHECKING:
    from SAMLungSegLib.models.base import PromptableModel


class ModelCache:
    """The models used last, each loaded once; any thread may ask.

    As in the command line, models that encode slowly keep their embeddings on disk.
    """

    def __init__(self, capacity: int = 2) -> None:
        self._capacity = capacity
        self._models: OrderedDict[tuple, PromptableModel] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, settings: Settings) -> PromptableModel:
        """The model of `settings`; weights that have changed on disk are loaded again.

        Raises:
            ModelError: the model is unknown, or its weights are absent or do not fit.
        """
        keepTritonApart()
        from SAMLungSegLib import load_model
        from SAMLungSegLib.embedding import cached

        key = (settings.model, _stamp(settings.weights), settings.device or "auto")
        with self._lock:
            if key not in self._models:
                model = load_model(settings.model, weights=settings.weights or None, device=settings.device or "auto")
                self._models[key] = cached(model)
            self._models.move_to_end(key)
            while len(self._models) > self._capacity:
                self._models.popitem(last=False)
            return self._models[key]

    def clear(self) -> None:
        """Drop all models."""
        with self._lock:
            self._models.clear()


def _stamp(weights: Path | str | None) -> tuple | None:
    """What changes when the weights or the card beside them do; absent files are left to the library to explain."""
    if not weights:
        return None
    path = Path(weights)
    present = [file.stat() for file in (path, path.with_suffix(".json")) if file.is_file()]
    return str(path.resolve()), *((status.st_size, status.st_mtime_ns) for status in present)


models = ModelCache()
