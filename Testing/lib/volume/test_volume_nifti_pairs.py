"""NIfTI-1 images whose header and values are two files, .hdr and .img: one image, whichever of them is given."""

from __future__ import annotations

import os

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from cohorts import chest_hu, write_image, write_slice

from SAMLungSegLib.batch import find_cases
from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.volume import image_name, read_volume

ARRAY = np.arange(24, dtype=np.int16).reshape(2, 3, 4) - 5
MARK = slice(344, 348)


def pair(folder, name="scan", array=ARRAY):
    """Both files of an image with i to superior, j to left and k to posterior; the header."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1, 2, 3))
    image.SetDirection((0, 1, 0, 0, 0, 1, 1, 0, 0))
    folder.mkdir(exist_ok=True)
    sitk.WriteImage(image, str(folder / f"{name}.hdr"))
    return folder / f"{name}.hdr"


def changed(path, place, content):
    data = bytearray(path.read_bytes())
    data[place] = content
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("given", [".hdr", ".img"])
def test_either_file_of_a_pair_gives_its_values_and_place(tmp_path, given):
    volume = read_volume(pair(tmp_path).with_suffix(given))
    assert np.array_equal(volume.array_kji, ARRAY)
    assert np.allclose(volume.ijk_to_ras, [[0, -2, 0, 0], [0, 0, -3, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    assert volume.name == image_name(tmp_path / "scan.img") == "scan"


def test_names_in_upper_case_and_values_behind_an_offset_are_read(tmp_path):
    header = changed(pair(tmp_path), slice(108, 112), np.float32(16).tobytes())
    values = (tmp_path / "scan.img").read_bytes()
    (tmp_path / "scan.img").write_bytes(bytes(16) + values)
    header.rename(tmp_path / "scan.HDR")
    (tmp_path / "scan.img").rename(tmp_path / "scan.IMG")
    assert np.array_equal(read_volume(tmp_path / "scan.IMG").array_kji, ARRAY)


def test_half_of_a_pair_is_refused_with_the_name_of_the_other(tmp_path):
    header = pair(tmp_path)
    values = (tmp_path / "scan.img").read_bytes()
    (tmp_path / "scan.img").write_bytes(values[:-1])
    with pytest.raises(VolumeError, match=r"scan\.img is truncated"):
        read_volume(header)
    (tmp_path / "scan.img").unlink()
    with pytest.raises(VolumeError, match=r"its data file scan\.img is missing; copy it to"):
        read_volume(header)
    header.unlink()
    (tmp_path / "scan.img").write_bytes(values)
    with pytest.raises(VolumeError, match=r"its header scan\.hdr is missing; copy it to"):
        read_volume(tmp_path / "scan.img")


@pytest.mark.skipif(os.name == "nt", reason="needs named pipes")
def test_a_pipe_is_not_waited_for_as_the_values(tmp_path):
    header = pair(tmp_path)
    (tmp_path / "scan.img").unlink()
    os.mkfifo(tmp_path / "scan.img")
    with pytest.raises(VolumeError, match="no regular file"):
        read_volume(header)


@pytest.mark.parametrize("extension", [".hdr", ".nii"])
def test_analyze_is_refused_because_it_does_not_tell_the_sides(tmp_path, extension):
    path = pair(tmp_path) if extension == ".hdr" else write_image(tmp_path / "scan.nii", ARRAY)
    with pytest.raises(VolumeError, match=r"is ANALYZE 7\.5, which does not say which side is the patient's left"):
        read_volume(changed(path, MARK, bytes(4)))


def test_content_of_the_other_kind_than_the_name_says_is_refused(tmp_path):
    header = pair(tmp_path)
    (tmp_path / "header.nii").write_bytes(header.read_bytes() + bytes(100))
    with pytest.raises(VolumeError, match=r"is the header of a pair by its content; name it \.hdr"):
        read_volume(tmp_path / "header.nii")
    with pytest.raises(VolumeError, match=r"is a whole image by its content; name it \.nii"):
        read_volume(changed(header, MARK, b"n+1\0"))
    header.write_text("ENVI\nsamples = 4\n" * 30)
    with pytest.raises(VolumeError, match="is no header of a NIfTI-1 image"):
        read_volume(header)


def test_a_pair_is_one_case_of_a_cohort_however_it_is_found(tmp_path):
    pair(tmp_path / "in", "p7")
    write_slice(tmp_path / "in" / "dicom.img", np.zeros((4, 4)), 0, "1.2.3")
    found = [
        [case.id for case in find_cases([one])]
        for one in (tmp_path / "in", tmp_path / "in" / "p7.img", str(tmp_path / "in" / "p7.*"))
    ]
    assert found == [["dicom.img", "p7"], ["p7"], ["p7"]]


def test_a_case_is_new_when_only_its_values_have_changed(tmp_path):
    header = pair(tmp_path)
    (before,) = find_cases([header])
    (tmp_path / "scan.img").write_bytes(bytes(200))
    (after,) = find_cases([header])
    assert before.stamp != after.stamp


def test_both_files_of_a_pair_are_segmented_once_and_evaluated(tmp_path, dark_is_lung, capsys):
    header = write_image(tmp_path / "scan.hdr", chest_hu())
    assert main(["segment", str(header), str(tmp_path / "scan.img"), "-o", str(tmp_path / "out")]) == 0
    (result,) = (tmp_path / "out").glob("*.seg.nrrd")
    assert result.name == "scan_lungs.seg.nrrd"
    labels = sitk.GetImageFromArray(read_volume(result).array_kji)
    labels.CopyInformation(sitk.ReadImage(str(header)))
    (tmp_path / "masks").mkdir()
    sitk.WriteImage(labels, str(tmp_path / "masks" / "scan_mask.hdr"))
    assert main(["evaluate", str(result.parent), str(tmp_path / "masks"), "-o", str(tmp_path / "report")]) == 0
    assert capsys.readouterr().err == ""
