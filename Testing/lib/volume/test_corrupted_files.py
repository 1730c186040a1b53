"""Files that crash, hang or fill what reads them: each is an error in words and costs nothing else."""

from __future__ import annotations

import gzip
import os
import re
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from cohorts import chest_hu, chest_picture, write_image, write_series, write_slice
from mutants import mutants, write_endless, write_originals

from SAMLungSegLib.batch import run
from SAMLungSegLib.errors import SAMLungSegError, VolumeError
from SAMLungSegLib.volume import Volume, read_volume
from SAMLungSegLib.volume.guarded import metadata_of, series_of_files, size_of
from SAMLungSegLib.volume.suspicion import check_size

SHARED = Path(__file__).resolve().parents[4] / "shared" / "cases" / "robustness" / "crashing_headers"
META = "ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 4 4 2\nElementType = MET_UCHAR\nElementDataFile = "
NRRD = "NRRD0005\ntype: uchar\ndimension: 3\nsizes: 4 4 2\nencoding: raw\ndata file: "

needs_pipes = pytest.mark.skipif(os.name == "nt", reason="needs named pipes")


def changed(path: Path, old: bytes, new: bytes) -> Path:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    return path


# ---- what is refused before it is opened


@pytest.mark.parametrize("value", [b"-1", b"0", b"4294967295", b"1e308", b"%s", b"A" * 5000, b""])
@pytest.mark.parametrize(("name", "old"), [("v.mha", b"NDims = 3"), ("v.nrrd", b"dimension: 3")])
def test_a_number_of_dimensions_that_cannot_be_is_refused(tmp_path, name, old, value):
    path = changed(write_image(tmp_path / name, chest_hu()), old, old[:-1] + value)
    with pytest.raises(VolumeError, match=rf"{name} has "):
        read_volume(path)


def test_a_line_of_thousands_of_characters_in_a_header_is_refused(tmp_path):
    for name, old in (("v.nrrd", b"space origin"), ("v.mha", b"Offset")):
        path = changed(write_image(tmp_path / name, chest_hu()), old, old + b"A" * 3000)
        with pytest.raises(VolumeError, match=r"has a line of 30\d\d bytes in its header"):
            read_volume(path)


@pytest.mark.parametrize("names", ["%s%s%n 1 2 1", "%d%d 1 2 1", "x%d.raw 1 99999999 1", "%999d 1 2 1"])
def test_patterns_of_data_files_that_are_no_numbers_are_refused(tmp_path, names):
    for file, head in (("v.mhd", META), ("v.nhdr", NRRD)):
        (tmp_path / file).write_text(f"{head}{names}\n")
        with pytest.raises(VolumeError, match="names its data files by"):
            read_volume(tmp_path / file)


def test_patterns_and_lists_of_data_files_are_read(tmp_path):
    slices = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    for number, one in enumerate(slices, start=1):
        (tmp_path / f"s{number}.raw").write_bytes(one.tobytes())
    for names in ("s%d.raw 1 2 1", "LIST\ns1.raw\ns2.raw"):
        (tmp_path / "v.mhd").write_text(f"{META}{names}\n")
        assert np.array_equal(read_volume(tmp_path / "v.mhd").array_kji, slices)


@needs_pipes
def test_pipes_are_refused_wherever_they_are_named(tmp_path):
    os.mkfifo(tmp_path / "pipe.nii")
    (tmp_path / "link.nii").symlink_to(tmp_path / "pipe.nii")
    (tmp_path / "zero.nii").symlink_to("/dev/zero")
    (tmp_path / "list.mhd").write_text(f"{META}LIST\npipe.nii\npipe.nii\n")
    (tmp_path / "pattern.nhdr").write_text(f"{NRRD}p%d.raw 1 2 1\n")
    write_series(tmp_path / "series")
    os.mkfifo(tmp_path / "series" / "pipe")
    for name in ("pipe.nii", "link.nii", "zero.nii", "list.mhd", "pattern.nhdr", "series"):
        with pytest.raises(VolumeError, match="no regular file"):
            read_volume(tmp_path / name)


def test_pages_that_follow_each_other_in_a_circle_are_refused(tmp_path):
    entries = [(256, 10), (257, 10), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 10), (279, 100)]
    pages = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    (tmp_path / "v.tif").write_bytes(b"II*\0" + struct.pack("<I", 108) + bytes(100) + pages + struct.pack("<I", 108))
    with pytest.raises(VolumeError, match="in a circle"):
        read_volume(tmp_path / "v.tif")


def test_gigabytes_behind_an_image_are_not_unpacked(tmp_path):
    path = write_image(tmp_path / "v.nii.gz", chest_hu())
    path.write_bytes(path.read_bytes() + 30 * gzip.compress(bytes(1 << 24), 9))
    with pytest.raises(VolumeError, match="far more than the"):
        read_volume(path)


