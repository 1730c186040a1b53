"""A folder of images, segmented one after the other into files; the scene stays out of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from math import nan
from pathlib import Path

import slicer

from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.jobs.models import models
from SAMLungSegSlicer.jobs.settings import Settings

logger = logging.getLogger(__name__)

DONE, EXISTS, FAILED, CANCELLED = "done", "exists", "failed", "cancelled"


@dataclass(frozen=True)
class Case:
    """What became of one image.

    Attributes:
        name: of the image.
        state: 'done', 'exists' (a result is there already), 'failed' or 'cancelled'.
        right_ml, left_ml: size of the lungs; NaN for X-rays, and where nothing was done.
        seconds: that it took; NaN where nothing was done.
        file: the result, where there is one.
        reason: why it failed.
    """

    name: str
    state: str
    right_ml: float = nan
    left_ml: float = nan
    seconds: float = nan
    file: str = ""
    reason: str = ""


class FolderJob:
    """Segments what `images_in` finds in a folder, into the same files as the command line.

    Results that exist are kept, so that a run that stopped goes on where it was; each file appears whole or not at all.
    """

    def __init__(
        self,
        inputFolder: Path | str,
        outputFolder: Path | str,
        settings: Settings,
        *,
        format: str | None = None,
        overwrite: bool = False,
    ) -> None:
        """Look at the folders; nothing is made yet.

        Args:
            inputFolder: with image files and DICOM folders.
            outputFolder: made when the first result is there.
            settings: for all images.
            format: of the results; None for PNG in, PNG out, and seg.nrrd else.
            overwrite: whether results that exist are made again.
        Raises:
            VolumeError: no images, an output folder that cannot be written to, or an unknown format.
        """
        from SAMLungSegLib.replay import ModelChoice
        from SAMLungSegLib.results import check_writable
        from SAMLungSegLib.volume.listing import images_in

        self._output = Path(outputFolder)
        self._settings, self._format, self._overwrite = settings, format, overwrite
        _checkFolders(Path(inputFolder), self._output, format)
        check_writable(self._output)
        self._images = [path for path in images_in(inputFolder) if path.resolve() != self._output.resolve()]
        self._choice = ModelChoice(settings.model, Path(settings.weights) if settings.weights else None)
        self._title = f"{Path(inputFolder).resolve().name} lungs"

    def run(
        self, progress: Callable[[int, int], None] | None = None, cancelled: Callable[[], bool] = lambda: False
    ) -> list[Case]:
        """Segment all images, on any thread; progress is in images.

        Returns:
            One case for each image. One that fails never stops the others; those left when `cancelled` said so are
            'cancelled'.
        Raises:
            SAMLungSegError: the settings are wrong for every image, or the model cannot be loaded.
        """
        self._settings.options()
        models.get(self._settings)
        cases = []
        for case in self._cases(cancelled):
            cases.append(case)
            if progress is not None:
                progress(len(cases), len(self._images))
        return cases

    def finish(self, result: list[Case]) -> slicer.vtkMRMLTableNode:
        """The cases as a table in the scene."""
        import pandas as pd

        return bridge.tableFromDataFrame(pd.DataFrame([asdict(case) for case in result]), self._title)

    def _cases(self, cancelled: Callable[[], bool]) -> Iterator[Case]:
        from SAMLungSegLib.results import result_path
        from SAMLungSegLib.volume import image_name

        owners: dict[Path, Path] = {}
        for image in self._images:
            file = result_path(image, self._output, self._format)
            if file in owners:
                reason = f"{owners[file]} and {image} would both be written to {file}; use two folders."
                yield Case(image_name(image), FAILED, reason=reason)
                continue
            owners[file] = image
            yield self._case(image, file, cancelled)

    def _case(self, image: Path, file: Path, cancelled: Callable[[], bool]) -> Case:
        from SAMLungSegLib.errors import SAMLungSegError
        from SAMLungSegLib.pipeline import CancelledError
        from SAMLungSegLib.volume import image_name

        name = image_name(image)
        if file.exists() and not self._overwrite:
            return Case(name, EXISTS, file=str(file))
        if cancelled():
            return Case(name, CANCELLED)
        try:
            return self._segmented(name, image, file, cancelled)
        except CancelledError:
            return Case(name, CANCELLED)
        except SAMLungSegError as error:
            return Case(name, FAILED, reason=str(error))
        except Exception as error:  # a defect of ours must not cost the other images of a night
            logger.exception("%s failed", image)
            return Case(name, FAILED, reason=f"{type(error).__name__}: {error}")

    def _segmented(self, name: str, image: Path, file: Path, cancelled: Callable[[], bool]) -> Case:
        from SAMLungSegLib import read_volume, segment_volume
        from SAMLungSegLib.replay import recipe_of, save
        from SAMLungSegLib.results import check_format, default_format, lung_volumes_ml, writable_folder

        start = time.monotonic()
        volume = read_volume(image)
        check_format(volume, self._format or default_format(image))
        model, options = models.get(self._settings), self._settings.options()
        segmentation = segment_volume(volume, model, options, cancelled=cancelled)
        recipe = recipe_of(segmentation, options, self._choice, str(model.device), image=image)
        writable_folder(self._output)
        save(segmentation, file, recipe)
        right, left = lung_volumes_ml(segmentation.labelmap_kji, volume) or (nan, nan)
        return Case(name, DONE, right, left, time.monotonic() - start, str(file))


def _checkFolders(inputFolder: Path, outputFolder: Path, format: str | None) -> None:
    from SAMLungSegLib.errors import VolumeError
    from SAMLungSegLib.results import FORMATS

    if inputFolder.resolve() == outputFolder.resolve():
        raise VolumeError(f"Results would lie among the images of {inputFolder}; give another output folder.")
    if format not in (None, *FORMATS):
        raise VolumeError(f"Results cannot be written as '{format}'; give one of {', '.join(FORMATS)}.")
