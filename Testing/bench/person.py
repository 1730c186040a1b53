"""A person who knows the true lungs, and draws around what is wrong."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import qt
from scipy import ndimage
from skimage import measure


def lasso_largest_error(window: Any, volume: Any, truth_kji: np.ndarray, number: int) -> bool:
    """Draw around the largest piece of an axial slice that is wrong, by the key and the mouse.

    Args:
        window: with a segmentation as its output; the Red view shows the slice.
        volume: an axial CT.
        truth_kji: uint8 (K, J, I), 1 right, 2 left.
        number: of the slice along K.
    Returns:
        Whether anything was wrong.
    """
    bridge = importlib.import_module("SAMLungSegSlicer.bridge")
    found = bridge.labelmapFromNode(window.ui.outputSelector.currentNode(), volume).array_kji[number]
    wrong = found != truth_kji[number]
    pieces = [(one, adds) for adds in (True, False) for one in _pieces(wrong & ((truth_kji[number] > 0) == adds))]
    if not pieces:
        return False
    piece, adds = max(pieces, key=lambda one: one[0].sum())
    outline = max(measure.find_contours(np.pad(piece, 1).astype(float), 0.5), key=len)[::2] - 1
    to_world = bridge.ijkToWorldMatrix(volume)
    path = [(to_world @ [x, y, number, 1])[:3] for y, x in outline]
    window.press_key(qt.Qt.Key_C)
    window.draw_in_view("Red", path, qt.Qt.NoModifier if adds else qt.Qt.ControlModifier)
    window.wait_until(lambda: not window.widget.worker.isBusy(), 60)
    window.press_key(qt.Qt.Key_Escape)
    return True


def _pieces(mask: np.ndarray) -> list[np.ndarray]:
    labels, count = ndimage.label(mask)
    return [labels == one for one in range(1, count + 1)]
