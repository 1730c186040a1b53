from __future__ import annotations

import sys
import types

import bridge_nodes as nodes
import numpy as np
import pytest
import slicer
from bridge_nodes import load, load_dicom_series
from dicomfiles import PIXELS, write_dicom

from SAMLungSegLib.errors import GeometryError, VolumeError
from SAMLungSegLib.volume import axial_plane, read_volume
from SAMLungSegSlicer import bridge

TURNED = nodes.affine([[0, -1, 0], [1, 0, 0], [0, 0, 1]], [5, 6, 7])


@pytest.mark.parametrize(
    ("stored", "narrowed"),
    [("int16", "int16"), ("uint8", "uint8"), ("uint16", "uint16"), ("int32", "int16"), ("float64", "float32")],
)
def test_voxels_have_the_values_and_the_type_that_the_librarys_reader_gives(tmp_path, stored, narrowed):
    array = np.arange(24).reshape(2, 3, 4).astype(stored)
    node = nodes.add_volume(array, nodes.random_grid(np.random.default_rng(1)))
    assert slicer.util.saveNode(node, str(tmp_path / "v.nrrd"))
    ours, librarys = bridge.volumeFromNode(node), read_volume(tmp_path / "v.nrrd")
    assert ours.array_kji.dtype == librarys.array_kji.dtype == narrowed
    assert np.array_equal(ours.array_kji, librarys.array_kji)
    assert np.allclose(ours.ijk_to_ras, librarys.ijk_to_ras, atol=1e-5)
    assert ours.name == "CT"


def test_values_that_do_not_fit_16_bits_stay_as_they_are():
    array = np.full((1, 2, 2), 70000, np.int32)
    assert bridge.volumeFromNode(nodes.add_volume(array)).array_kji.dtype == np.int32


def test_the_voxels_are_a_copy():
    node = nodes.add_volume(np.zeros((2, 3, 4), np.int16))
    volume = bridge.volumeFromNode(node)
    slicer.util.arrayFromVolume(node)[:] = 7
    assert not volume.array_kji.any()


def test_a_real_ct_comes_as_the_library_reads_it(shared_data):
    path = shared_data / "ct_cip_64" / "ct-64.nrrd"
    ours, librarys = bridge.volumeFromNode(load(path)), read_volume(path)
    assert np.array_equal(ours.array_kji, librarys.array_kji)
    assert ours.array_kji.dtype == librarys.array_kji.dtype
    assert np.allclose(ours.ijk_to_ras, librarys.ijk_to_ras)


def test_a_dicom_series_comes_as_the_library_reads_it(shared_data):
    folder = shared_data / "ct_abdomen_totalseg" / "dicom"
    node = load_dicom_series(folder)
    ours, librarys = bridge.volumeFromNode(node), read_volume(folder)
    assert np.array_equal(ours.array_kji, librarys.array_kji)
    assert ours.array_kji.dtype == librarys.array_kji.dtype
    assert np.allclose(ours.ijk_to_ras, librarys.ijk_to_ras, atol=1e-3)


def test_nested_parent_transforms_are_part_of_the_place():
    rng = np.random.default_rng(2)
    grid, inner, outer = nodes.random_grid(rng), nodes.random_transform(rng), nodes.random_transform(rng)
    parent = nodes.add_transform(inner, parent=nodes.add_transform(outer))
    node = nodes.add_volume(np.zeros((2, 3, 4), np.int16), grid, parent=parent)
    assert np.allclose(bridge.volumeFromNode(node).ijk_to_ras, outer @ inner @ grid)
    assert np.allclose(bridge.ijkToWorldMatrix(node), outer @ inner @ grid)


def test_a_quarter_turn_about_the_body_axis_moves_the_voxels_as_computed_by_hand():
    node = nodes.add_volume(
        np.zeros((2, 3, 4), np.int16), np.diag([2.0, 3.0, 4.0, 1.0]), parent=nodes.add_transform(TURNED)
    )
    assert np.allclose(bridge.ijkToWorldMatrix(node) @ [1, 1, 1, 1], [5 - 3, 6 + 2, 7 + 4, 1])


