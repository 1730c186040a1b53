"""Pictures of the module for a person to look at: ``python -m bench.screenshots FOLDER [--scale 1.5] [--dark]``.

Needs ``Testing`` and ``SAMLungSeg`` on the path (PYTHONPATH). The pictures are the test bench's, not Slicer's.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import bench

logger = logging.getLogger(__name__)

PATIENCE_S = 300


@contextmanager
def chdir(folder: str) -> Iterator[None]:
    """Work in a folder, as `contextlib.chdir` of Python 3.11; pictures show paths without a machine's folders."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def main(arguments: list[str] | None = None) -> None:
    """Draws every picture into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the pictures are written")
    parser.add_argument("--scale", type=float, default=1.0, help="of the screen, such as 1.5 for 150 %%")
    parser.add_argument("--font", type=float, default=1.0, help="size of letters, by the usual one")
    parser.add_argument("--dark", action="store_true", help="with a dark palette, as Slicer's dark style has one")
    options = parser.parse_args(arguments)
    folder = options.folder
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    os.environ["QT_SCALE_FACTOR"] = f"{options.scale:g}"  # read when Qt starts
    application = bench.start()
    look(application.qt, options.font, dark=options.dark)
    for story in (ct_story, volume_story, xray_story, folder_story):
        application.reset()
        story(folder)


def look(qt_application: Any, font: float = 1.0, *, dark: bool = False) -> None:
    """Has the application draw with larger letters, and light on dark."""
    letters = qt_application.font()
    letters.setPointSizeF(letters.pointSizeF() * font)
    qt_application.setFont(letters)
    if not dark:
        return
    import qt

    roles, palette = qt.QPalette, qt.QPalette()
    text, faint = qt.QColor(255, 255, 255), qt.QColor(125, 125, 125)
    for role, grey in ((roles.Window, 50), (roles.Base, 35), (roles.AlternateBase, 50), (roles.Button, 50)):
        palette.setColor(role, qt.QColor(grey, grey, grey))
    for role in (roles.WindowText, roles.Text, roles.ButtonText, roles.ToolTipText, roles.HighlightedText):
        palette.setColor(role, text)
    for role in (roles.WindowText, roles.Text, roles.ButtonText):
        palette.setColor(roles.Disabled, role, faint)
    palette.setColor(roles.Highlight, qt.QColor(61, 138, 199))
    palette.setColor(roles.Link, qt.QColor(120, 180, 240))
    qt_application.setStyle("Fusion")
    qt_application.setPalette(palette)


def ct_story(folder: Path) -> None:
    """A CT: opened, segmented, compared with the truth, corrected by a point."""
    volume, truth = _phantom("loadPhantomCT")
    window = _open()
    _grab(window, folder / "1-ct-opened.png")
    window.click(window.ui.segmentVolumeButton)
    _wait(window)
    window.wait(0.5)  # the strip and the sizes are read a little after the last edit
    _wait(window)
    _grab(window, folder / "2-ct-segmented.png")
    window.choose(window.ui.referenceSelector, truth)
    window.click(window.ui.evaluateButton)
    _wait(window)
    _grab(window, folder / "3-ct-evaluated.png")
    lung_ras = _centre(truth, volume, 1)
    window.jump(lung_ras)
    window.click(window.ui.positiveButton)
    window.click_in_view("Red", lung_ras)
    _wait(window)
    _grab(window, folder / "4-ct-point-preview.png")
    window.close()


def volume_story(folder: Path) -> None:
    """A CT with a consolidated lung: followed through the strip, corrected in two slices, propagated."""
    import qt
    import slicer

    from bench.person import lasso_largest_error
    from SAMLungSegLib.phantom import chest_ct

    phantom = chest_ct(seed=5, size_kji=(56, 144, 144), spacing_mm=(5.0, 2.6, 2.6))
    volume = slicer.util.addVolumeFromArray(phantom.hu_kji, ijkToRAS=phantom.ijk_to_ras, name="Phantom CT")
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    volume.GetDisplayNode().AutoWindowLevelOff()
    volume.GetDisplayNode().SetWindowLevel(1500, -500)
    window = _open()
    window.click(window.ui.segmentVolumeButton)
    _wait(window)
    for turn in range(2):
        window.wait(0.5)  # the strip reads the slices a little after the last edit
        _wait(window)
        window.press_key(qt.Qt.Key_N)
        if not turn:
            _grab(window, folder / "5-doubtful-slice.png")
        for _stroke in range(2):
            lasso_largest_error(window, volume, phantom.labelmap_kji, _slice_number(window, volume))
        if not turn:
            _grab(window, folder / "6-drawn.png")
        window.press_key(qt.Qt.Key_A)
    window.press_key(qt.Qt.Key_X)
    _wait(window)
    _grab(window, folder / "7-propagation.png")
    window.press_key(qt.Qt.Key_A)
    window.wait(0.5)
    _wait(window)
    _grab(window, folder / "8-propagated.png")
    window.close()


def _slice_number(window: Any, volume: Any) -> int:
    """Of the axial slice that the Red view shows, along K."""
    offset = window.view("Red").mrmlSliceNode().GetSliceToRAS().GetElement(2, 3)
    bridge = importlib.import_module("SAMLungSegSlicer.bridge")
    return round(float((np.linalg.inv(bridge.ijkToWorldMatrix(volume)) @ [0, 0, offset, 1])[2]))


def xray_story(folder: Path) -> None:
    """A chest X-ray: opened, segmented, heart and chest measured."""
    _phantom("loadPhantomXray")
    window = _open()
    window.click(window.ui.segmentVolumeButton)
    _wait(window)
    _grab(window, folder / "9-xray-segmented.png")
    window.click(window.ui.cardiothoracicButton)
    _wait(window)
    _grab(window, folder / "10-xray-cardiothoracic-ratio.png")
    window.close()


def folder_story(folder: Path) -> None:
    """Generated X-rays in a folder, segmented into files."""
    import SimpleITK as sitk

    from SAMLungSegLib.phantom import chest_ct, chest_xray

    _phantom("loadPhantomXray")
    window = _open()
    ui = window.ui
    for section in (ui.inputsCollapsibleButton, ui.promptsCollapsibleButton, ui.resultsCollapsibleButton):
        section.collapsed = True
    ui.folderCollapsibleButton.collapsed = False
    with TemporaryDirectory() as work, chdir(work):
        Path("scans").mkdir()
        for seed in range(4):
            picture = chest_xray(chest_ct(seed))[0]
            sitk.WriteImage(sitk.GetImageFromArray(picture), f"scans/frontal {seed + 1}.png")
        ui.folderInputPathLineEdit.currentPath, ui.folderOutputPathLineEdit.currentPath = "scans", "lungs"
        window.click(ui.folderStartButton)
        window.wait_until(lambda: "images done" in ui.folderLabel.text, PATIENCE_S)
        _grab(window, folder.absolute() / "11-folder.png")
    window.close()


def _phantom(loader: str) -> tuple[Any, Any]:
    import slicer

    sampledata = importlib.import_module("SAMLungSegSlicer.sampledata")
    volume, truth = getattr(sampledata, loader)()
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    return volume, truth


def _open() -> Any:
    from bench.window import ModuleWindow

    module = importlib.import_module("SAMLungSeg")
    return ModuleWindow(module.SAMLungSegWidget, module.__file__, size=(1280, 960))


def _wait(window: Any) -> None:
    window.wait(0.2)  # a preview starts a little after the prompt
    window.wait_until(lambda: not window.widget.worker.isBusy(), PATIENCE_S)


def _centre(segmentation: Any, volume: Any, label: int) -> np.ndarray:
    """A position (mm, RAS) in the middle of one lung's largest slice."""
    import slicer
    import vtk

    bridge = importlib.import_module("SAMLungSegSlicer.bridge")
    lung_kji = bridge.labelmapFromNode(segmentation, volume).array_kji == label
    k = int(lung_kji.sum(axis=(1, 2)).argmax())
    j, i = np.argwhere(lung_kji[k]).mean(axis=0)
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return (slicer.util.arrayFromVTKMatrix(matrix) @ [i, j, k, 1])[:3]


def _grab(window: Any, path: Path) -> None:
    logger.info("%s", window.grab(path))


if __name__ == "__main__":
    main()
