"""Placing points and boxes, how many there are, clearing them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from SAMLungSegLib.errors import SAMLungSegError
from SAMLungSegLib.models.registry import MODELS
from SAMLungSegSlicer.context import Context, setEnabledWithReason
from SAMLungSegSlicer.panels.escape import EscapeKey
from SAMLungSegSlicer.panels.promptremarks import promptRemarks
from SAMLungSegSlicer.parameters import SAMLungSegParameterNode, boxNodes, viewNames
from SAMLungSegSlicer.promptnodes import (
    PROMPT_EVENTS,
    VOLUME_EVENTS,
    clearPrompts,
    countPoints,
    ensurePoints,
    firstViewOf,
    isPlaced,
    isWaiting,
    newBox,
    removeLast,
    removeUnplacedBoxes,
    thinToSlice,
    viewOf,
)
from SAMLungSegSlicer.watching import Watched, Watcher

_MOVED = (slicer.vtkMRMLMarkupsNode.PointModifiedEvent,)
_PLACED = (slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent,)


class PromptsPanel(Watcher):
    """Three rows: positive points, negative points, boxes. Their nodes do not exist before they are needed."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context
        self._handledIn: str | None = None  # the markup itself no longer says it when it is placed
        self._escape = EscapeKey(self._stopPlacing)
        ui = context.ui
        ui.positiveButton.connect("clicked(bool)", self.onPlacePositive)
        ui.negativeButton.connect("clicked(bool)", self.onPlaceNegative)
        ui.boxButton.connect("clicked(bool)", self.onPlaceBox)
        ui.clearButton.connect("clicked(bool)", self.onClear)
        ui.positiveLastButton.connect("clicked(bool)", self.onRemovePositive)
        ui.negativeLastButton.connect("clicked(bool)", self.onRemoveNegative)
        ui.boxLastButton.connect("clicked(bool)", self.onRemoveBox)
        ui.placeWidgets.visible = False  # they do the placing; their buttons work only once there is a node
        kind = slicer.qSlicerMarkupsPlaceWidget
        ui.positivePlaceWidget.placeMultipleMarkups = kind.ForcePlaceMultipleMarkups
        ui.negativePlaceWidget.placeMultipleMarkups = kind.ForcePlaceMultipleMarkups
        ui.boxPlaceWidget.placeMultipleMarkups = kind.ForcePlaceSingleMarkup
        ui.positivePlaceWidget.connect("activeMarkupsPlaceModeChanged(bool)", self._onPlacingPositive)
        ui.negativePlaceWidget.connect("activeMarkupsPlaceModeChanged(bool)", self._onPlacingNegative)
        ui.boxPlaceWidget.connect("activeMarkupsPlaceModeChanged(bool)", self._onPlacingBox)

    def exit(self) -> None:
        """Stop placing and watching."""
        self._stopPlacing()
        self._escape.listen(False)
        self.watch()

    def refresh(self) -> None:
        """Counts and buttons; follows nodes that are new or gone."""
        parameters, ui = self._context.parameters, self._context.ui
        if parameters is None:
            self.watch()
            for placeWidget in self._placeWidgets():
                placeWidget.setCurrentNode(None)
            return
        prompts = [parameters.positivePoints, parameters.negativePoints, *boxNodes(parameters)]
        self.watch(
            Watched(parameters.inputVolume, VOLUME_EVENTS, self._onPrompt),
            *(Watched(node, PROMPT_EVENTS, self._onPrompt) for node in prompts),
            *(Watched(node, _MOVED, self._onMoved) for node in prompts),
            *(Watched(node, _PLACED, self._onPlaced) for node in prompts),
        )
        _show(ui.positivePlaceWidget, parameters.positivePoints)
        _show(ui.negativePlaceWidget, parameters.negativePoints)
        self._count()
        noBox = "" if parameters.inputVolume else _("Choose a volume first.")
        noPoint = noBox
        if not MODELS[parameters.model].capabilities.accepts("points"):
            noPoint = noBox or _("This model accepts boxes only; choose another one to place points.")
        setEnabledWithReason(
            ui.positiveButton, noPoint, _("Click on lung that is missing; Esc or this button ends it. (Q)")
        )
        setEnabledWithReason(
            ui.negativeButton, noPoint, _("Click on what is wrongly taken for lung; Esc or this button ends it. (W)")
        )
        box = _("Click two corners of a box around one lung; Esc or this button gives it up. It can be dragged. (E)")
        setEnabledWithReason(ui.boxButton, noBox, box)

    def onPlacePositive(self, isWanted: bool = True) -> None:
        """Start or stop placing points in lung."""
        self._place(self._context.ui.positivePlaceWidget, isWanted, positive=True)

    def onPlaceNegative(self, isWanted: bool = True) -> None:
        """Start or stop placing points in what is not lung."""
        self._place(self._context.ui.negativePlaceWidget, isWanted, positive=False)

    def onPlaceBox(self, isWanted: bool = True) -> None:
        """Start placing one more box, or give it up."""
        with self._context.guarded():
            placeWidget = self._context.ui.boxPlaceWidget
            if isWanted:
                self._handledIn = None  # a box that is placed in a 3D view keeps its thickness
                placeWidget.setCurrentNode(newBox(self._context.parameters))
            placeWidget.setPlaceModeEnabled(isWanted)

    def onRemovePositive(self) -> None:
        """Remove the positive point or scribble that came last."""
        removeLast(self._context.parameters.positivePoints)

    def onRemoveNegative(self) -> None:
        """Remove the negative point or scribble that came last."""
        removeLast(self._context.parameters.negativePoints)

    def onRemoveBox(self) -> None:
        """Remove the box that was added last."""
        with self._context.guarded():
            slicer.mrmlScene.RemoveNode(boxNodes(self._context.parameters)[-1])

    def onClear(self) -> None:
        """Remove all prompts."""
        with self._context.guarded():
            clearPrompts(self._context.parameters)
        self._context.changed()

    def _place(self, placeWidget: Any, isWanted: bool, positive: bool) -> None:
        with self._context.guarded():
            if isWanted:
                placeWidget.setCurrentNode(ensurePoints(self._context.parameters, positive))
            placeWidget.setPlaceModeEnabled(isWanted)

    def _stopPlacing(self) -> None:
        for placeWidget in self._placeWidgets():
            if placeWidget.placeModeEnabled:
                placeWidget.setPlaceModeEnabled(False)

    def _onPlacingPositive(self, isOn: bool) -> None:
        self._onPlacing(self._context.ui.positiveButton, isOn)

    def _onPlacingNegative(self, isOn: bool) -> None:
        self._onPlacing(self._context.ui.negativeButton, isOn)

    def _onPlacing(self, button: Any, isOn: bool) -> None:
        button.checked = isOn
        self._escape.listen(any(placeWidget.placeModeEnabled for placeWidget in self._placeWidgets()))

    def _onPlacingBox(self, isOn: bool) -> None:
        self._onPlacing(self._context.ui.boxButton, isOn)
        if not isOn:
            qt.QTimer.singleShot(0, self._afterPlacingBox)  # the view still works on the node that may go

    def _afterPlacingBox(self) -> None:
        placeWidget = self._context.ui.boxPlaceWidget
        if self._context.parameters is None or placeWidget.placeModeEnabled:
            return
        parameters, boxNode = self._context.parameters, placeWidget.currentNode()
        placeWidget.setCurrentNode(None)
        with self._context.guarded():
            view = slicer.mrmlScene.GetSingletonNode(self._handledIn or "", "vtkMRMLSliceNode")
            if boxNode is not None and isPlaced(boxNode) and view is not None and parameters.inputVolume is not None:
                thinToSlice(boxNode, view, parameters.inputVolume)
        removeUnplacedBoxes(parameters)
        self._context.changed()

    def _onPrompt(self, _node: Any, _event: object) -> None:
        self._count()

    def _onMoved(self, node: Any, _event: object) -> None:
        self._handledIn = viewOf(node) or self._handledIn
        if not isWaiting(node):
            self._workIn(viewOf(node))

    def _onPlaced(self, node: Any, _event: object) -> None:
        parameters = self._context.parameters
        if parameters is None or node.IsA("vtkMRMLMarkupsROINode"):
            self._workIn(self._handledIn)
        else:
            views = [self._handledIn, parameters.sliceView, *viewNames()]
            self._workIn(firstViewOf(node, views, parameters.inputVolume))
            self._handledIn = None

    def _workIn(self, view: str | None) -> None:
        """The view of a prompt is where it was placed or dragged, whichever the mouse crosses on its way there."""
        parameters = self._context.parameters
        if parameters is not None and view != parameters.sliceView and view in viewNames():
            parameters.sliceView = view

    def _count(self) -> None:
        parameters, ui = self._context.parameters, self._context.ui
        if parameters is None:
            return
        counts = [countPoints(parameters.positivePoints), countPoints(parameters.negativePoints)]
        boxes = sum(isPlaced(node) for node in boxNodes(parameters))
        for label, count in zip((ui.positiveCountLabel, ui.negativeCountLabel), counts, strict=True):
            label.text = _("1 point") if count == 1 else _("{count} points").format(count=count)
        ui.boxCountLabel.text = _("1 box") if boxes == 1 else _("{count} boxes").format(count=boxes)
        nothing = _("There is none.")
        for button, count in zip((ui.positiveLastButton, ui.negativeLastButton), counts, strict=True):
            setEnabledWithReason(button, "" if count else nothing, _("Remove the point or scribble that came last."))
        setEnabledWithReason(ui.boxLastButton, "" if boxes else nothing, _("Remove the box that was added last."))
        reason = "" if any(counts) or boxes else _("There are no prompts.")
        setEnabledWithReason(ui.clearButton, reason, _("Remove all points and boxes; the segmentation stays as it is."))
        self._remark(parameters)

    def _remark(self, parameters: SAMLungSegParameterNode) -> None:
        label, remarks = self._context.ui.promptsRemarkLabel, []
        with suppress(SAMLungSegError):  # there are no voxels; an action says so
            remarks = promptRemarks(parameters)
        label.text = "\n".join(f"⚠ {remark}" for remark in remarks)
        label.visible = bool(remarks)

    def _placeWidgets(self) -> tuple[Any, Any, Any]:
        ui = self._context.ui
        return ui.positivePlaceWidget, ui.negativePlaceWidget, ui.boxPlaceWidget


def _show(placeWidget: Any, node: slicer.vtkMRMLMarkupsFiducialNode | None) -> None:
    if placeWidget.currentNode() is not node:
        placeWidget.setCurrentNode(node)
