"""Segmentations of 3D Slicer: lungs by the names of their segments, in whatever layer and with whatever value."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from segmentfiles import TERMINOLOGY, segmentation
from small_lungs import lungs, ras_matrix, row, volume

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.evaluation import evaluate
from SAMLungSegLib.training.data.cases import StudyCase
from SAMLungSegLib.volume import read_volume, write_labelmap
from SAMLungSegLib.volume.lungnames import side_of_name
from SAMLungSegLib.volume.structurenames import Terminology, known_structures

LUNG, RIGHT, LEFT = "SCT^39607008^Lung", "SCT^24028007^Right", "SCT^7771000^Left"
RIGHT_KJI, LEFT_KJI = lungs() == 1, lungs() == 2


def dices(path, prediction=None):
    result = evaluate(volume(lungs()) if prediction is None else prediction, read_volume(path))
    return dict(zip(result.per_volume["structure"], result.per_volume["dice"], strict=True)), result


PERFECT = {"right lung": 1, "left lung": 1, "both lungs": 1}


@pytest.mark.parametrize("last", [False, True], ids=["layers run fastest", "layers run slowest"])
def test_lungs_in_layers_of_their_own_are_both_read(tmp_path, caplog, last):
    layers = [LEFT_KJI, lungs() > 0, RIGHT_KJI]
    names = [("left lung", 1, 0), ("thorax", 1, 1), ("right lung", 1, 2)]
    path = segmentation(tmp_path / "three.seg.nrrd", layers, names, last=last)
    assert np.array_equal(read_volume(path).array_kji, lungs())
    assert read_volume(path).ijk_to_ras == pytest.approx(ras_matrix())
    assert dices(path)[0] == PERFECT
    assert "left out: 'thorax'" in caplog.text


def test_segments_of_older_files_have_a_layer_each(tmp_path):
    names = [("Lung_L", None, None), ("Lung_R", None, None)]
    assert dices(segmentation(tmp_path / "old.seg.nrrd", [LEFT_KJI, RIGHT_KJI], names))[0] == PERFECT


def test_a_layer_may_hold_several_segments(tmp_path):
    lower = np.zeros_like(RIGHT_KJI)
    lower[1] = RIGHT_KJI[1]
    first = np.where(LEFT_KJI, 5, 0) + np.where(RIGHT_KJI & ~lower, 9, 0)
    names = [("left lung", 5, 0), ("right upper lobe", 9, 0), ("right lower lobe", 3, 1)]
    assert dices(segmentation(tmp_path / "lobes.seg.nrrd", [first, lower * 3], names))[0] == PERFECT


@pytest.mark.parametrize("extension", [".seg.nrrd", ".nrrd"])
def test_names_count_where_label_values_say_otherwise(tmp_path, extension):
    exchanged = np.where(LEFT_KJI, 1, np.where(RIGHT_KJI, 2, 0))
    path = segmentation(tmp_path / f"case{extension}", [exchanged], [("Left lung", 1, 0), ("Right lung", 2, 0)])
    found, result = dices(path)
    assert found == PERFECT
    assert not any("exchanged" in note for note in result.notes)


def test_terminology_says_the_side_where_the_name_does_not(tmp_path):
    tags = [f"Segmentation.Status:done|TerminologyEntry:{TERMINOLOGY.format(LUNG, side)}" for side in (LEFT, RIGHT)]
    segments = [("Segment_1", 1, 0, tags[0]), ("Segment_2", 2, 0, tags[1])]
    path = segmentation(tmp_path / "case.seg.nrrd", [np.where(LEFT_KJI, 1, RIGHT_KJI * 2)], segments)
    assert dices(path)[0] == PERFECT


def test_a_name_and_a_terminology_of_two_sides_are_refused(tmp_path):
    tag = f"TerminologyEntry:{TERMINOLOGY.format(LUNG, LEFT)}"
    path = segmentation(tmp_path / "case.seg.nrrd", [lungs()], [("right lung", 1, 0, tag), ("left lung", 2, 0)])
    with pytest.raises(VolumeError, match="segment 'right lung' is the left lung by its terminology"):
        read_volume(path)


def test_lobes_are_joined_to_their_lungs(tmp_path):
    labels = np.where(RIGHT_KJI, 1, LEFT_KJI * 4)
    labels[1][RIGHT_KJI[1]], labels[3][RIGHT_KJI[3]], labels[2][LEFT_KJI[2]] = 2, 3, 5
    names = ("lung_middle_lobe_right", "lung_lower_lobe_right", "lung_upper_lobe_right")
    names += ("lung_upper_lobe_left", "lung_lower_lobe_left")
    segments = [(name, label, 0) for name, label in zip(names, (1, 2, 3, 4, 5), strict=True)]
    assert dices(segmentation(tmp_path / "case.seg.nrrd", [labels], segments))[0] == PERFECT


def test_voxels_of_both_lungs_are_counted_and_kept(tmp_path, caplog):
    right = RIGHT_KJI.copy()
    right[2, 2, 6:8] = True
    path = segmentation(tmp_path / "two.seg.nrrd", [right, LEFT_KJI], [("right lung", 1, 0), ("left lung", 1, 1)])
    found, result = dices(path)
    assert "2 voxels are in the right lung and in the left" in caplog.text
    assert found["both lungs"] == 1
    assert row(result.per_volume, structure="left lung")["reference_voxels"] == 24 - 2


def test_layers_without_names_of_lungs_are_refused_in_words(tmp_path):
    path = segmentation(tmp_path / "two.seg.nrrd", [RIGHT_KJI, LEFT_KJI], [("Segment_1", 1, 0), ("Segment_2", 1, 1)])
    with pytest.raises(VolumeError, match="2 layers, with the segments 'Segment_1', 'Segment_2'"):
        read_volume(path)


def test_labels_count_by_number_where_names_say_nothing(tmp_path, caplog):
    segments = [("Segment_1", 1, 0), ("Segment_2", 2, 0)]
    assert dices(segmentation(tmp_path / "plain.seg.nrrd", [lungs()], segments))[0] == PERFECT
    assert "labels count by number" not in caplog.text
    segments = [("heart", 1, 0), ("femur", 2, 0)]
    read_volume(segmentation(tmp_path / "other.seg.nrrd", [lungs()], segments))
    assert caplog.text.count("no segment is known by its code or name ('heart', 'femur'); labels count by number") == 1


def test_one_segment_of_both_lungs_is_compared_as_both_and_lung_by_lung_where_they_lie_apart(tmp_path):
    together = lungs() > 0
    path = segmentation(tmp_path / "case.seg.nrrd", [together], [("lungs", 1, 0)])
    assert dices(path)[0] == PERFECT
    together[2, 3, 4:6] = True
    path = segmentation(tmp_path / "case.seg.nrrd", [together], [("lungs", 1, 0)])
    assert dices(path)[0] == {"both lungs": pytest.approx(2 * 60 / (60 + 62))}


def test_labels_that_are_given_go_before_names(tmp_path):
    path = segmentation(tmp_path / "case.seg.nrrd", [lungs()], [("left lung", 1, 0), ("right lung", 2, 0)])
    given = evaluate(volume(lungs()), read_volume(path), reference_labels={"right": (1,), "left": (2,)})
    assert (given.per_volume["dice"] == 1).all()


def test_a_study_takes_its_references_by_name(tmp_path):
    write_labelmap(np.arange(400).reshape(5, 8, 10) % 256, volume(lungs()), tmp_path / "image.nrrd")
    exchanged = np.where(LEFT_KJI, 1, RIGHT_KJI * 2)
    mask = segmentation(tmp_path / "mask.seg.nrrd", [exchanged], [("left lung", 1, 0), ("right lung", 2, 0)])
    _, labels = StudyCase("set", "image", tmp_path / "image.nrrd", mask, "XRAY").read()
    assert np.array_equal(np.stack(labels), lungs())


def test_what_this_software_writes_keeps_its_labels(tmp_path):
    write_labelmap(lungs(), volume(lungs()), tmp_path / "lungs.seg.nrrd")
    found = read_volume(tmp_path / "lungs.seg.nrrd")
    labels = {key: tuple(values) for key, values in found.structure_labels.items()}
    assert labels == {"right_lung": (1,), "left_lung": (2,)}
    assert dices(tmp_path / "lungs.seg.nrrd")[0] == PERFECT


def test_an_image_with_several_values_in_each_voxel_is_no_segmentation(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 3, 4, 2)), isVector=True), str(tmp_path / "vector.nrrd"))
    with pytest.raises(VolumeError, match="holds 2 values in each voxel"):
        read_volume(tmp_path / "vector.nrrd")


@pytest.mark.parametrize(
    ("side", "names"),
    [
        (
            "right",
            "right lung;Lung_R;R lung;LungR;RightLung;rlung;lung right;rechte Lunge;rechter Lungenflügel;R;Rechts",
        ),
        ("right", "poumon droit;pulmón derecho;polmone destro;pulmo dexter;правое лёгкое;右肺;RUL;right middle lobe"),
        ("left", "Left Lung;lung-left;L_Lung;llung;linke Lunge;poumon gauche;pulmão esquerdo;左肺;LLL;lingula left"),
        ("left", "lung_upper_lobe_left;Lung, left;lunge links;left lower lobe;linker Oberlappen;LINKE LUNGE"),
        ("both", "lungs;Lung;both lungs;right and left lung;Lunge;双肺;upper lobe"),
        (None, "heart;Segment_1;right lung nodule;lung_vessels;lung_trachea_bronchia;right lobe of liver;right kidney"),
        (
            None,
            "left thyroid lobe;pulmonary artery right;left frontal lobe;;belongs to L;right atrium;lower lobe of liver",
        ),
    ],
)
def test_names_of_lungs_are_recognised(side, names):
    assert {name: side_of_name(name) for name in names.split(";")} == dict.fromkeys(names.split(";"), side)


@pytest.mark.parametrize(
    ("entry", "side"),
    [
        (TERMINOLOGY.format(LUNG, RIGHT), "right"),
        (TERMINOLOGY.format("SRT^T-28000^Lung", "SRT^G-A101^Left"), "left"),
        (TERMINOLOGY.format("SCT^45653009^Upper lobe of lung", LEFT), "left"),
        (TERMINOLOGY.format(LUNG, "^^"), "both"),
        (TERMINOLOGY.format("SCT^85756007^Tissue", "^^"), None),
        (TERMINOLOGY.format("SCT^64033007^Kidney", RIGHT), None),
        ("", None),
    ],
)
def test_terminology_of_lungs_is_recognised(entry, side):
    found = known_structures("", Terminology.of_entry(entry), "case").get("lungs")
    assert found == {"right": "right_lung", "left": "left_lung", "both": "lungs", None: None}[side]


@pytest.mark.parametrize("last", [False, True])
def test_layers_that_nothing_names_are_refused_not_taken_for_grey(tmp_path, last):
    path = segmentation(tmp_path / "masks.nrrd", [RIGHT_KJI, LEFT_KJI, lungs() > 0], [], last=last)
    with pytest.raises(VolumeError, match=r"masks.nrrd (is a colour image|has 4 dimensions)"):
        read_volume(path)
