"""What the module adds to Slicer's Sample Data, and what its buttons bring into the scene."""

from __future__ import annotations

import struct
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

from SAMLungSegLib.errors import SAMLungSegError
from SAMLungSegLib.phantom import chest_ct, chest_xray
from SAMLungSegSlicer import bridge, dependencies, sampledata


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A case in no time instead of the generated chest."""
    voxels, labels = np.zeros((2, 3, 4), np.int16), np.ones((2, 3, 4), np.uint8)
    monkeypatch.setattr(sampledata, "_ctCase", lambda: (voxels, labels, np.eye(4)))


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What was registered with a Sample Data module that only notes it, by sample name."""
    registered: dict[str, dict[str, Any]] = {}

    class SampleDataLogic:
        @staticmethod
        def registerCustomSampleDataSource(**source: Any) -> None:
            registered[source["sampleName"]] = source

    monkeypatch.setitem(sys.modules, "SampleData", types.SimpleNamespace(SampleDataLogic=SampleDataLogic))
    sampledata.registerSampleData()
    return registered


def test_three_data_sets_are_registered_and_nothing_is_generated_yet(sources: dict[str, dict[str, Any]]) -> None:
    assert list(sources) == ["SAMLungSegPhantomCT", "SAMLungSegPhantomXray", "CTChest"]
    assert {source["category"] for source in sources.values()} == {"SAMLungSeg"}
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == 0


def test_generated_data_come_without_network_and_have_a_thumbnail(sources: dict[str, dict[str, Any]]) -> None:
    for name in ("SAMLungSegPhantomCT", "SAMLungSegPhantomXray"):
        assert callable(sources[name]["customDownloader"])
        assert not sources[name]["uris"].startswith("http")
        thumbnail = Path(sources[name]["thumbnailFileName"])
        assert thumbnail.stat().st_size < 60_000
        assert struct.unpack(">II", thumbnail.read_bytes()[16:24]) == (260, 280)


def test_the_public_ct_is_checked_by_its_sha256(sources: dict[str, dict[str, Any]]) -> None:
    source = sources["CTChest"]
    algorithm, digest = source["checksums"].split(":")
    assert algorithm == "SHA256"
    assert len(digest) == 64
    assert source["uris"] == f"https://github.com/Slicer/SlicerTestingData/releases/download/SHA256/{digest}"
    assert source["fileNames"].endswith(".nrrd")
    assert "customDownloader" not in source


def test_the_ct_button_brings_the_phantom_where_it_lies_with_its_true_lungs_hidden(
    sources: dict[str, dict[str, Any]],
) -> None:
    source = sources["SAMLungSegPhantomCT"]
    volumeNode, truthNode = source["customDownloader"](source)
    phantom = chest_ct(seed=0)
    volume = bridge.volumeFromNode(volumeNode)
    assert volumeNode.GetName() == "SAMLungSegPhantomCT"
    assert np.array_equal(volume.array_kji, phantom.hu_kji)
    assert np.allclose(volume.ijk_to_ras, phantom.ijk_to_ras)
    truth = bridge.labelmapFromNode(truthNode, volumeNode)
    assert np.array_equal(truth.array_kji, phantom.labelmap_kji)
    assert not truthNode.GetDisplayNode().GetVisibility()


def test_the_xray_button_brings_the_picture_as_slicer_loads_pictures(sources: dict[str, dict[str, Any]]) -> None:
    volumeNode, truthNode = sources["SAMLungSegPhantomXray"]["customDownloader"](None)
    image, labels = chest_xray(chest_ct(seed=0))
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
