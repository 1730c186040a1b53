"""Headers name the files that hold their values: those beside them or below are read, any other is refused."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.volume import read_volume
from SAMLungSegLib.volume.guarded import metadata_of, size_of

VALUES = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
META = "ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 4 4 2\nElementType = MET_UCHAR\n"
NRRD = "NRRD0005\ntype: uchar\ndimension: 3\nsizes: 4 4 2\nencoding: raw\n"

ELSEWHERE = (
    *("{0}/secret", "../secret", "sub/../../secret", "..\\secret", "C:\\secret", "\\\\host\\x", "-"),
    *("../s%d.raw 1 2 1", "{0}/s%d.raw 1 2 1", "LIST\ns1.raw\n../s2.raw", "LIST 2\n{0}/s1.raw\ns2.raw"),
)


@pytest.fixture
def folder(tmp_path):
    """Where the header is, with all values outside it, and one slice in each of two files inside and outside."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(VALUES.tobytes())
    for place in (tmp_path, folder, folder / "sub"):
        (place / "all.raw").write_bytes(VALUES.tobytes())
        for number, one in enumerate(VALUES, start=1):
            (place / f"s{number}.raw").write_bytes(one.tobytes())
    return folder


def header(folder, text, extension=".mhd"):
    path = folder / f"v{extension}"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("name", ["all.raw", "./all.raw", "sub/all.raw", "s%d.raw 1 2 1", "LIST\nsub/s1.raw\ns2.raw"])
@pytest.mark.parametrize(
    ("extension", "before"), [(".mhd", f"{META}ElementDataFile = "), (".nhdr", f"{NRRD}data file: ")]
)
def test_files_beside_the_header_and_below_are_read(folder, extension, before, name):
    assert np.array_equal(read_volume(header(folder, f"{before}{name}\n", extension)).array_kji, VALUES)


@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize(
    ("extension", "before"), [(".mhd", f"{META}ElementDataFile = "), (".nhdr", f"{NRRD}data file: ")]
)
def test_files_elsewhere_are_refused_with_advice(folder, extension, before, name):
    path = header(folder, f"{before}{name.format(folder.parent)}\n", extension)
    for read in (read_volume, size_of):
        with pytest.raises(VolumeError, match=r"not in the folder of the header; move that file beside the header and"):
            read(path)
    with pytest.raises(VolumeError, match="not in the folder"):
        metadata_of(path, "anything")


@pytest.mark.parametrize(
    "lines",
    [
        b"ElementDataFile: ../secret\n",
        b"ElementDataFile \t=: ../secret\n",
        b"  ElementDataFile = ../secret\n",
        b"elementdatafile = LOCAL\nElementDataFile = ../secret\n",
        b"Comment = x\rElementDataFile = LOCAL\nElementDataFile = ../secret\n",
        b"Comment\nElementDataFile = LOCAL\nElementDataFile = ../secret\n",
        b"ElementDataFile\n= ../secret\n",
        b"ElementDataFile\0 = ../secret\n",
        b"Comment = x\n" * 100_000 + b"ElementDataFile = ../secret\n",
        b"ElementDataFile = LIST\n" + b"s1.raw\n" * 200_000,
    ],
    ids=range(10),
)
def test_no_way_of_writing_the_field_gets_past(folder, lines):
    with pytest.raises(VolumeError, match=r"not in the folder|no 'name = value'|no end of its header"):
        read_volume(header(folder, META.encode() + lines))


@pytest.mark.parametrize("lines", [b"DATA FILE: ../secret\n", b"content: x\r\r\ndatafile: ../secret\n"])
def test_no_way_of_writing_the_field_of_nrrd_gets_past(folder, lines):
    with pytest.raises(VolumeError, match="not in the folder"):
        read_volume(header(folder, NRRD.encode() + lines, ".nhdr"))


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_headers_of_either_line_end_with_empty_lines_and_values_are_read(folder, line_end):
    text = f"\n{META}Comment =\nModality: MET_MOD_CT\n  \nElementDataFile = all.raw\n"
    assert np.array_equal(read_volume(header(folder, text.replace("\n", line_end))).array_kji, VALUES)


def test_hdf5_which_can_hold_links_to_other_files_is_refused_under_any_name(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(VALUES), str(tmp_path / "v.h5"))
    content = (tmp_path / "v.h5").read_bytes()
    for name, before in (("v.nii", 0), ("v.mha", 512), ("v.png", 4096)):
        (tmp_path / name).write_bytes(bytes(before) + content)
        with pytest.raises(VolumeError, match="is HDF5, which is not read"):
            read_volume(tmp_path / name)
