"""Sample data in Slicer's Sample Data module: a generated chest as CT and X-ray, and Slicer's own chest CT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from SAMLungSegSlicer import bridge, dependencies

if TYPE_CHECKING:
    import numpy as np

    Case = tuple[np.ndarray, np.ndarray, np.ndarray]  # voxels (K, J, I), labels (K, J, I), IJK to RAS (4, 4)

CATEGORY = "SAMLungSeg"
CT_NAME = "SAMLungSegPhantomCT"
XRAY_NAME = "SAMLungSegPhantomXray"
CT_CHEST_SHA256 = "4507b664690840abb6cb9af2d919377ffc4ef75b167cb6fd0f747befdb12e38e"

_ICONS = Path(__file__).resolve().parents[1] / "Resources" / "Icons"


def registerSampleData() -> None:
    """Add the data sets to the Sample Data module; nothing is generated or downloaded yet."""
    import SampleData

    register = SampleData.SampleDataLogic.registerCustomSampleDataSource
    for name, load in ((CT_NAME, loadPhantomCT), (XRAY_NAME, loadPhantomXray)):
        register(
            category=CATEGORY,
            sampleName=name,
            uris=f"generated:{name}",
            nodeNames=name,
            customDownloader=load,
            thumbnailFileName=str(_ICONS / f"{name}.png"),
        )
    register(
        category=CATEGORY,
        sampleName="CTChest",
        uris=f"{slicer.util.TESTING_DATA_URL}SHA256/{CT_CHEST_SHA256}",
        fileNames="CT-chest.nrrd",
        nodeNames="CTChest",
        checksums=f"SHA256:{CT_CHEST_SHA256}",
    )


def loadPhantomCT(source: Any = None) -> list:
    """Generate a chest CT, not of a patient, with its true lungs.

    Args:
        source: the Sample Data module's record, not needed.
    Returns:
        The volume node and a hidden segmentation node with the true right and left lung; nothing if the user declined
        to install what generating needs.
    """
    return _load(CT_NAME, _ctCase)


def loadPhantomXray(source: Any = None) -> list:
    """Generate a chest X-ray of the same phantom; arguments and result as of `loadPhantomCT`."""
    return _load(XRAY_NAME, _xrayCase)


def _load(name: str, makeCase: Callable[[], Case]) -> list:
    with slicer.util.tryWithErrorDisplay(_("The phantom could not be generated."), waitCursor=True):
        return _addCase(name, *makeCase()) if dependencies.ensure("phantom") else []


def _ctCase() -> Case:
    from SAMLungSegLib.phantom import chest_ct

    phantom = chest_ct(seed=0)
    return phantom.hu_kji, phantom.labelmap_kji, phantom.ijk_to_ras


def _xrayCase() -> Case:
    import numpy as np

    from SAMLungSegLib.phantom import chest_ct, chest_xray

    image, labelmap = chest_xray(chest_ct(seed=0))
    ijk_to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])  # as Slicer loads a picture: columns to the left, rows downward
    return image[None], labelmap[None], ijk_to_ras


def _addCase(name: str, array_kji: np.ndarray, labelmap_kji: np.ndarray, ijk_to_ras: np.ndarray) -> list:
    volumeNode = slicer.util.addVolumeFromArray(array_kji, ijk_to_ras, slicer.mrmlScene.GenerateUniqueName(name))
    truthNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{volumeNode.GetName()} truth")
    bridge.writeLabelmap(bridge.ensureSegmentation(volumeNode, truthNode), labelmap_kji, volumeNode)
    truthNode.GetDisplayNode().SetVisibility(False)
    slicer.util.setSliceViewerLayers(background=volumeNode, fit=True)
    return [volumeNode, truthNode]
