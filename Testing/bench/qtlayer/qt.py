"""Slicer's flat module ``qt``, over PySide6."""

# ruff: noqa: F401, F403
from __future__ import annotations

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import *
from PySide6.QtGui import *
from PySide6.QtWidgets import *

from bench.qtlayer import modal, pythonqt

for _module in (QtCore, QtGui, QtWidgets):
    pythonqt.adapt_module(_module)
pythonqt.install()
modal.install()

from bench.qtlayer.uiloader import QUiLoader  # noqa: E402  (its widgets need the adapted classes)

for _name in ("Property", "Signal", "Slot"):  # PythonQt has none: a module that used them would fail in Slicer
    del globals()[_name]
