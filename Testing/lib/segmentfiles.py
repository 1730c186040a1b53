"""Segmentations as other programs write them: Slicer's NRRD with layers, and DICOM."""

from __future__ import annotations

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

TERMINOLOGY = "Segmentation category and type~SCT^123037004^Anatomical Structure~{}~{}~Anatomic codes~^^~^^"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_VALUES = "1.2.840.10008.5.1.4.1.1.66.7"


def segmentation(path, layers, segments, *, last=False):
    """A NRRD file on the grid of `small_lungs.ras_matrix`; segments are (name, label value, layer, tags)."""
    k, j, i = layers[0].shape
    several = len(layers) > 1
    data = np.stack(layers, 0 if last else -1) if several else layers[0]
    sizes, places = [i, j, k], ["(2,0,0)", "(0,1,0)", "(0,0,4)"]
    kinds = ["domain"] * 3
    if several:
        where = 3 if last else 0
        for values, value in ((sizes, len(layers)), (places, "none"), (kinds, "list")):
            values.insert(where, value)
    head = ["NRRD0004", "type: unsigned char", f"dimension: {len(sizes)}", "space: left-posterior-superior"]
    head += [f"sizes: {' '.join(map(str, sizes))}", f"space directions: {' '.join(places)}"]
    head += [f"kinds: {' '.join(kinds)}", "encoding: raw", "space origin: (0,0,0)"]
    for number, (name, label, layer, *tags) in enumerate(segments):
        fields = {"ID": f"S{number}", "Name": name, "LabelValue": label, "Layer": layer, "Tags": "|".join(tags)}
        head += [f"Segment{number}_{key}:={value}" for key, value in fields.items() if value is not None]
    path.write_bytes("\n".join(head).encode() + b"\n\n" + data.astype(np.uint8).tobytes())
    return path


def coded(entry: str) -> str:
    """The tag of a terminology 'SCT^code^meaning', with '~SCT^code^side' after it where it has one."""
    type_code, _, modifier = entry.partition("~")
    return f"TerminologyEntry:{TERMINOLOGY.format(type_code, modifier or '^^')}"


def dicom_segmentation(
    path,
    segments,
    *,
    direction=(1, 0, 0, 0, 1, 0),
    spacing_kji=(4.0, 1.0, 2.0),
    kind="BINARY",
    keep_empty=False,
    **tags,
):
    """A DICOM segmentation whose voxel (0, 0, 0) is the patient's origin.

    Args:
        path: to write.
        segments: (label, code 'SCT^code^meaning[~SCT^code^side]' or '', mask (K, J, I)) of segments 1, 2, and so on.
        direction: of rows and columns, LPS.
        spacing_kji: in mm.
        kind: 'BINARY', 'FRACTIONAL' (the masks are 0 to 1) or 'LABELMAP'.
        keep_empty: whether planes of a segment that hold nothing have a frame.
        tags: of the file, in place of its own.
    """
    k, j, i = spacing_kji
    normal = np.cross(direction[:3], direction[3:])
    class_uid = LABEL_VALUES if kind == "LABELMAP" else SEGMENTATION
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, class_uid
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = class_uid, meta.MediaStorageSOPInstanceUID
    file.StudyInstanceUID, file.SeriesInstanceUID, file.Modality = "1.2", "1.2.3", "SEG"
    file.SegmentationType, file.SamplesPerPixel, file.PhotometricInterpretation = kind, 1, "MONOCHROME2"
    file.SegmentSequence = [_described(number, *one[:2]) for number, one in enumerate(segments, start=1)]
    file.SharedFunctionalGroupsSequence = [
        _item(
            PlaneOrientationSequence=_item(ImageOrientationPatient=list(direction)),
            PixelMeasuresSequence=_item(PixelSpacing=[j, i], SliceThickness=k),
        )
    ]
    masks = [np.asarray(mask) for _, _, mask in segments]
    if kind == "LABELMAP":
        masks = [sum(np.where(mask, number, 0) for number, mask in enumerate(masks, start=1))]
    frames, pixels = [], []
    for number, mask in enumerate(masks, start=1):
        for place, plane in enumerate(mask):
            if keep_empty or plane.any():
                frame = _item(
                    PlanePositionSequence=_item(ImagePositionPatient=[round(float(x), 6) for x in place * k * normal])
                )
                if kind != "LABELMAP":
                    frame.SegmentIdentificationSequence = [_item(ReferencedSegmentNumber=number)]
                frames.append(frame)
                pixels.append(plane)
    file.PerFrameFunctionalGroupsSequence, file.NumberOfFrames = frames, len(frames)
    file.Rows, file.Columns = pixels[0].shape
    file.BitsAllocated = file.BitsStored = 1 if kind == "BINARY" else 8
    file.HighBit, file.PixelRepresentation = file.BitsStored - 1, 0
    if kind == "FRACTIONAL":
        file.SegmentationFractionalType, file.MaximumFractionalValue = "PROBABILITY", 200
    stored = np.stack(pixels)
    values = np.rint(stored * 200) if kind == "FRACTIONAL" else stored
    data = np.packbits(stored, bitorder="little").tobytes() if kind == "BINARY" else values.astype(np.uint8).tobytes()
    file.PixelData = data + b"\0" * (len(data) % 2)
    for name, value in tags.items():
        setattr(file, name, value)
    pydicom.dcmwrite(path, file, enforce_file_format=True)
    return path


def _described(number: int, label: str, entry: str) -> Dataset:
    item = _item(SegmentNumber=number, SegmentLabel=label)
    type_code, _, modifier = entry.partition("~")
    if type_code:
        item.SegmentedPropertyTypeCodeSequence = [_code(type_code)]
        if modifier:
            item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [_code(modifier)]
    return item


def _code(entry: str) -> Dataset:
    scheme, value, meaning = entry.split("^")
    return _item(CodingSchemeDesignator=scheme, CodeValue=value, CodeMeaning=meaning)


def _item(**values: object) -> Dataset:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, [value] if isinstance(value, Dataset) else value)
    return item
