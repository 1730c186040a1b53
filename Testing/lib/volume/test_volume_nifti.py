"""NIfTI files that store their values scaled: complete ones are read, truncated ones refused, in every datatype."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from SAMLungSegLib.errors import GeometryError, VolumeError
from SAMLungSegLib.evaluation import evaluate
from SAMLungSegLib.volume import read_volume

STORED = np.arange(60).reshape(3, 4, 5)
DATATYPES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768}
TURNED = ((0.72, 0.72, 0.0, 5.0), (-0.54, 0.96, 0.0, -6.0), (0.0, 0.0, -4.0, 7.0))  # 0.9 x 1.2 x 4 mm, downwards


def header(array_kji, datatype, slope, inter, order, version):
    """One with the sform `TURNED`."""
    sizes, bits = (3, *array_kji.shape[::-1], 1, 1, 1, 1), array_kji.dtype.itemsize * 8
    spacings = (1.0, *np.linalg.norm(np.array(TURNED)[:, :3], axis=0), 1, 1, 1, 1)
    head = bytearray(352 if version == 1 else 544)
    places = (40, 70, 72, 76, 108, 112, 254, 280) if version == 1 else (16, 12, 14, 104, 168, 176, 348, 400)
    whole, real, code = ("h", "f", "h") if version == 1 else ("q", "d", "i")
    kinds = (f"8{whole}", "h", "h", f"8{real}", "f" if version == 1 else "q", f"2{real}", code, f"12{real}")
    rows = [number for row in TURNED for number in row]
    for place, kind, values in zip(
        places, kinds, (sizes, [datatype], [bits], spacings, [len(head)], [slope, inter], [1], rows), strict=True
    ):
        struct.pack_into(order + kind, head, place, *values)
    if version == 1:
        struct.pack_into(f"{order}h", head, 252, 0)
    head[:4] = struct.pack(f"{order}i", 348 if version == 1 else 540)
    mark, place = (b"n+1\0", 344) if version == 1 else (b"n+2\0\r\n\x1a\n", 4)
    head[place : place + len(mark)] = mark
    return bytes(head)


def scaled(path, slope, inter, *, kind="i2", order="<", version=1, array=STORED, reformat=0):
    array = array.astype(order + kind)
    content = header(array, DATATYPES[kind], slope, inter, order, version) + array.tobytes()
    content = content[: len(content) - reformat]
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize("kind", DATATYPES)
def test_scaled_values_of_every_datatype_are_read(tmp_path, name, kind):
    volume = read_volume(scaled(tmp_path / name, 0.5, -10, kind=kind))
    assert np.array_equal(volume.array_kji, STORED * 0.5 - 10)


@pytest.mark.parametrize("order", ["<", ">"])
def test_scaled_values_keep_their_place_in_both_byte_orders(tmp_path, order):
    volume = read_volume(scaled(tmp_path / "scan.nii.gz", 2, -1024, order=order))
    assert np.array_equal(volume.array_kji, STORED * 2 - 1024)
    assert volume.ijk_to_ras[:3] == pytest.approx(np.array(TURNED), abs=1e-4)


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_second_version_is_refused_by_name(tmp_path, order):
    with pytest.raises(VolumeError, match="is NIfTI-2, which cannot be read; convert it to NIfTI-1"):
        read_volume(scaled(tmp_path / "scan.nii.gz", 2, -1024, order=order, version=2))


@pytest.mark.parametrize(("slope", "inter"), [(0, -1024), (0, 0), (1, 0), (float("nan"), 5), (1, float("nan"))])
def test_a_slope_of_zero_or_no_number_means_values_as_stored(tmp_path, slope, inter):
    assert np.array_equal(read_volume(scaled(tmp_path / "scan.nii", slope, inter)).array_kji, STORED)


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize("kind", ["u1", "i2", "f8"])
@pytest.mark.parametrize("slope", [1, 0.5])
def test_a_scaled_file_that_lacks_its_last_bytes_is_refused(tmp_path, name, kind, slope):
    path = scaled(tmp_path / name, slope, -3, kind=kind, reformat=2)
    with pytest.raises(VolumeError, match=r"scan\.nii.*truncated"):
        read_volume(path)


@pytest.mark.parametrize(("factor", "slope"), [(1, 2), (255, 1 / 255), (10, 0.1), (7, 1 / 7)])
def test_a_scaled_labelmap_holds_whole_labels(tmp_path, factor, slope):
    labels = np.zeros((3, 4, 5), int)
    labels[1:, :, :2], labels[1:, :, 3:] = 2, 4
    stored = scaled(tmp_path / "stored.nii.gz", slope, 0, kind="i2", array=labels // 2 * factor)
    plain = scaled(tmp_path / "plain.nii", 1, 0, kind="u1", array=np.rint(labels // 2 * factor * slope))
    result = evaluate(read_volume(stored), read_volume(plain))
    assert (result.per_volume["dice"].dropna() == 1).all()
    assert not any("other than" in note for note in result.notes)


def test_a_scaled_labelmap_that_packs_a_thousandfold_is_complete(tmp_path):
    array = np.zeros((64, 512, 512))
    array[0, 0, :2] = 1, 2
    volume = read_volume(scaled(tmp_path / "scan.nii.gz", 2, 0, kind="u1", array=array))
    assert volume.array_kji.sum() == 6


@pytest.mark.parametrize("spacing", [1e-30, 1e30])
def test_a_spacing_that_nothing_has_is_refused(tmp_path, spacing):
    path = tmp_path / "scan.mha"
    head = f"ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementSpacing = 1 1 {spacing}\nElementType = MET_UCHAR\n"
    path.write_bytes(head.encode() + b"BinaryData = True\nElementDataFile = LOCAL\n" + bytes(range(8)))
    with pytest.raises(GeometryError, match="spacing"):
        read_volume(path)
