"""Small images of every format, and what becomes of them when bytes and words are changed at random."""

from __future__ import annotations

import gzip
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813
from cohorts import chest_hu, chest_picture, write_image, write_series, write_slice
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from SAMLungSegLib.volume import Volume, write_labelmap

_ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
_HEADER_BYTES = 1200
_NUMBERS = (
    *(b"0", b"-1", b"-2147483648", b"2147483647", b"4294967295", b"9223372036854775807", b"18446744073709551616"),
    *(b"1e308", b"nan", b"1e-320", b"99999999999999999999999999", b"65536", b"30000"),
)
_WORDS = (
    b"%s%s%n",
    b"%d",
    b"A" * 5000,
    b"\xff\xfe\x00",
    b"LOCAL",
    b"LIST",
    b"gzip",
    b"raw",
    b"/dev/zero",
    b"../x",
    b"",
)
_TEXT_FORMATS = (".nrrd", ".nhdr", ".mha", ".mhd")
_INTEGERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def write_originals(folder: Path) -> list[Path]:
    """One sound image of each format, and labelmaps; files that belong together lie in one folder."""
    hu, lung = chest_hu(0, 6), (chest_hu(0, 6) == -850).astype(np.uint8)
    files = [
        write_image(folder / f"ct{number}" / f"chest{extension}", hu)
        for number, extension in enumerate((".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"))
    ]
    for extension in (".nrrd", ".mha", ".nii"):
        image = sitk.GetImageFromArray(hu.astype(np.float32))
        files.append(folder / f"compressed{extension}" / f"chest{extension}")
        files[-1].parent.mkdir()
        sitk.WriteImage(image, str(files[-1]), useCompression=True)
    like = Volume(hu, np.diag([-6.0, -6, 40, 1]))
    for extension in (".seg.nrrd", ".nii.gz", ".png"):
        files.append(folder / f"labels{extension}" / f"chest{extension}")
        files[-1].parent.mkdir()
        flat = extension == ".png"
        write_labelmap(lung[2:3] if flat else lung, Volume(hu[2:3], like.ijk_to_ras) if flat else like, files[-1])
    files += [write_image(folder / f"x{one}" / f"chest{one}", chest_picture(1)) for one in (".png", ".jpg", ".tif")]
    files.append(write_slice(folder / "dicom" / "chest.dcm", hu[2], 0, "1.2.3"))
    files.append(_write_enhanced(folder / "enhanced" / "chest.dcm", hu))
    files.append(write_series(folder / "series" / "chest"))
    return files


def _write_enhanced(path: Path, hu: np.ndarray) -> Path:
    """An enhanced CT: all frames in one file."""
    write_slice(path, hu[0], 0, "1.2.4", sop_class=_ENHANCED_CT)
    file = pydicom.dcmread(path)
    del file.ImagePositionPatient, file.ImageOrientationPatient, file.PixelSpacing
    file.NumberOfFrames = len(hu)
    file.PixelData = hu.tobytes()
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [6, 6], 40
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared = Dataset()
    shared.PixelMeasuresSequence = DicomSequence([measures])
    shared.PlaneOrientationSequence = DicomSequence([orientation])
    file.SharedFunctionalGroupsSequence = DicomSequence([shared])
    frames = []
    for number in range(len(hu)):
        position, frame = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, 40 * number]
        frame.PlanePositionSequence = DicomSequence([position])
        frames.append(frame)
    file.PerFrameFunctionalGroupsSequence = DicomSequence(frames)
    file.save_as(path)
    return path


def write_endless(path: Path) -> Path:
    """A NRRD of 3 MB that has its reader skip 3 GB one by one, for longer than any test waits."""
    head = b"NRRD0005\ntype: uchar\ndimension: 3\nsizes: 4 4 2\nencoding: gzip\nbyte skip: 3000000000\n\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + 200 * gzip.compress(bytes(1 << 24), 9))
    return path


