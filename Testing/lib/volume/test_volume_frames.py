from __future__ import annotations

import logging

import numpy as np
import pytest
from pydicom.dataset import Dataset
from test_volume_dicom import write_ct, write_dicom

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.volume import read_volume

TURNED = [0.6, 0.8, 0, 0, 0, -1]  # rows to the left and back, columns to the feet
NORMAL = np.array([-0.8, 0.6, 0])


def write_frames(path, places_mm, *, intercepts=None, direction=TURNED, spacing=(0.75, 0.5)):
    """Enhanced CT whose frame n lies at `places_mm[n]` along the normal and stores ten times that."""
    frames = []
    for n, place in enumerate(places_mm):
        frame = Dataset()
        frame.PlanePositionSequence = [Dataset()]
        frame.PlanePositionSequence[0].ImagePositionPatient = [round(float(x), 6) for x in place * NORMAL + (5, 6, 7)]
        frame.PixelValueTransformationSequence = [Dataset()]
        rescale = frame.PixelValueTransformationSequence[0]
        rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = "1", "-1000", "HU"
        if intercepts:
            rescale.RescaleIntercept = str(intercepts[n])
        frames.append(frame)
    shared = Dataset()
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [Dataset()], [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = direction
    shared.PixelMeasuresSequence[0].PixelSpacing, shared.PixelMeasuresSequence[0].SliceThickness = list(spacing), 9
    pixels = np.stack([np.full((2, 3), 10 * place, np.uint16) for place in places_mm])
    write_dicom(
        path,
        pixels,
        Modality="CT",
        SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1",
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=frames,
    )
    return path


def test_frames_in_any_order_lie_where_each_says_on_an_oblique_anisotropic_grid(tmp_path):
    volume = read_volume(write_frames(tmp_path / "a.dcm", [6, 0, 9, 3]))
    assert volume.array_kji[:, 0, 0].tolist() == [-1000, -970, -940, -910]
    np.testing.assert_allclose(volume.spacing_mm, (3, 0.75, 0.5))
    lps = np.array([[0.3, 0, -2.4, 5], [0.4, 0, 1.8, 6], [0, -0.75, 0, 7], [0, 0, 0, 1]])
    np.testing.assert_allclose(volume.ijk_to_ras, np.diag([-1, -1, 1, 1]) @ lps, atol=1e-6)
    assert volume.has_physical_spacing
    assert volume.modality_hint == "CT"


def test_missing_frames_are_told_and_refused_where_gaps_are_not_allowed(tmp_path, caplog):
    path = write_frames(tmp_path / "a.dcm", [0, 3, 6, 15])
    with caplog.at_level(logging.WARNING):
        assert read_volume(path).spacing_mm[1:] == pytest.approx((0.75, 0.5))
    assert "some may be missing" in caplog.text
    with pytest.raises(VolumeError, match="copy the series again"):
        read_volume(path, allow_gaps=False)
    with pytest.raises(VolumeError, match="copy the series again"):
        read_volume(tmp_path, allow_gaps=False)


def test_frames_at_one_place_are_refused(tmp_path):
    with pytest.raises(VolumeError, match="same place"):
        read_volume(write_frames(tmp_path / "a.dcm", [0, 3, 3, 6]))


def test_each_frame_has_its_own_rescale(tmp_path):
    volume = read_volume(write_frames(tmp_path / "a.dcm", [3, 0, 6], intercepts=[-1000, -500, 0]))
    assert volume.array_kji[:, 0, 0].tolist() == [-500, -970, 60]


def test_frames_without_positions_are_told(tmp_path, caplog):
    path = write_dicom(tmp_path / "a.dcm", np.zeros((3, 2, 2), np.uint16), Modality="CT")
    with caplog.at_level(logging.WARNING):
        read_volume(path)
    assert "frames without a position" in caplog.text


def test_a_single_slice_of_a_folder_is_read_as_its_file_is(tmp_path):
    folder = write_ct(tmp_path / "one", [4])
    np.testing.assert_allclose(read_volume(folder).ijk_to_ras, read_volume(folder / "slice0").ijk_to_ras)
