"""A hidden module that gives the Segment Editor the effect 'SAM lungs'; the work is done in SAMLungSegSlicer.effect."""

from __future__ import annotations

import sys
from pathlib import Path

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

_MODULE = Path(__file__).resolve().parents[1] / "SAMLungSeg"
if (_MODULE / "SAMLungSeg.py").is_file() and str(_MODULE) not in sys.path:
    sys.path.insert(0, str(_MODULE))  # run from source; an installed extension has it beside this script


class SegmentEditorSAMLungs(ScriptedLoadableModule):
    """What Slicer reads about the module."""

    def __init__(self, parent: slicer.qSlicerScriptedLoadableModule) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("SegmentEditorSAMLungs")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = ["Segmentations", "SAMLungSeg"]
        parent.contributors = ["SAMLungSeg contributors"]
        parent.hidden = True
        parent.helpText = _("This hidden module registers the Segment Editor effect 'SAM lungs'.")
        parent.acknowledgementText = _("Part of SAMLungSeg.")
        slicer.app.connect("startupCompleted()", registerEffect)


def registerEffect() -> None:
    """Make the effect and have the Segment Editor's factory know it."""
    import qSlicerSegmentationsEditorEffectsPythonQt as effects

    import SAMLungSeg  # noqa: F401  which finds the library

    effect = effects.qSlicerSegmentEditorScriptedEffect(None)
    effect.setPythonSource((Path(__file__).parent / "SegmentEditorSAMLungsLib/SegmentEditorEffect.py").as_posix())
    effect.self().register()
