"""Small cohorts and a model that answers at once, shared by the tests of batch runs."""

from __future__ import annotations

import gzip
import json
import logging
import os
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from SAMLungSegLib.batch import run
from SAMLungSegLib.models.base import Embedding, ModelView, Prediction, PromptableModel
from SAMLungSegLib.models.capabilities import Capabilities
from SAMLungSegLib.models.choice import ModelChoice, note_origin

CT_IMAGE, REPORT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.11"


class DarkIsLung(PromptableModel):
    """Says that what is dark, in the box if there is one, is lung; its score grows with the share of such pixels."""

    name = "dark-is-lung"
    capabilities = Capabilities(needs_prompt=False)

    def __init__(self, seconds: float = 0.0, device: str = "cpu") -> None:
        self.seconds = seconds
        self.device = SimpleNamespace(type=device)

    def encode(self, views):
        slices = [ModelView.of(view).grey_hw for view in views]
        time.sleep(self.seconds * len(slices))
        return [Embedding((one,), one.shape) for one in slices]

    def decode(self, embedding, prompts):
        logits = np.where(embedding.features[0] < 100, 4, -4).astype(np.float32)
        if prompts.box is not None:
            left, top, right, bottom = (round(place) for place in prompts.box.xyxy)
            outside = np.ones(logits.shape, bool)
            outside[top : bottom + 1, left : right + 1] = False
            logits[outside] = -4
        return Prediction(logits, 0.5 + float((logits > 0).mean()), logits)


def use_dark_is_lung(monkeypatch=None, **settings) -> DarkIsLung:
    """Have every run answered by it, in a test or for good."""
    model = DarkIsLung(**settings)

    def load(choice: ModelChoice, device: str = "auto") -> DarkIsLung:
        note_origin(model, choice)
        return model

    if monkeypatch is None:
        ModelChoice.load = load
    else:
        monkeypatch.setattr(ModelChoice, "load", load)
    return model


def chest_picture(seed: int = 0, size_hw: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Uint8 (H, W), two dark ovals on grey; each seed has others."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size_hw[0], : size_hw[1]] / np.array(size_hw)[:, None, None]
    picture = rng.integers(170, 200, size_hw).astype(np.uint8)
    for centre in (0.27, 0.73):
        radii = rng.uniform(0.12, 0.2), rng.uniform(0.25, 0.4)
        picture[((x - centre) / radii[0]) ** 2 + ((y - 0.5) / radii[1]) ** 2 < 1] = rng.integers(20, 60)
    return picture


def chest_hu(seed: int = 0, slices: int = 4) -> np.ndarray:
    """Int16 (K, J, I) in HU, two dark ovals in each slice but the first and the last."""
    lung = chest_picture(seed) < 100
    hu = np.where(lung, -850, 40).astype(np.int16)[None].repeat(slices, axis=0)
    hu[[0, -1]] = 40
    return hu


def write_image(path: Path, array: np.ndarray, spacing_mm: tuple[float, ...] = (6.0, 6.0, 40.0)) -> Path:
    """Write a picture or a volume; the spacing, along I, J and K, makes lungs of a plausible size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    if array.ndim == 3 and path.suffix != ".png":
        image.SetSpacing(spacing_mm)
    sitk.WriteImage(image, str(path))
    return path


def write_slice(path: Path, pixels: np.ndarray, place_mm: float, series: str, **tags) -> Path:
    """A CT slice as a DICOM file; `sop_class` makes something else of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = tags.pop("sop_class", CT_IMAGE)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    file.StudyInstanceUID, file.SeriesInstanceUID, file.Modality = "1.2", series, "CT"
    file.PhotometricInterpretation, file.SamplesPerPixel, file.PixelSpacing = "MONOCHROME2", 1, [6, 6]
    file.ImageOrientationPatient, file.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, place_mm]
    file.Rows, file.Columns = pixels.shape
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 1
    file.PixelData = pixels.astype(np.int16).tobytes()
    for name, value in tags.items():
        setattr(file, name, value)
    pydicom.dcmwrite(path, file, enforce_file_format=True)
    return path


