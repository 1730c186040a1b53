"""SAMLungSeg in 3D Slicer: what Slicer looks for in the module's script. The work is done in SAMLungSegSlicer."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

_REPOSITORY = Path(__file__).resolve().parents[1]
if (_REPOSITORY / "SAMLungSegLib" / "__init__.py").is_file() and sys.path[:1] != [str(_REPOSITORY)]:
    sys.path.insert(0, str(_REPOSITORY))  # run from source; an installed extension has the library beside this script

from SAMLungSegSlicer.logic import SAMLungSegLogic  # noqa: E402
from SAMLungSegSlicer.sampledata import registerSampleData  # noqa: E402
from SAMLungSegSlicer.selftest import SAMLungSegTest  # noqa: E402
from SAMLungSegSlicer.widget import SAMLungSegWidget  # noqa: E402

__all__ = ["SAMLungSeg", "SAMLungSegLogic", "SAMLungSegTest", "SAMLungSegWidget", "registerSampleData"]

HOMEPAGE = "https://github.com/SAMLungSeg/SlicerSAMLungSeg#readme"


class SAMLungSeg(ScriptedLoadableModule):
    """What Slicer shows about the module."""

    def __init__(self, parent: slicer.qSlicerScriptedLoadableModule) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("SAMLungSeg")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = ["Markups", "Segmentations"]  # node classes, and the place buttons of the panel
        parent.contributors = ["SAMLungSeg contributors"]
        parent.helpText = _(
            "<p>Segments the right and the left lung on chest CT and chest X-ray: choose a volume and press "
            "<b>Segment volume</b>. Points and boxes correct the result, slice by slice, in any slice view. "
            "A bundled model works offline and without a graphics card; Segment Anything, MedSAM and weights of your "
            "own work in the same way.</p>"
            "<p>For research only: not a medical device, not for diagnosis or treatment.</p>"
            "<p>More in the {linkStart}documentation{linkEnd}.</p>"
        ).format(linkStart=f'<a href="{HOMEPAGE}">', linkEnd="</a>")
        parent.acknowledgementText = _(
            "<p>Built on 3D Slicer, PyTorch, SimpleITK, scikit-image and the prompt encoder and mask decoder of "
            "Segment Anything (Kirillov et al., 2023). If you publish results, cite the model that you used.</p>"
        )
        slicer.app.connect("startupCompleted()", registerSampleData)
        slicer.app.connect("startupCompleted()", registerSegmentStatistics)


def registerSegmentStatistics() -> None:
    """Add the numbers of lungs to Slicer's Segment Statistics, where that module is there."""
    try:
        from SegmentStatistics import SegmentStatisticsLogic
    except ImportError as error:
        logging.info("Segment Statistics is not there, and gets no lung statistics: %s", error)
        return
    from SAMLungSegSlicer.statisticsplugin import LungSegmentStatisticsPlugin

    SegmentStatisticsLogic.registerPlugin(LungSegmentStatisticsPlugin())
