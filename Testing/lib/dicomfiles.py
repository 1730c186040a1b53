"""DICOM images of a few pixels, for tests."""

from __future__ import annotations

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

PIXELS = np.array([[0, 10, 20], [30, 40, 100]], np.uint16)
CT_IMAGE, DIGITAL_XRAY = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.1.1"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"


def write_dicom(path, pixels=PIXELS, **tags):
    """A minimal image file; pixels (rows, columns), or (frames, rows, columns)."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CT_IMAGE if tags.get("Modality") == "CT" else DIGITAL_XRAY
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    file.StudyInstanceUID, file.SeriesInstanceUID, file.Modality = "1.2", "1.2.3", "DX"
    file.PhotometricInterpretation, file.SamplesPerPixel = "MONOCHROME2", 1
    file.Rows, file.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        file.NumberOfFrames = len(pixels)
    file.BitsAllocated = file.BitsStored = 8 * pixels.dtype.itemsize
    file.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in tags.items():
        setattr(file, name, value)
    meta.MediaStorageSOPClassUID = file.SOPClassUID
    file.HighBit = file.BitsStored - 1
    file.PixelData = pixels.tobytes()
    pydicom.dcmwrite(path, file, enforce_file_format=True)
    return path


def ct_series(folder, hu_kji, *, direction=(1, 0, 0, 0, 1, 0), spacing_kji=(4.0, 1.0, 2.0), tilt=(0, 0, 0), **tags):
    """A CT of a file for each slice, the files named against their order; voxel (0, 0, 0) is the patient's origin.

    Args:
        folder: to make.
        hu_kji: whole numbers.
        direction: of rows and columns, LPS; slices follow their cross product.
        spacing_kji: in mm.
        tilt: what each slice is shifted by against the one before, LPS in mm.
        tags: of all files.
    """
    folder.mkdir()
    k, j, i = spacing_kji
    step = k * np.cross(direction[:3], direction[3:]) + np.array(tilt)
    names = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    study = {name: generate_uid() for name in names}
    for place, plane in enumerate(hu_kji):
        own = {
            **study,
            "ImagePositionPatient": [round(float(one), 6) for one in place * step],
            "ImageOrientationPatient": list(direction),
            "PixelSpacing": [j, i],
            "SliceThickness": k,
            "InstanceNumber": place + 1,
            "RescaleIntercept": 0,
            "RescaleSlope": 1,
        }
        path = folder / f"{len(hu_kji) - place:03d}.dcm"
        write_dicom(path, plane.astype(np.int16), Modality="CT", **{**own, **tags})
    return folder


def enhanced_ct(path, hu_kji, order, *, spacing_kji=(4.0, 1.0, 2.0)):
    """An enhanced CT whose frames are the slices `order`, axial, each with its place."""
    k, j, i = spacing_kji
    frames = []
    for place in order:
        frame = Dataset()
        frame.PlanePositionSequence = [_with(ImagePositionPatient=[0, 0, place * k])]
        frame.FrameContentSequence = [_with(FrameAcquisitionNumber=1)]
        frames.append(frame)
    shared = Dataset()
    shared.PlaneOrientationSequence = [_with(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]
    shared.PixelMeasuresSequence = [_with(PixelSpacing=[j, i], SliceThickness=k)]
    shared.PixelValueTransformationSequence = [_with(RescaleIntercept=0, RescaleSlope=1, RescaleType="HU")]
    return write_dicom(
        path,
        hu_kji[list(order)].astype(np.int16),
        Modality="CT",
        SOPClassUID=ENHANCED_CT,
        FrameOfReferenceUID=generate_uid(),
        PerFrameFunctionalGroupsSequence=frames,
        SharedFunctionalGroupsSequence=[shared],
    )


def _with(**values):
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item
