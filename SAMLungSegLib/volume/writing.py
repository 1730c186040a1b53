"""Writing labelmaps on the grid of the image they belong to."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from SAMLungSegLib.errors import GeometryError, OutputError, VolumeError
from SAMLungSegLib.files import replacing, write_bytes
from SAMLungSegLib.structures import ExtentChoice, LabelSet, lungs_of_extent
from SAMLungSegLib.volume.colours import label_colours
from SAMLungSegLib.volume.dicomout import Algorithm, write_dicom_segmentation
from SAMLungSegLib.volume.extents import EXTENT_NAME
from SAMLungSegLib.volume.itk import check_name, image_of, itk_reason
from SAMLungSegLib.volume.structuresets import write_structure_set
from SAMLungSegLib.volume.types import Volume
from SAMLungSegLib.volume.verifying import check_holds

LABELMAP_EXTENSIONS = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".mha", ".png")  # of any image
RESULT_EXTENSIONS = (*LABELMAP_EXTENSIONS, ".rtstruct.dcm", ".dcm")  # the last two of DICOM images

_NIFTI_SHEAR_TOLERANCE = 1e-4
_WITH_METADATA = (".seg.nrrd", ".nrrd")


def write_labelmap(
    labelmap_kji: np.ndarray,
    like: Volume,
    path: str | os.PathLike,
    *,
    metadata: Mapping[str, str] | None = None,
    dtype: type[np.unsignedinteger] = np.uint8,
    label_set: LabelSet | None = None,
    extent: ExtentChoice | None = None,
    algorithm: Algorithm | None = None,
) -> None:
    """Write a labelmap on the grid of `like`; the file appears complete or not at all.

    The extension chooses the format: .nii.gz, .nii, .nrrd, .mha; .seg.nrrd, a Slicer segmentation with the names,
    colours and terminology of the label set; .png for a single slice, as stored, with a palette of these colours, whose
    indices are the label values (16 bit: grey levels); .dcm, a DICOM segmentation of an image that was read from DICOM,
    see `dicomout`; .rtstruct.dcm, an RT Structure Set of a CT that was read from DICOM, see `structuresets`.

    Args:
        labelmap_kji: bool or integer (K, J, I), values 0 to 255, or those of `dtype`.
        like: the image that was segmented.
        path: the file to write or replace; its folder exists.
        metadata: texts by name to keep in a .seg.nrrd or .nrrd file; other formats have no place for them.
        dtype: np.uint8, or np.uint16 for more than 255 labels.
        label_set: what the labels stand for, where these are not lungs.
        extent: of lungs on an X-ray, which says what the labels stand for; kept in .seg.nrrd, .nrrd and .png files.
        algorithm: what made it, for .dcm.
    Raises:
        VolumeError: unknown extension, values that do not fit, more than one slice as PNG, or a failure to write.
        SettingsError: .dcm without highdicom.
        GeometryError: another size than `like`, or a sheared grid as NIfTI.
    """
    path = Path(path)
    extension = _extension(path)
    labelmap_kji = _checked_labelmap(labelmap_kji, like, dtype)
    label_set = label_set or lungs_of_extent(extent)
    own = {EXTENT_NAME: extent} if extent else {}
    if extension == ".png":
        _write_picture(_plane(labelmap_kji, path), path, label_set, own)
        return
    if extension == ".rtstruct.dcm":
        write_structure_set(labelmap_kji, like, path, label_set, algorithm or Algorithm())
        return
    if extension == ".dcm":
        write_dicom_segmentation(labelmap_kji, like, path, label_set, algorithm)
        return
    image = image_of(labelmap_kji, like.ijk_to_ras)
    if extension in (".nii", ".nii.gz"):
        _check_not_sheared(like, path)
    if extension == ".seg.nrrd":
        _describe_segments(image, labelmap_kji, label_set, own)
    if extension in _WITH_METADATA:
        for name, text in {**(metadata or {}), **own}.items():
            image.SetMetaData(name, text)
    _write_whole(image, path)


def write_volume(volume: Volume, path: Path) -> None:
    """Write an image as it is, as .nrrd, .mha or .nii.gz; the file appears complete or not at all.

    Raises:
        OutputError: it cannot be written.
        GeometryError: a sheared grid as NIfTI.
    """
    if path.name.lower().endswith((".nii", ".nii.gz")):
        _check_not_sheared(volume, path)
    _write_whole(image_of(np.ascontiguousarray(volume.array_kji), volume.ijk_to_ras), path)


def _extension(path: Path) -> str:
    found = next((extension for extension in RESULT_EXTENSIONS if path.name.lower().endswith(extension)), None)
    if found is None:
        raise OutputError(f"A labelmap cannot be written as {path.name}; use one of {', '.join(RESULT_EXTENSIONS)}.")
    return found


def _checked_labelmap(labelmap_kji: np.ndarray, like: Volume, dtype: type[np.unsignedinteger]) -> np.ndarray:
    if labelmap_kji.shape != like.size_kji:
        raise GeometryError(f"The labelmap has shape {labelmap_kji.shape}, image {like.name} has {like.size_kji}.")
    most = np.iinfo(dtype).max
    if labelmap_kji.dtype.kind not in "biu" or labelmap_kji.min() < 0 or labelmap_kji.max() > most:
        raise VolumeError(f"A labelmap of type {labelmap_kji.dtype} does not fit; expected integers from 0 to {most}.")
    return np.ascontiguousarray(labelmap_kji, dtype=dtype)


def _plane(labelmap_kji: np.ndarray, path: Path) -> np.ndarray:
    thin = [axis for axis, size in enumerate(labelmap_kji.shape) if size == 1]
    if not thin:
        raise OutputError(f"{path.name} can hold one slice, the labelmap has size {labelmap_kji.shape}; use .nii.gz.")
    return np.ascontiguousarray(labelmap_kji.squeeze(axis=thin[0]))


def _write_picture(labels_hw: np.ndarray, path: Path, label_set: LabelSet, texts: Mapping[str, str]) -> None:
    from PIL import Image, PngImagePlugin

    said = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        said.add_text(name, text)
    picture = Image.fromarray(labels_hw)
    if labels_hw.dtype == np.uint8:
        picture.putpalette(label_colours(label_set).tobytes())  # the pixels keep their values
    content = io.BytesIO()
    picture.save(content, format="PNG", pnginfo=said)
    write_bytes(content.getvalue(), path)


def _check_not_sheared(like: Volume, path: Path) -> None:
    directions = like.ijk_to_ras[:3, :3] / np.linalg.norm(like.ijk_to_ras[:3, :3], axis=0)
    if np.abs(directions.T @ directions - np.eye(3)).max() > _NIFTI_SHEAR_TOLERANCE:
        raise GeometryError(f"The grid of {like.name} is sheared, which {path.name} cannot hold; use .nrrd or .mha.")


def _describe_segments(
    image: sitk.Image, labelmap_kji: np.ndarray, label_set: LabelSet, tags: Mapping[str, str]
) -> None:
    """Add the fields by which Slicer reads a NRRD file as a segmentation (vtkMRMLSegmentationStorageNode)."""
    unnamed = set(np.unique(labelmap_kji).tolist()) - {0} - {*label_set.labels}
    if unnamed:
        raise OutputError(
            f"Labels {sorted(unnamed)} are not of the set '{label_set.name}', so .seg.nrrd cannot name them; use .nrrd."
        )
    fields = {
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ConversionParameters": "",
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    extent = " ".join(f"0 {size - 1}" for size in reversed(labelmap_kji.shape))
    for index, (label, structure) in enumerate(label_set):
        said = {"TerminologyEntry": structure.terminology, **tags}
        one = {
            "ID": f"Segment_{label}",
            "Name": structure.name,
            "NameAutoGenerated": "0",
            "Color": " ".join(f"{value / 255:.6g}" for value in structure.colour),
            "ColorAutoGenerated": "0",
            "Extent": extent,
            "LabelValue": str(label),
            "Layer": "0",
            "Tags": "".join(f"{name}:{text}|" for name, text in said.items()),
        }
        fields |= {f"Segment{index}_{key}": value for key, value in one.items()}
    for key, value in fields.items():
        image.SetMetaData(key, value)


def _write_whole(image: sitk.Image, path: Path) -> None:
    check_name(path)
    with replacing(path, lambda written: check_holds(written, sitk.GetArrayViewFromImage(image))) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
        except RuntimeError as error:
            raise OSError(itk_reason(error).replace(str(temporary), path.name)) from error
