"""The next patient: a volume that was loaded, and is shown, is what the panel works on."""

from __future__ import annotations

from typing import Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from SAMLungSegSlicer.context import Context
from SAMLungSegSlicer.watching import Watched, Watcher


class Arrivals(Watcher):
    """Remembers volumes that come into the scene until the view that is worked in shows them, and then chooses them.

    Volumes of a scene that is opened are none: the scene says which one is chosen.
    """

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context
        self._waiting: list[str] = []  # IDs
        self._timer = qt.QTimer()  # Slicer goes on loading after it has shown a volume
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self.refresh)

    def add(self, node: Any) -> None:
        """A node was added to the scene."""
        if isImage(node) and not slicer.mrmlScene.IsImporting() and not node.GetHideFromEditors():
            self._waiting.append(node.GetID())
            self._timer.start()

    def refresh(self) -> None:
        """Choose a volume that has come, if it is shown now."""
        parameters = self._context.parameters
        if parameters is None:
            self.watch()
            return
        chosen = parameters.inputVolume and parameters.inputVolume.GetID()
        self._waiting = [one for one in self._waiting if one != chosen and slicer.mrmlScene.GetNodeByID(one)]
        composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode") if self._waiting else []
        self.watch(*(Watched(one, (vtk.vtkCommand.ModifiedEvent,), self._onView) for one in composites))
        shown = {one.GetBackgroundVolumeID() for one in composites if one.GetLayoutName() == parameters.sliceView}
        for one in shown.intersection(self._waiting):
            parameters.inputVolume = slicer.mrmlScene.GetNodeByID(one)
            self._context.say(_("{name} is chosen.").format(name=parameters.inputVolume.GetName()))

    def exit(self) -> None:
        """Watch nothing; what comes meanwhile is remembered."""
        self._timer.stop()
        self.watch()

    def forget(self) -> None:
        """Remember nothing, as when the scene closes."""
        self._waiting.clear()
        self.exit()

    def _onView(self, _node: Any, _event: object) -> None:
        self._timer.start()


def isImage(node: Any | None) -> bool:
    """Whether a node is a volume of grey values; a labelmap is none."""
    return node is not None and node.IsA("vtkMRMLScalarVolumeNode") and not node.IsA("vtkMRMLLabelMapVolumeNode")
