"""The module's panel: puts its parts together and follows the scene's life."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
import vtk
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from SAMLungSegSlicer import forgetImports
from SAMLungSegSlicer.arrivals import Arrivals, isImage
from SAMLungSegSlicer.belongings import followVolume
from SAMLungSegSlicer.bridge.history import forgetHistories
from SAMLungSegSlicer.context import Context
from SAMLungSegSlicer.jobs import releaseMemory
from SAMLungSegSlicer.live.prefetch import AheadController
from SAMLungSegSlicer.live.preview import PreviewController
from SAMLungSegSlicer.live.propagation import PropagationController
from SAMLungSegSlicer.logic import SAMLungSegLogic
from SAMLungSegSlicer.panels.advanced import AdvancedPanel
from SAMLungSegSlicer.panels.cardiothoracic import CardiothoracicPanel
from SAMLungSegSlicer.panels.comparison import ComparisonPanel
from SAMLungSegSlicer.panels.correct import CorrectPanel
from SAMLungSegSlicer.panels.draw import DrawPanel
from SAMLungSegSlicer.panels.evaluate import EvaluatePanel
from SAMLungSegSlicer.panels.folder import FolderPanel
from SAMLungSegSlicer.panels.model import ModelPanel
from SAMLungSegSlicer.panels.prompts import PromptsPanel
from SAMLungSegSlicer.panels.results import ResultsPanel
from SAMLungSegSlicer.panels.segment import SegmentPanel
from SAMLungSegSlicer.panels.shortcuts import Shortcuts, pressing
from SAMLungSegSlicer.panels.slices import SlicesPanel
from SAMLungSegSlicer.panels.tuning import TuningPanel
from SAMLungSegSlicer.panels.view import ViewPanel
from SAMLungSegSlicer.panels.volumes import VolumesPanel
from SAMLungSegSlicer.parameters import SAMLungSegParameterNode, forgetUnknownChoices
from SAMLungSegSlicer.runtime.worker import InferenceWorker
from SAMLungSegSlicer.sessions import forgetSessions


class SAMLungSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """What the user sees. The sections of the panel are in `panels`, the settings in `parameters`."""

    def __init__(self, parent: Any = None) -> None:
        """Nothing is loaded here: Slicer calls `setup` when the module is opened."""
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: SAMLungSegLogic | None = None
        self.worker: InferenceWorker | None = None
        self.preview: PreviewController | None = None
        self.ahead: AheadController | None = None
        self.propagation: PropagationController | None = None
        self.slices: SlicesPanel | None = None
        self.shortcuts: Shortcuts | None = None
        self._context: Context | None = None
        self._guiTag: int | None = None
        self._isRefreshing = False

    def setup(self) -> None:
        """Build the panel; called once, when the module is opened for the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/SAMLungSeg.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)

        self.logic = SAMLungSegLogic()
        self.worker = InferenceWorker()
        self._context = Context(self.ui, self.logic, self.worker, self.refresh)
        self._context.say()
        self._arrivals = Arrivals(self._context)
        self._model = ModelPanel(self._context)
        self.preview = PreviewController(self._context, self._model.unavailableReason)
        self.ahead = AheadController(self._context, self.preview, self._model.unavailableReason)
        self._prompts = PromptsPanel(self._context)
        self._draw = DrawPanel(self._context, self.preview)
        self._evaluate = EvaluatePanel(self._context)
        self.propagation = PropagationController(self._context)
        self.slices = SlicesPanel(self._context, self.propagation)
        self.shortcuts = Shortcuts(self._keys())
        self._heart = CardiothoracicPanel(self._context)
        self._comparison = ComparisonPanel(self._context, self._model)
        self._panels = (
            ViewPanel(self._context),
            AdvancedPanel(self._context),
            self._model,
            self._prompts,
            self._draw,
            SegmentPanel(self._context, self._model, self.preview),
            CorrectPanel(self._context, self.preview, self.propagation),
            self.slices,
            ResultsPanel(self._context),
            VolumesPanel(self._context),
            self._comparison,
            self._evaluate,
            self._heart,
            FolderPanel(self._context, self._model),
            TuningPanel(self._context, self._model),
        )

        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self._onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self._onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self._onSceneEndImport)
        self.addObserver(scene, scene.NodeAddedEvent, self._onNodeAdded)
        self.addObserver(scene, scene.NodeRemovedEvent, self._onNodeRemoved)
        self.initializeParameterNode()

    def enter(self) -> None:
        """Called each time the user opens the module."""
        self.initializeParameterNode()
        self._model.enter()
        self.preview.enter()
        self._arrivals.refresh()
        self.refresh()

    def exit(self) -> None:
        """Called each time the user opens another module; what runs goes on, and what was drawn is not lost."""
        with self._context.guarded():
            self.preview.settle()
        self.setParameterNode(None)

    def cleanup(self) -> None:
        """Called when the application closes or the module is reloaded."""
        if self._context is None:
            return
        self.setParameterNode(None)
        self.worker.stop()
        self._context.longWorker.stop()
        self.removeObservers()
        forgetHistories()
        forgetSessions()
        releaseMemory()

    def onReload(self) -> None:
        """The developer's Reload button: the module's packages are read from their files again as well."""
        forgetImports()
        ScriptedLoadableModuleWidget.onReload(self)

    def initializeParameterNode(self) -> None:
        """Take the scene's parameters, and the volume that is shown where none is chosen yet."""
        parameters = self.logic.getParameterNode()
        forgetUnknownChoices(parameters)
        if parameters.inputVolume is None:
            parameters.inputVolume = shownVolume()
        self.setParameterNode(parameters)

    def setParameterNode(self, parameters: SAMLungSegParameterNode | None) -> None:
        """Show and follow other parameters; None shows and follows nothing."""
        old = self._context.parameters
        if old is not None:
            old.disconnectGui(self._guiTag)
            self.removeObserver(old.parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParameters)
        self._context.parameters = parameters
        if parameters is None:
            self._prompts.exit()
            self._arrivals.exit()
            self._draw.exit()
            self.preview.exit()
            self.ahead.exit()
            self.propagation.exit()
            self.shortcuts.listen(False)
        else:
            self.shortcuts.listen(True)
            self._guiTag = parameters.connectGui(self.ui)
            self.addObserver(parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParameters)
        self.refresh()

    def refresh(self) -> None:
        """Let every part show how things are."""
        if self._isRefreshing:
            return
        self._isRefreshing = True
        try:
            if self._context.parameters is not None:
                followVolume(self._context.parameters)
            self.propagation.refresh()
            for panel in self._panels:
                panel.refresh()
            self.preview.refresh()
            self.ahead.refresh()
        finally:
            self._isRefreshing = False

    def _keys(self) -> dict[str, Callable[[], None]]:
        ui = self.ui
        buttons = {
            "Q": ui.positiveButton,
            "W": ui.negativeButton,
            "E": ui.boxButton,
            "P": ui.brushButton,
            "C": ui.lassoButton,
            "S": ui.scribbleButton,
            "A": ui.acceptButton,
            "D": ui.discardButton,
            "Z": ui.undoButton,
            "Y": ui.redoButton,
            "L": ui.lockButton,
            "X": ui.propagateButton,
            "N": ui.nextDoubtfulButton,
        }
        keys = {key: pressing(button) for key, button in buttons.items()}
        return keys | {"Shift+N": lambda: self.slices.onNextDoubtful(-1)}

    def _onParameters(self, _node: Any, _event: object) -> None:
        self.refresh()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeAdded(self, _scene: Any, _event: object, node: Any) -> None:
        self._arrivals.add(node)
        if self._context.parameters is not None and node.IsA("vtkMRMLSliceNode"):  # another layout was chosen
            self.refresh()

    def _onNodeRemoved(self, _scene: Any, _event: object) -> None:
        if self._context.parameters is not None and not slicer.mrmlScene.IsClosing():
            self.refresh()

    def _onSceneStartClose(self, _scene: Any, _event: object) -> None:
        self.worker.cancel()
        self.setParameterNode(None)
        self._evaluate.forget()
        self._heart.forget()
        self._comparison.forget()
        self._arrivals.forget()
        self._context.say()
        forgetHistories()
        forgetSessions()
        releaseMemory()

    def _onSceneEndClose(self, _scene: Any, _event: object) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()

    def _onSceneEndImport(self, _scene: Any, _event: object) -> None:
        if self.parent.isEntered:
            self.initializeParameterNode()


def shownVolume() -> slicer.vtkMRMLScalarVolumeNode | None:
    """The volume in the background of the slice views, else the first one of the scene; never a labelmap."""
    scene = slicer.mrmlScene
    shown = [
        scene.GetNodeByID(node.GetBackgroundVolumeID() or "")
        for node in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    ]
    volumes = [*shown, *slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]
    return next(filter(isImage, volumes), None)