@pytest.mark.parametrize("nested", [False, True])
def test_a_volume_under_a_transform_that_bends_is_refused_with_advice(nested):
    bend = nodes.add_bending_transform()
    parent = nodes.add_transform(np.eye(4), parent=bend) if nested else bend
    node = nodes.add_volume(np.zeros((2, 3, 4), np.int16), parent=parent)
    with pytest.raises(GeometryError, match="harden the transform first"):
        bridge.volumeFromNode(node)


def test_a_transform_that_squeezes_space_flat_is_refused():
    node = nodes.add_volume(np.zeros((2, 3, 4), np.int16), parent=nodes.add_transform(np.diag([1.0, 1.0, 0.0, 1.0])))
    with pytest.raises(GeometryError, match="degenerate"):
        bridge.ijkToWorldMatrix(node)


def test_no_volume_and_a_volume_without_voxels_are_refused_by_name():
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Hollow")
    with pytest.raises(VolumeError, match="Volume Hollow has no voxels"):
        bridge.volumeFromNode(empty)
    with pytest.raises(VolumeError, match="No volume is given"):
        bridge.volumeFromNode(None)


# ---- pictures


@pytest.mark.parametrize("channels", [3, 4])
def test_a_grey_picture_saved_in_colour_comes_as_grey(channels):
    grey = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    stored = np.repeat(grey[..., None], channels, axis=-1)
    if channels == 4:
        stored[..., 3] = 255
    node = nodes.add_volume(stored, class_name="vtkMRMLVectorVolumeNode")
    assert np.array_equal(bridge.volumeFromNode(node).array_kji, grey)


def test_a_colour_picture_is_refused_in_the_librarys_words():
    stored = np.zeros((1, 3, 4, 3), np.uint8)
    stored[0, 1, 1] = (200, 20, 20)
    node = nodes.add_volume(stored, class_name="vtkMRMLVectorVolumeNode", name="photo")
    with pytest.raises(VolumeError, match="Volume photo is a colour image; expected grey values, convert it first"):
        bridge.volumeFromNode(node)


def test_two_values_in_each_voxel_are_refused():
    node = nodes.add_volume(np.zeros((1, 3, 4, 2), np.uint8), class_name="vtkMRMLVectorVolumeNode")
    with pytest.raises(VolumeError, match="2 values in each voxel"):
        bridge.volumeFromNode(node)


@pytest.mark.parametrize(
    ("name", "spacing", "physical"), [("x.png", 1, False), ("x.png", 0.5, True), ("x.nrrd", 1, True)]
)
def test_the_pixels_of_a_picture_are_not_mm_unless_somebody_gave_a_spacing(tmp_path, name, spacing, physical):
    node = nodes.add_volume(np.zeros((1, 3, 4), np.uint8))
    node.SetSpacing(spacing, spacing, 1)
    (tmp_path / name).touch()
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(tmp_path / name))
    node.SetAndObserveStorageNodeID(storage.GetID())
    assert bridge.volumeFromNode(node).has_physical_spacing is physical


# ---- DICOM


def test_the_modality_is_taken_from_the_subject_hierarchy():
    node = nodes.add_volume(np.zeros((1, 3, 4), np.int16))
    assert bridge.volumeFromNode(node).modality_hint is None
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
    hierarchy.SetItemAttribute(item, "DICOM.Modality", "CR")
    assert bridge.volumeFromNode(node).modality_hint == "XRAY"


@pytest.mark.parametrize(("code", "hint"), [("CT", "CT"), ("DX", "XRAY"), ("MR", None), ("", None)])
def test_the_modality_is_taken_from_the_dicom_database(monkeypatch, code, hint):
    database = types.SimpleNamespace(
        instanceValue=lambda uid, tag: code if (uid, tag) == ("1.5", "0008,0060") else "",
        fileForInstance=lambda uid: "",
    )
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    node = nodes.add_volume(np.zeros((2, 3, 4), np.int16))
    node.SetAttribute("DICOM.instanceUIDs", "1.5 1.6")
    assert bridge.volumeFromNode(node).modality_hint == hint


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12},
        {"PresentationLUTShape": "INVERSE"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
    ],
)
def test_bone_is_bright_in_an_xray_as_in_the_library(tmp_path, tags):
    path = write_dicom(tmp_path / "x.dcm", **tags)
    ours, librarys = bridge.volumeFromNode(load(path)), read_volume(path)
    assert np.array_equal(ours.array_kji, librarys.array_kji)
    assert ours.array_kji.dtype == librarys.array_kji.dtype
    assert ours.modality_hint == librarys.modality_hint == "XRAY"


