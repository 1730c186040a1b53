"""PySide6 in the manner of PythonQt: the modules ``qt`` and ``ctk``, and Slicer's widgets in the module ``slicer``."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication

logger = logging.getLogger(__name__)


def install() -> QApplication:
    """Makes ``import qt`` and ``import ctk`` work; Qt draws off screen unless ``QT_QPA_PLATFORM`` says otherwise."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from bench.qtlayer import qt

    sys.modules["qt"] = qt
    qt.qInstallMessageHandler(_log)
    application = qt.QApplication.instance() or qt.QApplication(["bench"])
    from bench.qtlayer import ctk

    sys.modules["ctk"] = ctk
    return application


def _log(kind: object, context: object, message: str) -> None:
    logger.info("Qt: %s", message)
