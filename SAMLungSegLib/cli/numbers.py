"""The numbers of all images of a command as one CSV file."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SAMLungSegLib.errors import OutputError, SettingsError
from SAMLungSegLib.files import check_name_fits, check_writable, real_path, writable_folder, write_csv

if TYPE_CHECKING:  # the command line starts at once: what is heavy is imported where it is used
    from SAMLungSegLib.pipeline import Segmentation

logger = logging.getLogger(__name__)


class StatisticsTable:
    """A table that is written anew after each image, so that what was done stays when the command is stopped.

    Attributes:
        files: that were written.
    """

    def __init__(self, path: Path | None) -> None:
        """Nothing is written where `path` is None."""
        self.files: list[Path] = []
        self._path, self._rows = path, list[dict[str, Any]]()

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> StatisticsTable:
        """The table that `--statistics` asks for, checked before any work is done.

        Raises:
            SettingsError: it is no CSV file.
            OutputError: it is there already, is an input, or cannot be written.
        """
        path: Path | None = arguments.statistics
        if path is None:
            return cls(None)
        if path.suffix.lower() != ".csv":
            raise SettingsError(f"--statistics {path} is no CSV file; give a name that ends in .csv.")
        check_name_fits(path)
        check_writable(path.parent)
        if path.exists() and not arguments.overwrite:
            raise OutputError(f"{path} exists already; add --overwrite to replace it, or give another name.")
        if real_path(path) in map(real_path, arguments.inputs):
            raise OutputError(f"The statistics would replace the input {path}; give another name.")
        return cls(path)

    def add(self, image: Path, segmentation: Segmentation) -> None:
        """Add the rows of an image, and write the table.

        Raises:
            OutputError: it cannot be written.
        """
        if self._path is None:
            return
        import pandas as pd

        about = {"image": str(image), "modality": segmentation.modality, "extent": segmentation.extent}
        self._rows += [about | row for row in segmentation.statistics().records()]
        writable_folder(self._path.parent)
        self.files = [write_csv(pd.DataFrame(self._rows), self._path)]
        logger.info("Written: %s, with %s.", self._path, image)