def write_series(folder: Path, seed: int = 0, series: str | None = None, places_mm=(0, 40, 80, 120)) -> Path:
    """A DICOM series of `chest_hu`, one file for each place."""
    series = series or f"1.2.3.{seed}"
    for number, (place, pixels) in enumerate(zip(places_mm, chest_hu(seed, len(places_mm)), strict=True)):
        write_slice(folder / f"IM{number:04}", pixels, place, series)
    return folder


def write_broken(folder: Path, kind: str) -> Path:
    """An image that cannot be used, one of `BROKEN`."""
    folder.mkdir(parents=True, exist_ok=True)
    return _BREAKERS[kind](folder / f"{kind.replace(' ', '_')}.nii")


def _write_bytes(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _nifti(place: int = 0, instead: bytes = b"") -> bytes:
    """A sound volume, but for some bytes."""
    with tempfile.TemporaryDirectory() as folder:
        content = bytearray(write_image(Path(folder, "sound.nii"), chest_hu()).read_bytes())
    content[place : place + len(instead)] = instead
    return bytes(content)


def _write_4d(path: Path) -> Path:
    sitk.WriteImage(sitk.JoinSeries([sitk.Image(4, 4, 4, sitk.sitkInt16)] * 2), str(path))
    return path


def _write_mixed(path: Path) -> Path:
    folder = write_series(path.with_suffix(""), 902)
    write_slice(folder / "scout", np.zeros((9, 11)), 300, "1.2.3.902")
    return folder


def _make_pipe(path: Path) -> Path:
    os.mkfifo(path)  # reading it would wait for ever
    return path


def _link_to_itself(path: Path) -> Path:
    path.symlink_to(path)
    return path


_BREAKERS = {
    "truncated": lambda path: _write_bytes(path.with_suffix(".nii.gz"), gzip.compress(_nifti())[:-100]),
    "empty": lambda path: _write_bytes(path, b""),
    "text": lambda path: _write_bytes(path, b"no image at all"),
    "4D": _write_4d,
    "wrong extension": lambda path: _write_bytes(path.with_suffix(".png"), _nifti()),
    "NaN": lambda path: write_image(path.with_suffix(".nrrd"), np.full((3, 4, 5), np.nan, np.float32)),
    "missing slices": lambda path: write_series(path.with_suffix(""), 901, places_mm=(0, 40, 80, 200, 240)),
    "mixed series": _write_mixed,
    "unreadable": _make_pipe,
    "huge header": lambda path: _write_bytes(path, _nifti(42, np.array([32767] * 3, np.int16).tobytes())),
    "zero spacing": lambda path: _write_bytes(path, _nifti(80, np.float32(0).tobytes())),
    "link loop": _link_to_itself,
}
BROKEN = tuple(_BREAKERS)


def write_cohort(folder: Path, pictures: int = 6, volumes: int = 2, series: int = 1, broken=()) -> Path:
    """A tree with so many of each; beside them what is no image."""
    for seed in range(pictures):
        write_image(folder / "xrays" / f"{seed % 3}" / f"x{seed:03}.png", chest_picture(seed))
    for seed in range(volumes):
        write_image(folder / "cts" / f"ct{seed:03}.nii.gz", chest_hu(seed))
    for seed in range(series):
        write_series(folder / "dicom" / f"patient{seed}" / "series", seed)
    for kind in broken:
        write_broken(folder / "broken", kind)
    (folder / "README.txt").write_text("about the data")
    (folder / ".hidden.png").write_bytes(b"no picture")
    (folder / "xrays" / "round").symlink_to(folder, target_is_directory=True)
    return folder


def run_with_dark_is_lung(cohort: Path, output: Path, seconds: float) -> None:
    """A run in a process of its own."""
    use_dark_is_lung(seconds=seconds)
    logging.disable(logging.CRITICAL)
    run(cohort, output)


def segmented(output: Path) -> list[str]:
    """Ids in the order in which the model was asked about them, over all runs."""
    lines = (output / "journal.jsonl").read_text().splitlines()
    return [json.loads(line)["id"] for line in lines if line.startswith('{"event": "segmenting"')]
