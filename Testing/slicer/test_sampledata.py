"""What the module adds to Slicer's Sample Data, and what its buttons bring into the scene."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import slicer
from bench import sampledata as sample_data
from generated_chests import generated_ct, generated_xray

from SAMLungSegLib.errors import SAMLungSegError
from SAMLungSegSlicer import bridge, sampledata
from SAMLungSegSlicer.runtime import dependencies


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A case in no time instead of the generated chest."""
    voxels, labels = np.zeros((2, 3, 4), np.int16), np.ones((2, 3, 4), np.uint8)
    monkeypatch.setattr(sampledata, "_ctCase", lambda: (voxels, labels, np.eye(4)))


@pytest.fixture(autouse=True)
def sources(monkeypatch: pytest.MonkeyPatch) -> dict[str, sample_data.SampleDataSource]:
    """What was registered with the Sample Data module, by sample name."""
    monkeypatch.setitem(sys.modules, "SampleData", sample_data)
    sampledata.registerSampleData()
    return {
        source.sampleName: source for source in sample_data.SampleDataLogic.sampleDataSourcesByCategory()["SAMLungSeg"]
    }


def test_three_data_sets_are_registered_and_nothing_is_generated_yet(sources: dict) -> None:
    assert list(sources) == ["SAMLungSegPhantomCT", "SAMLungSegPhantomXray", "CTChest"]
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == 0


@pytest.mark.parametrize("name", ["SAMLungSegPhantomCT", "SAMLungSegPhantomXray"])
def test_generated_data_have_a_thumbnail(sources: dict, name: str) -> None:
    thumbnail = Path(sources[name].thumbnailFileName)
    assert thumbnail.stat().st_size < 60_000
    assert struct.unpack(">II", thumbnail.read_bytes()[16:24]) == (260, 280)


def test_the_public_ct_is_checked_by_its_sha256(sources: dict) -> None:
    source = sources["CTChest"]
    algorithm, digest = source.checksums[0].split(":")
    assert algorithm == "SHA256"
    assert len(digest) == 64
    assert source.uris == [f"https://github.com/Slicer/SlicerTestingData/releases/download/SHA256/{digest}"]
    assert source.fileNames[0].endswith(".nrrd")
    assert source.customDownloader is None


def test_the_ct_button_brings_the_phantom_where_it_lies_with_its_true_lungs_hidden() -> None:
    volumeNode, truthNode = sample_data.press("SAMLungSegPhantomCT")
    phantom = generated_ct()
    volume = bridge.volumeFromNode(volumeNode)
    assert volumeNode.GetName() == "SAMLungSegPhantomCT"
    assert np.array_equal(volume.array_kji, phantom.hu_kji)
    assert np.allclose(volume.ijk_to_ras, phantom.ijk_to_ras)
    truth = bridge.labelmapFromNode(truthNode, volumeNode)
    assert np.array_equal(truth.array_kji, phantom.labelmap_kji)
    assert not truthNode.GetDisplayNode().GetVisibility()


def test_the_xray_button_brings_the_picture_as_slicer_loads_pictures() -> None:
    volumeNode, truthNode = sample_data.press("SAMLungSegPhantomXray")
    image, labels = generated_xray()
    volume = bridge.volumeFromNode(volumeNode)
    assert np.array_equal(volume.array_kji, image[None])
    assert np.array_equal(volume.ijk_to_ras, np.diag([-1, -1, 1, 1]))
    assert np.array_equal(bridge.labelmapFromNode(truthNode, volumeNode).array_kji, labels[None])


@pytest.mark.usefixtures("small")
def test_a_second_press_brings_a_second_case_and_leaves_the_first() -> None:
    first, firstTruth = sampledata.loadPhantomCT()
    second, secondTruth = sampledata.loadPhantomCT()
    nodes = [first, firstTruth, second, secondTruth]
    assert len({node.GetID() for node in nodes}) == len({node.GetName() for node in nodes}) == 4


@pytest.mark.usefixtures("small")
def test_the_slice_views_show_the_new_volume() -> None:
    composite = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    volumeNode, _truth = sampledata.loadPhantomCT()
    assert composite.GetBackgroundVolumeID() == volumeNode.GetID()


def test_declining_the_installation_adds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependencies, "ensure", lambda feature: feature != "phantom")
    assert sampledata.loadPhantomCT() == []
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == 0


def test_a_failure_is_shown_to_the_user_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(feature: str) -> bool:
        raise SAMLungSegError("no network")

    shown: list[str] = []
    monkeypatch.setattr(dependencies, "ensure", fail)
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda text, **options: shown.append(text))
    with pytest.raises(SAMLungSegError):
        sampledata.loadPhantomCT()
    assert shown == ["The phantom could not be generated.\n\nno network"]
