"""The only place where MRML nodes become the library's types and back. Main thread only."""

from SAMLungSegSlicer.bridge.lungs import ensureLungSegments, findLungSegments, lungLabels, lungsWord, noteExtent
from SAMLungSegSlicer.bridge.markups import (
    BoxCounts,
    PointCounts,
    boxesFromRois,
    countBoxes,
    countPoints,
    pointsFromMarkups,
)
from SAMLungSegSlicer.bridge.planes import cutFromSliceNode, pixelsFromWorld, worldFromPixels
from SAMLungSegSlicer.bridge.segmentations import (
    editableCut,
    editableVoxels,
    ensureSegmentation,
    labelmapFromNode,
    noteAction,
    writeCut,
    writeLabelmap,
)
from SAMLungSegSlicer.bridge.stored import StoredLungs, readCut, stampOf, storedLungs
from SAMLungSegSlicer.bridge.tables import plotFromTable, tableFromDataFrame
from SAMLungSegSlicer.bridge.transforms import ijkToWorldMatrix
from SAMLungSegSlicer.bridge.views import jumpTo
from SAMLungSegSlicer.bridge.volumes import volumeFromNode

__all__ = [
    "BoxCounts",
    "PointCounts",
    "StoredLungs",
    "boxesFromRois",
    "countBoxes",
    "countPoints",
    "cutFromSliceNode",
    "editableCut",
    "editableVoxels",
    "ensureLungSegments",
    "ensureSegmentation",
    "findLungSegments",
    "ijkToWorldMatrix",
    "jumpTo",
    "labelmapFromNode",
    "lungLabels",
    "lungsWord",
    "noteAction",
    "noteExtent",
    "pixelsFromWorld",
    "plotFromTable",
    "pointsFromMarkups",
    "readCut",
    "stampOf",
    "storedLungs",
    "tableFromDataFrame",
    "volumeFromNode",
    "worldFromPixels",
    "writeCut",
    "writeLabelmap",
]
