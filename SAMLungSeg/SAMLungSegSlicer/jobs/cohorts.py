"""A folder of images, segmented into files; the scene stays out of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import slicer

from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.jobs.settings import Settings
from SAMLungSegSlicer.runtime.imports import keepTritonApart

if TYPE_CHECKING:
    from SAMLungSegLib.batch import BatchResult


class FolderJob:
    """`samlungseg batch` for all images below a folder: the same files, and the same run goes on after it stopped."""

    def __init__(
        self,
        inputFolder: Path | str,
        outputFolder: Path | str,
        settings: Settings,
        *,
        format: str | None = None,
        retryFailed: bool = False,
    ) -> None:
        """Nothing is looked at or made yet.

        Args:
            inputFolder: with image files and DICOM files, at any depth.
            outputFolder: another folder, made if it is not there.
            settings: for all images.
            format: of the labelmaps; None for PNG in, PNG out, and seg.nrrd else.
            retryFailed: whether images that failed before are tried again.
        Raises:
            SAMLungSegError: the settings are wrong for every image.
        """
        keepTritonApart()
        from SAMLungSegLib.batch import Settings as BatchSettings

        self._input, self._output = Path(inputFolder), Path(outputFolder)
        self._retryFailed = retryFailed
        self._settings = BatchSettings(settings.options(), settings.choice, settings.device or "auto", format)

    def run(
        self, progress: Callable[[int, int], None] | None = None, cancelled: Callable[[], bool] = lambda: False
    ) -> BatchResult:
        """Segment what is not done yet, on any thread; progress is in images.

        Returns:
            A row for each image that has ended, now or before. One that fails never stops the others; after `cancelled`
            said so, those left are missing.
        Raises:
            SAMLungSegError: the folders cannot be used, or the model cannot be loaded.
        """
        from SAMLungSegLib.batch import run

        return run(
            self._input,
            self._output,
            self._settings,
            retry_failed=self._retryFailed,
            progress=progress,
            cancelled=cancelled,
        )

    def finish(self, result: BatchResult, tableNode: slicer.vtkMRMLTableNode | None = None) -> slicer.vtkMRMLTableNode:
        """The rows as a table in the scene, a new one or one that is filled anew."""
        from SAMLungSegLib.volume import given_name

        return bridge.tableFromDataFrame(result.table(), f"{given_name(self._input)} lungs", tableNode)
