"""Sample data in Slicer's Sample Data module: a generated chest as CT and X-ray, and Slicer's own chest CT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from SAMLungSegLib.errors import SAMLungSegError
from SAMLungSegSlicer import bridge
from SAMLungSegSlicer.runtime import dependencies

if TYPE_CHECKING:
    import numpy as np

    Case = tuple[np.ndarray, np.ndarray, np.ndarray]  # voxels (K, J, I), labels (K, J, I), IJK to RAS (4, 4)

CATEGORY = "SAMLungSeg"
CT_NAME = "SAMLungSegPhantomCT"
XRAY_NAME = "SAMLungSegPhantomXray"
CT_CHEST_SHA256 = "4507b664690840abb6cb9af2d919377ffc4ef75b167cb6fd0f747befdb12e38e"

_ICONS = Path(__file__).resolve().parents[1] / "Resources" / "Icons"
_GENERATED = "generated:"


def registerSampleData() -> None:
    """Add the data sets to the Sample Data module; nothing is generated or downloaded yet.

    Its buttons call `customDownloader`. `SampleData.downloadSample` does not: it downloads files, whose addresses go
    through a rule of ours, which makes the generated ones.
    """
    import SampleData

    logic = SampleData.SampleDataLogic
    logic.registerUrlRewriteRule(CATEGORY, _fileAddress)
    for name, load in ((CT_NAME, loadPhantomCT), (XRAY_NAME, loadPhantomXray)):
        logic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=name,
            uris=[f"{_GENERATED}{name}.nrrd", f"{_GENERATED}{name}.seg.nrrd"],
            fileNames=[None, None],  # a new one each time: Slicer never replaces a file that it has
            nodeNames=[name, f"{name} truth"],
            loadFileTypes=["VolumeFile", "SegmentationFile"],
            customDownloader=load,
            thumbnailFileName=str(_ICONS / f"{name}.png"),
        )
    logic.registerCustomSampleDataSource(
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
    return _load(CT_NAME)


def loadPhantomXray(source: Any = None) -> list:
    """Generate a chest X-ray of the same phantom; arguments and result as of `loadPhantomCT`."""
    return _load(XRAY_NAME)


def _load(name: str) -> list:
    with slicer.util.tryWithErrorDisplay(_("The phantom could not be generated."), waitCursor=True):
        return _addCase(name, *_case(name)) if dependencies.ensure("phantom") else []


def _fileAddress(address: str) -> str:
    """The address of a new file with generated data; every other address as it is.

    Raises:
        SAMLungSegError: the user declined to install what generating needs, or that failed.
    """
    if not address.startswith(_GENERATED):
        return address
    if not dependencies.ensure("phantom"):
        names = ", ".join(dependencies.missing("phantom"))
        raise SAMLungSegError(f"Python packages are missing ({names}); call again and agree to install them.")
    from SAMLungSegLib.volume import Volume, write_labelmap

    path = Path(slicer.app.temporaryPath) / address.removeprefix(_GENERATED)
    name, _dot, extension = path.name.partition(".")
    array_kji, labelmap_kji, ijk_to_ras = _case(name)
    if extension == "seg.nrrd":
        write_labelmap(labelmap_kji, Volume(array_kji, ijk_to_ras, name), path)
    else:
        _writeVolume(array_kji, ijk_to_ras, path)
    return path.as_uri()


def _writeVolume(array_kji: np.ndarray, ijk_to_ras: np.ndarray, path: Path) -> None:
    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras))
    slicer.util.updateVolumeFromArray(node, array_kji)
    storageNode = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storageNode.SetFileName(str(path))
    if not storageNode.WriteData(node):
        raise SAMLungSegError(f"The generated {path.stem} could not be written to {path.parent}; is there room?")


def _case(name: str) -> Case:
    return _ctCase() if name == CT_NAME else _xrayCase()


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