def test_monochrome1_is_inverted_by_slicers_reader_itself_and_exactly_once(tmp_path):
    node = load(write_dicom(tmp_path / "x.dcm", PhotometricInterpretation="MONOCHROME1"))
    assert np.array_equal(slicer.util.arrayFromVolume(node)[0], 65535 - PIXELS.astype(int))


def test_monochrome1_does_not_change_the_hu_of_a_single_ct_slice(tmp_path):
    tags = {"Modality": "CT", "RescaleSlope": 2, "RescaleIntercept": -1000, "PhotometricInterpretation": "MONOCHROME1"}
    path = write_dicom(tmp_path / "x.dcm", **tags, ImageOrientationPatient=[1, 0, 0, 0, 1, 0], PixelSpacing=[1, 1])
    volume = bridge.volumeFromNode(load(path))
    assert np.array_equal(volume.array_kji[0], 2 * PIXELS.astype(int) - 1000)
    assert volume.modality_hint == "CT"


def test_an_xray_whose_voxels_were_edited_keeps_the_edit(tmp_path):
    node = load(write_dicom(tmp_path / "x.dcm", PresentationLUTShape="INVERSE"))
    slicer.util.arrayFromVolume(node)[0, 0, 0] = 77
    assert bridge.volumeFromNode(node).array_kji[0, 0, 0] == 77


@pytest.mark.parametrize("orientation", [["L", "F"], ["R", "F"], ["L", "H"], ["F", "L"], ["P", "F"], ["A", "F"]])
def test_right_and_left_of_an_xray_are_the_patients_by_patient_orientation(tmp_path, orientation):
    path = write_dicom(tmp_path / "x.dcm", PatientOrientation=orientation, ImagerPixelSpacing=[0.2, 0.1])
    ours, librarys = bridge.volumeFromNode(load(path)), read_volume(path)
    assert np.allclose(ours.ijk_to_ras[:3, :3], librarys.ijk_to_ras[:3, :3])
    assert np.array_equal(
        axial_plane(ours).to_display(ours.array_kji), axial_plane(librarys).to_display(librarys.array_kji)
    )


def test_an_xray_that_somebody_has_turned_lies_as_they_turned_it(tmp_path):
    node = load(write_dicom(tmp_path / "x.dcm", PatientOrientation=["R", "F"]))
    node.SetAndObserveTransformNodeID(nodes.add_transform(TURNED).GetID())
    assert np.allclose(bridge.volumeFromNode(node).ijk_to_ras, bridge.ijkToWorldMatrix(node))


def test_a_spacing_given_by_the_user_is_kept_with_the_files_directions(tmp_path):
    node = load(write_dicom(tmp_path / "x.dcm", PatientOrientation=["R", "F"]))
    node.SetSpacing(0.3, 0.4, 1)
    volume = bridge.volumeFromNode(node)
    assert volume.spacing_mm == pytest.approx((1, 0.4, 0.3))
    assert np.allclose(volume.ijk_to_ras[:3, 0], [0.3, 0, 0])  # columns run to the patient's right


def test_a_dicom_file_that_is_gone_leaves_what_slicer_knows(tmp_path):
    path = write_dicom(tmp_path / "x.dcm", PatientOrientation=["R", "F"])
    node = load(path)
    path.unlink()
    assert np.allclose(bridge.volumeFromNode(node).ijk_to_ras, bridge.ijkToWorldMatrix(node))


def test_importing_the_bridge_imports_nothing_heavy():
    heavy = {"torch", "SimpleITK", "pandas", "scipy", "skimage", "matplotlib", "SAMLungSegLib.volume"}
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] in heavy | {"SAMLungSegLib"}}
    kept |= {name: module for name, module in sys.modules.items() if name.startswith("SAMLungSegSlicer")}
    for name in kept:
        del sys.modules[name]
    try:
        __import__("SAMLungSegSlicer.bridge")
        assert not heavy & set(sys.modules)
    finally:
        sys.modules.update(kept)