def mutants(originals: list[Path], folder: Path, count: int, seed: int = 0) -> Iterator[Path]:
    """So many images, one after the other; each is deleted when the next one is asked for."""
    chance = random.Random(seed)
    for number in range(count):
        original = originals[number % len(originals)]
        place = folder / f"m{number:05}"
        shutil.copytree(original.parent, place)
        image = place / original.name
        _mutate_file(chance.choice(_files(image)), chance)
        yield image
        shutil.rmtree(place)


def _files(image: Path) -> list[Path]:
    """Those that hold an image; of a header and its data mostly the header."""
    if image.is_dir():
        return sorted(image.iterdir())
    beside = [one for one in sorted(image.parent.iterdir()) if one != image]
    return [image] * 5 + beside


def _mutate_file(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    is_unpacked = content.startswith(b"\x1f\x8b") and chance.random() < 0.8
    if is_unpacked:
        content = gzip.decompress(content)
    is_text = path.name.endswith(_TEXT_FORMATS) and chance.random() < 0.7
    for _ in range(chance.choice((1, 1, 2, 4))):
        content = chance.choice(_OF_TEXT if is_text else _OF_BYTES)(content, chance)
    path.write_bytes(gzip.compress(content, 1) if is_unpacked else content)


def _place(content: bytes, chance: random.Random) -> int:
    """Mostly in the header."""
    return chance.randrange(max(1, min(len(content), _HEADER_BYTES) if chance.random() < 0.8 else len(content)))


def _flip(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice((1, 3, 20))):
        changed[_place(content, chance)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _put_integer(content: bytes, chance: random.Random) -> bytes:
    size, order = chance.choice((1, 2, 4, 8)), chance.choice(("little", "big"))
    number = (chance.choice(_INTEGERS) & ((1 << 8 * size) - 1)).to_bytes(size, order)
    place = _place(content, chance)
    return content[:place] + number + content[place + size :]


def _truncate(content: bytes, chance: random.Random) -> bytes:
    return content[: _place(content, chance) + 1]


def _drop(content: bytes, chance: random.Random) -> bytes:
    place = _place(content, chance)
    return content[:place] + content[place + chance.choice((1, 2, 8, 100)) :] or b"\0"


def _insert(content: bytes, chance: random.Random) -> bytes:
    place = _place(content, chance)
    return content[:place] + chance.choice((b"\xff" * 64, b"A" * 5000, b"\0" * 16, *_WORDS)) + content[place:]


def _repeat(content: bytes, chance: random.Random) -> bytes:
    first, length = _place(content, chance), chance.choice((8, 64, 512))
    return content[: first + length] + content[first:]


def _put_in_text(pattern: bytes, choices: tuple[bytes, ...]) -> Callable[[bytes, random.Random], bytes]:
    def change(content: bytes, chance: random.Random) -> bytes:
        found = list(re.finditer(pattern, content[:_HEADER_BYTES]))
        if not found:
            return _flip(content, chance)
        one = chance.choice(found)
        return content[: one.start()] + chance.choice(choices) + content[one.end() :]

    return change


def _swap_lines(content: bytes, chance: random.Random) -> bytes:
    lines = content[:_HEADER_BYTES].splitlines(keepends=True)
    first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    return b"".join(lines) + content[_HEADER_BYTES:]


_OF_BYTES = (_flip, _flip, _put_integer, _put_integer, _put_integer, _truncate, _drop, _insert, _repeat)
_OF_TEXT = (
    *[_put_in_text(rb"-?\d+(\.\d+)?", _NUMBERS)] * 4,
    *[_put_in_text(rb"(?<=[:=] )[^\r\n]+", (*_NUMBERS, *_WORDS))] * 3,
    *[_put_in_text(rb"[A-Za-z]+", _WORDS)] * 2,
    *(_swap_lines, _drop, _insert, _repeat, _truncate),
)
