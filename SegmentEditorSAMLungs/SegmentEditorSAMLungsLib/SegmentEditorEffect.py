"""The effect 'SAM lungs' as the Segment Editor instantiates it, by the path of this file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
import slicer
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect
from slicer.i18n import tr as _

from SAMLungSegSlicer.effect.lungs import LungsEffect


class SegmentEditorEffect(AbstractScriptedSegmentEditorEffect):
    """Passes on to `LungsEffect` what Slicer calls."""

    def __init__(self, scriptedEffect: Any) -> None:
        scriptedEffect.name = "SAM lungs"  # by which scripts find it; not translated
        scriptedEffect.title = _("SAM lungs")
        scriptedEffect.perSegment = False  # it writes both lungs
        scriptedEffect.requireSegments = False  # it makes them
        AbstractScriptedSegmentEditorEffect.__init__(self, scriptedEffect)
        self.lungs = LungsEffect(scriptedEffect)

    def clone(self) -> Any:
        """Another one, of the same source."""
        import qSlicerSegmentationsEditorEffectsPythonQt as effects

        clonedEffect = effects.qSlicerSegmentEditorScriptedEffect(None)
        clonedEffect.setPythonSource(Path(__file__).as_posix())
        return clonedEffect

    def icon(self) -> qt.QIcon:
        """Of the effect's button."""
        return qt.QIcon(str(Path(__file__).parent / "SegmentEditorEffect.png"))

    def helpText(self) -> str:
        """Shown when the effect is chosen."""
        return _(
            "Right and left lung of the slice, found from points, boxes and scribbles, or drawn. What Apply writes is "
            "previewed; only the slice changes. Ctrl makes a point or stroke say what is not lung. Whole volumes, "
            "models and settings are in the module SAMLungSeg, which shares prompts and previews with this effect."
        )

    def setupOptionsFrame(self) -> None:
        """Called once."""
        self.lungs.setupOptionsFrame()

    def activate(self) -> None:
        """The user has chosen the effect."""
        self.lungs.activate()

    def deactivate(self) -> None:
        """The user has chosen another one."""
        self.lungs.deactivate()

    def cleanup(self) -> None:
        """The editor goes."""
        self.lungs.cleanup()

    def createCursor(self, _widget: Any) -> Any:
        """The application's own: the pencil shows what it does."""
        return slicer.util.mainWindow().cursor

    def setMRMLDefaults(self) -> None:
        """Its parameters are the module's."""

    def updateGUIFromMRML(self) -> None:
        """The editor's parameters have changed: another volume or segmentation, perhaps."""
        self.lungs.updateGUIFromMRML()

    def updateMRMLFromGUI(self) -> None:
        """Its parameters are the module's."""

    def sourceVolumeNodeChanged(self) -> None:
        """Another volume is edited."""
        self.updateGUIFromMRML()

    def processInteractionEvents(self, _interactor: Any, eventId: int, viewWidget: Any) -> bool:
        """A mouse or key event in a view; whether nobody else should act on it."""
        return self.lungs.processInteractionEvents(eventId, viewWidget)
