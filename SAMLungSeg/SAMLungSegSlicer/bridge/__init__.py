"""The only place where MRML nodes become the library's types and back. Main thread only."""

from SAMLungSegSlicer.bridge.editable import overwrittenSegments
from SAMLungSegSlicer.bridge.layers import segmentFromNode
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
    editableStamp,
    editableVoxels,
    ensureSegmentation,
    eraseCut,
    labelmapFromNode,
    noteAction,
    writeCut,
    writeLabelmap,
    writeLabels,
)
from SAMLungSegSlicer.bridge.stored import StoredLungs, readCut, stampOf, storedLungs
from SAMLungSegSlicer.bridge.surfaces import hasSurfaces, hideSurfaces, showSurfaces
from SAMLungSegSlicer.bridge.tables import plotFromTable, tableFromColumns, tableFromDataFrame
from SAMLungSegSlicer.bridge.transforms import ijkToWorldMatrix, nodeToWorldMatrix
from SAMLungSegSlicer.bridge.views import jumpTo
from SAMLungSegSlicer.bridge.volumes import ijkToPatientMatrix, volumeFromNode
from SAMLungSegSlicer.bridge.widths import heartFromNode, setWidthsVisible, showWidths

__all__ = [
    "BoxCounts",
    "PointCounts",
    "StoredLungs",
    "boxesFromRois",
    "countBoxes",
    "countPoints",
    "cutFromSliceNode",
    "editableCut",
    "editableStamp",
    "editableVoxels",
    "ensureLungSegments",
    "ensureSegmentation",
    "eraseCut",
    "findLungSegments",
    "hasSurfaces",
    "heartFromNode",
    "hideSurfaces",
    "ijkToPatientMatrix",
    "ijkToWorldMatrix",
    "jumpTo",
    "labelmapFromNode",
    "lungLabels",
    "lungsWord",
    "nodeToWorldMatrix",
    "noteAction",
    "noteExtent",
    "overwrittenSegments",
    "pixelsFromWorld",
    "plotFromTable",
    "pointsFromMarkups",
    "readCut",
    "segmentFromNode",
    "setWidthsVisible",
    "showSurfaces",
    "showWidths",
    "stampOf",
    "storedLungs",
    "tableFromColumns",
    "tableFromDataFrame",
    "volumeFromNode",
    "worldFromPixels",
    "writeCut",
    "writeLabelmap",
    "writeLabels",
]
