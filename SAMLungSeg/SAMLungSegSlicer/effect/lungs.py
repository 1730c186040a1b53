"""What the effect does: the editor's volume and segmentation become the module's, drawn lines prompts and strokes."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from SAMLungSegSlicer.belongings import followVolume
from SAMLungSegSlicer.bridge.history import forgetHistories
from SAMLungSegSlicer.context import Context, keptParts
from SAMLungSegSlicer.effect.options import EffectOptions
from SAMLungSegSlicer.effect.preview import EffectPreview
from SAMLungSegSlicer.jobs import releaseMemory
from SAMLungSegSlicer.live.lines import applyLine
from SAMLungSegSlicer.live.pencil import EVENTS, Kind, Line, Pencil, Tip
from SAMLungSegSlicer.logic import SAMLungSegLogic
from SAMLungSegSlicer.parameters import SAMLungSegParameterNode, forgetUnknownChoices
from SAMLungSegSlicer.promptnodes import clearPrompts, hasPrompts
from SAMLungSegSlicer.runtime import dependencies
from SAMLungSegSlicer.runtime.worker import InferenceWorker
from SAMLungSegSlicer.sessions import followUndo, forgetSessions

_PROMPTING = ("point", "scribble", "box")


class LungsEffect(VTKObservationMixin):
    """Behind the class that Slicer instantiates; its methods are called by that class's of the same name."""

    def __init__(self, scriptedEffect: Any) -> None:
        super().__init__()
        self._scriptedEffect = scriptedEffect
        self._options: EffectOptions | None = None
        self._context: Context | None = None
        self._preview: EffectPreview | None = None
        self._kind: Kind | None = None
        self._pencils: dict[str, Pencil] = {}  # by layout name of the slice view
        self._isRefreshing = False

    def setupOptionsFrame(self) -> None:
        """Make the widgets."""
        actions = {"apply": self.apply, "discard": self.discard, "clear": self.clear}
        self._options = EffectOptions(self._scriptedEffect, self.use, actions, self._onOptions)

    def activate(self) -> None:
        """The user has chosen the effect: work on what the editor works on."""
        if self._context is not None:
            return
        logic = SAMLungSegLogic()
        self._context = Context(self._options, logic, InferenceWorker(), self.refresh)
        self._context.say()
        self._preview = EffectPreview(self._context, self._scriptedEffect)
        parameters = logic.getParameterNode()
        forgetUnknownChoices(parameters)
        self._context.parameters = parameters
        self.follow()
        self._preview.enter()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self._onSceneStartClose)
        self.addObserver(parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParameters)
        self.refresh()

    def deactivate(self) -> None:
        """The user has chosen another effect; what was drawn is written, prompts stay in the scene."""
        if self._context is None:
            return
        with self._context.guarded():
            self._preview.settle()
        self._leave()

    def cleanup(self) -> None:
        """The effect goes for good."""
        self.deactivate()
        if self._options is not None:
            self._options.cleanup()
            self._options = None

    def follow(self) -> None:
        """Take the editor's volume and segmentation."""
        editorNode = self._scriptedEffect.parameterSetNode()
        if self._context is None or editorNode is None:
            return
        parameters = self._context.parameters
        segmentationNode = editorNode.GetSegmentationNode()
        parameters.inputVolume = editorNode.GetSourceVolumeNode()
        followVolume(parameters)
        parameters.outputSegmentation = segmentationNode
        self.removeObservers(self._onSegments)
        if segmentationNode is not None:  # all that the editor's undo says
            self.addObserver(segmentationNode, slicer.vtkSegmentation.SegmentModified, self._onSegments)

    def updateGUIFromMRML(self) -> None:
        """The editor's parameters have changed: volume or segmentation, perhaps."""
        self.follow()
        self.refresh()

    def use(self, kind: Kind | None) -> None:
        """Draw with a tool in the slice views from now on; None for none."""
        context = self._context
        if context is None:  # the scene was closed
            return
        if kind in _PROMPTING:
            with context.guarded():
                if not context.hasConsent():
                    kind = None
                elif not dependencies.ensure(context.segmenting):
                    context.say(_("Nothing was installed, so nothing can be predicted; brush and lasso work."))
                    kind = None
                else:
                    self._preview.allow()
        self._kind = kind
        for pencil in self._pencils.values():
            pencil.cancel()
        self.refresh()

    def processInteractionEvents(self, eventId: int, viewWidget: Any) -> bool:
        """Draw, in a slice view while a tool is on; whether nobody else should act on the event."""
        name = vtk.vtkCommand.GetStringFromEventId(eventId)
        if self._context is None or self._kind is None or name not in EVENTS or not hasattr(viewWidget, "sliceView"):
            return False
        if self._context.parameters.inputVolume is None:
            return False
        view = viewWidget.sliceView()
        pencil = self._pencils.setdefault(view.mrmlSliceNode().GetLayoutName(), Pencil(view, self._onDrawn))
        pencil.use(Tip(self._kind, self._options.radiusMm, self._options.erases))
        return pencil.handle(name)

    def apply(self) -> None:
        """Write the preview."""
        if self._context is None:
            return
        with self._context.guarded():
            if not self._scriptedEffect.confirmCurrentSegmentVisible():
                return
            kept = self._preview.accept()
            self._context.say(" ".join([_("The slice is written."), *keptParts(kept)]))
        self.refresh()

    def discard(self) -> None:
        """Hide the preview."""
        if self._context is None:
            return
        with self._context.guarded():
            self._preview.discard()
        self.refresh()

    def clear(self) -> None:
        """Remove all prompts."""
        if self._context is None:
            return
        with self._context.guarded():
            clearPrompts(self._context.parameters)
        self.refresh()

    def refresh(self) -> None:
        """Show how things are, and predict where something has changed."""
        if self._context is None or self._isRefreshing:
            return
        self._isRefreshing = True
        try:
            parameters = self._context.parameters
            prompts = hasPrompts(parameters)
            self._options.show(self._kind, parameters.brushRadiusMm, self._preview.isShown, prompts)
            self._preview.refresh()
        finally:
            self._isRefreshing = False

    def _leave(self) -> None:
        self.use(None)
        self._options.show(None, self._options.radiusMm, isShown=False, hasPrompts=False)
        self.removeObservers()
        self._preview.exit()
        self._context.worker.stop()
        self._context = self._preview = None

    def _onSceneStartClose(self, _scene: Any, _event: object) -> None:
        self._leave()
        forgetHistories()
        forgetSessions()
        releaseMemory()

    @property
    def parameters(self) -> SAMLungSegParameterNode | None:
        """The module's, which the panel shows as well; None while the effect is not active."""
        return self._context and self._context.parameters

    @property
    def preview(self) -> EffectPreview | None:
        """What is shown; None while the effect is not active."""
        return self._preview

    def _onDrawn(self, line: Line) -> None:
        with self._context.guarded():
            applyLine(line, self._context.parameters, self._preview)
        self.refresh()

    def _onOptions(self) -> None:
        if self._context is not None:
            self._context.parameters.brushRadiusMm = self._options.radiusMm

    def _onParameters(self, _node: Any, _event: object) -> None:
        self.refresh()

    def _onSegments(self, _segmentation: Any, _event: object) -> None:
        parameters = self._context.parameters
        with self._context.guarded():
            if parameters.inputVolume is None or self._preview.isWriting:
                return
            if followUndo(parameters.inputVolume, parameters.outputSegmentation):
                self._preview.reactivate()