def test_a_size_that_a_file_cannot_hold_is_refused(tmp_path):
    (tmp_path / "v.nii.gz").write_bytes(bytes(1000))
    check_size(tmp_path / "v.nii.gz", 100_000_000)
    with pytest.raises(VolumeError, match="announces 500000000 bytes"):
        check_size(tmp_path / "v.nii.gz", 500_000_000)


def test_a_size_that_the_memory_cannot_hold_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("SAMLungSegLib.volume.suspicion.memory_of_machine", lambda: 1 << 30)
    (tmp_path / "v.nii.gz").write_bytes(bytes(1_000_000))
    with pytest.raises(VolumeError, match=r"holds 0\.5 GiB of voxels, too much for the 1 GiB"):
        check_size(tmp_path / "v.nii.gz", 1 << 29)


def test_long_texts_of_a_segmentation_are_no_fault(tmp_path):
    path = write_image(tmp_path / "v.nrrd", chest_hu())
    head, _, values = path.read_bytes().partition(b"\n\n")
    path.write_bytes(head + b"\nNote:=" + b"A" * 20_000 + b"\n\n" + values)
    assert read_volume(path).array_kji.shape == chest_hu().shape
    assert metadata_of(path, "Note") == "A" * 20_000


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/cases")
@pytest.mark.parametrize("path", sorted(SHARED.glob("*")), ids=lambda path: path.name)
def test_reported_files_are_refused_by_name(path):
    with pytest.raises(VolumeError, match=re.escape(path.name)):
        read_volume(path)


# ---- what is read by another process


def test_warnings_of_the_reading_process_are_logged_here(tmp_path, caplog):
    voxels = chest_hu().astype(np.float32)
    voxels[0, 0, 0] = np.nan
    read_volume(write_image(tmp_path / "v.nrrd", voxels))
    assert "1 of 12288 voxels are NaN" in caplog.text


def test_headers_are_read_there(tmp_path):
    assert size_of(write_image(tmp_path / "v.mha", chest_hu(0, 6))) == (64, 48, 6)
    (tmp_path / "text.dcm").write_text("no image")
    files = [write_slice(tmp_path / "x.dcm", chest_hu()[1], 0, "1.2.3"), tmp_path / "text.dcm", tmp_path / "absent"]
    assert list(series_of_files(files)) == [("1.2.3", "CT"), None, None]


def test_a_cohort_goes_on_when_a_file_hangs_its_reader(tmp_path, dark_is_lung, monkeypatch):
    monkeypatch.setattr("SAMLungSegLib.isolation.budget._BASE_SECONDS", 0.5)
    write_endless(tmp_path / "in" / "b.nrrd")
    for name in "ac":
        write_image(tmp_path / "in" / f"{name}.png", chest_picture())
    start = time.monotonic()
    result = run(tmp_path / "in", tmp_path / "out")
    assert [(row["id"], row["state"]) for row in result.rows] == [("a", "done"), ("b", "failed"), ("c", "done")]
    assert "b.nrrd took too long to read" in result.failed[0]["reason"]
    assert {path.name for path in result.files} >= {"table.csv", "summary.html"}
    assert time.monotonic() - start < 10


def test_a_file_that_cannot_be_read_costs_no_series_beside_it(tmp_path, dark_is_lung):
    write_series(tmp_path / "in" / "series")
    (tmp_path / "in" / "series" / "IM9.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 300)
    states = {row["id"]: row["state"] for row in run(tmp_path / "in", tmp_path / "out").rows}
    assert sorted(states.values()) == ["done", "failed"]
    assert next(name for name, state in states.items() if state == "failed").endswith("IM9")


# ---- mutants


@pytest.mark.slow
def test_300_mutants_of_all_formats_are_images_or_errors_in_words(tmp_path):
    originals = write_originals(tmp_path / "originals")
    assert all(read_volume(path).array_kji.size for path in originals)
    (tmp_path / "mutants").mkdir()
    outcomes = [outcome_of(path) for path in mutants(originals, tmp_path / "mutants", 300, seed=1)]
    assert len(outcomes) == 300 and 50 < outcomes.count("image") < 250


def outcome_of(path: Path) -> str:
    start = time.monotonic()
    try:
        assert isinstance(read_volume(path), Volume)
        return "image"
    except SAMLungSegError as error:
        assert path.name.partition(".")[0] in str(error), error
        return "error"
    finally:
        assert time.monotonic() - start < 10, path
        assert largest_child_mb() < 2048, path


def largest_child_mb() -> float:
    """The most memory that a process which this one started has had; 0 where the system does not tell."""
    found = [0]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found += map(int, re.findall(r"VmHWM:\s+(\d+)", (folder / "status").read_text()))
        except OSError:  # it has ended meanwhile
            continue
    return max(found) / 1024
