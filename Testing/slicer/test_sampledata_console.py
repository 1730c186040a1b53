"""Generated data sets by `SampleData.downloadSample`, as scripts and the Python console ask for them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import slicer
from bench import sampledata as sample_data

from SAMLungSegLib.errors import SAMLungSegError
from SAMLungSegSlicer import bridge, sampledata
from SAMLungSegSlicer.runtime import dependencies

OBLIQUE = np.array([[0.0, 0, 3, 5], [-2, 0, 0, 6], [0, -1, 0, 7], [0, 0, 0, 1]])
CT, XRAY = "SAMLungSegPhantomCT", "SAMLungSegPhantomXray"


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The data sets are registered, with small cases; the voxels of each CT that was generated."""
    voxels: list[np.ndarray] = []

    def ctCase() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        voxels.append(np.arange(24, dtype=np.int16).reshape(2, 3, 4) - len(voxels))
        return voxels[-1], labels(), OBLIQUE

    monkeypatch.setattr(sampledata, "_ctCase", ctCase)
    monkeypatch.setattr(sampledata, "_xrayCase", lambda: (np.full((1, 3, 4), 9, np.uint8), labels()[:1], np.eye(4)))
    monkeypatch.setitem(sys.modules, "SampleData", sample_data)
    sampledata.registerSampleData()
    return voxels


def labels() -> np.ndarray:
    """Right in the first column, left in the last."""
    labelmap = np.zeros((2, 3, 4), np.uint8)
    labelmap[:, :, 0], labelmap[:, :, 3] = 1, 2
    return labelmap


def test_the_volume_comes_with_its_true_lungs(made: list[np.ndarray]) -> None:
    volumeNode, truthNode = sample_data.downloadSamples(CT)
    volume = bridge.volumeFromNode(volumeNode)
    assert np.array_equal(volume.array_kji, made[0])
    assert volume.array_kji.dtype == np.int16
    assert np.allclose(volume.ijk_to_ras, OBLIQUE)
    assert np.array_equal(bridge.labelmapFromNode(truthNode, volumeNode).array_kji, labels())
    assert truthNode.GetName() == f"{CT} truth"


@pytest.mark.parametrize("name", [CT, XRAY])
def test_one_sample_is_the_volume(name: str) -> None:
    node = sample_data.downloadSample(name)
    assert node.IsA("vtkMRMLScalarVolumeNode")
    assert node.GetName() == name


def test_a_later_version_is_not_hidden_by_what_slicer_has_kept() -> None:
    first, second = (slicer.util.arrayFromVolume(sample_data.downloadSample(CT)).copy() for _ in range(2))
    assert (first != second).all()


def test_nothing_is_generated_before(made: list[np.ndarray]) -> None:
    sampledata.registerSampleData()
    assert not made
    assert len(sample_data.SampleDataLogic.sampleDataSourcesByCategory()["SAMLungSeg"]) == 3


def test_addresses_of_others_stay() -> None:
    (rule,) = slicer.modules.sampleDataUrlRewriteRules.values()
    assert rule("https://slicer.org/a.nrrd") == "https://slicer.org/a.nrrd"


def test_who_declines_the_installation_is_asked_once_and_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(dependencies, "ensure", lambda feature: bool(asked.append(feature)))
    monkeypatch.setattr(dependencies, "missing", lambda feature: ["scikit-image"])
    with pytest.raises(SAMLungSegError, match=r"missing \(scikit-image\); call again and agree"):
        sample_data.downloadSample(CT)
    assert asked == ["phantom"]
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == 0


def test_a_file_that_cannot_be_written_is_said(
    slicer_app: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    noFolder = tmp_path / "full"
    noFolder.touch()
    monkeypatch.setattr(slicer_app, "temporaryPath", str(noFolder))
    with pytest.raises(SAMLungSegError, match=f"{CT} could not be written to .*full"):
        sample_data.downloadSample(CT)
