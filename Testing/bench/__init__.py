"""A test bench for the Slicer module: Slicer's real MRML classes and slice views, without the Slicer application.

``slicer-core`` supplies the scene, the nodes, the logics and the displayable managers; PySide6 the widgets. What only
the application has is not here: module discovery and packaging, PythonQt itself, the Segment Editor, other layouts, the
DICOM browser, downloads of sample data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.application import Application


def start() -> Application:
    """The application, started at the first call (see `bench.application.start`).

    Raises:
        ImportError: slicer-core or PySide6 is not installed.
    """
    from bench import application

    return application.start()
