"""Slices with organs, read from manifests and folders: what is an object, and who is in which part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from adaptation_sets import shapes, write_shapes
from dicomfiles import ct_series
from segmentfiles import dicom_segmentation
from tuning_sets import write_png

from SAMLungSegLib.adaptation import ReadingOptions, read_data
from SAMLungSegLib.adaptation.slices import without_small_parts
from SAMLungSegLib.errors import SettingsError, VolumeError
from SAMLungSegLib.training.data.cases import StudyCase
from SAMLungSegLib.training.data.manifest import read_manifest
from SAMLungSegLib.training.data.organs import DrawnOrgans
from SAMLungSegLib.volume import Volume

SPLIT = ("training", "validation", "validation", "held_out", "held_out", "held_out")


def every(data):
    return [*data.training, *data.validation, *data.held_out]


def write_pictures(folder, labels_of, organs, split=SPLIT):
    """One picture for each part of `split` with its labels, and their manifest."""
    rows = ["image,mask,split,organs"]
    for number, part in enumerate(split):
        labels = labels_of(number)
        grey = np.random.default_rng(number).integers(0, 255, labels.shape).astype(np.uint8)
        write_png(folder / "images" / f"{number}.png", grey)
        write_png(folder / "masks" / f"{number}.png", labels.astype(np.uint8))
        given = organs if isinstance(organs, str) else organs[number]
        rows.append(f"images/{number}.png,masks/{number}.png,{part},{given}")
    (folder / "sets.csv").write_text("\n".join(rows) + "\n")
    return folder / "sets.csv"


def squares(number):
    """Organ 1 of 10 x 10 pixels, organ 2 of 9 x 11 less one row."""
    labels = np.zeros((40, 50), np.uint8)
    labels[5:15, 5:15] = 1
    labels[20:29, 20:31] = 2
    return labels


# ---- which values are which organ


def test_organs_are_named_with_their_values_or_by_a_label_set():
    assert DrawnOrgans.parse("1 pancreas 2 3 right kidney, 4 liver") == DrawnOrgans(
        ("pancreas", "right_kidney", "liver"), ((1,), (2, 3), (4,))
    )
    assert DrawnOrgans.parse("abdomen").keys[:2] == ("spleen", "right_kidney")


def test_digits_within_a_name_are_no_label_values():
    assert DrawnOrgans.parse("1 vertebrae_L5 2 liver") == DrawnOrgans(("vertebrae_l5", "liver"), ((1,), (2,)))
    assert DrawnOrgans.parse("3 L1 vertebra; 4,5 Rib_left_12") == DrawnOrgans(
        ("l1_vertebra", "rib_left_12"), ((3,), (4, 5))
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pancreas", "'pancreas' names no organs; give label values and the name of each"),
        ("1 pancreas 2", "names no organs"),
        ("1 liver 1 spleen", "names 1 more than once"),
        ("1 liver 2 liver", "names liver more than once"),
        ("0 liver", "label 0, which is the background"),
    ],
)
def test_what_names_no_organs_is_refused(text, message):
    with pytest.raises(SettingsError, match=message):
        DrawnOrgans.parse(text)


def test_organs_that_cannot_be_learned_or_judged_are_told(tmp_path, caplog):
    def labels_of(number):
        labels = squares(number)
        labels[labels == 2] = 2 if number < 3 else 0  # the last three are held out
        labels[30:40, :12] = 3 * (number >= 3)
        return labels

    read_data(write_pictures(tmp_path, labels_of, "1 disc 2 bar 3 ring 4 dragon"), ReadingOptions(smallest_px=20))
    assert caplog.messages == [
        "dragon: in no slice that is used; check label values, --smallest and --slices.",
        "ring: in no image that is learned from, but judged.",
        "bar: in no held-out image, so that nothing is said of how well it is found.",
    ]


def test_labels_of_no_organ_are_told_once_for_all_masks(tmp_path, caplog):
    read_data(write_pictures(tmp_path, lambda number: 3 * squares(number) + number // 5 * 2, "3 disc"))
    assert caplog.messages == ["reading: labels 2, 5, 6, 8 of 6 masks are none of the organs and taken as background."]


def test_masks_of_many_labels_that_are_taken_as_lungs_are_told(tmp_path, caplog):
    def lobes(number):
        labels = np.zeros((40, 50), np.uint8)
        labels[5:20, 5:20], labels[20:35, 5:20], labels[5:35, 30:45] = 3, 4, 5
        return labels

    data = read_data(write_pictures(tmp_path, lobes, ""))
    assert data.organs == ("right_lung", "left_lung") and data.training[0].organs == (1, 2)
    (told,) = caplog.messages
    assert told.startswith("reading: labels 3, 4, 5 of 6 masks are all taken as lung; if they are organs, say which")
    caplog.clear()
    case = StudyCase("a", "0", tmp_path / "images" / "0.png", tmp_path / "masks" / "0.png")
    case.read_organs()
    assert caplog.messages[0].startswith("0: labels 3, 4, 5 are all taken as lung")


def test_masks_of_one_number_for_both_lungs_are_not_doubted(tmp_path, caplog):
    def both(number):
        one = squares(number) > 0
        return 255 * np.hstack([one, one[:, ::-1]])

    read_data(write_pictures(tmp_path, both, ""))
    assert not caplog.messages


def test_labels_beyond_a_label_set_are_none_of_it_unless_the_file_has_names():
    mask = Volume(np.array([[[0, 1, 13, 14, 77]]], np.uint8), np.eye(4))
    assert DrawnOrgans.parse("abdomen").others(mask) == (14, 77)
    assert DrawnOrgans.parse("1 spleen").others(mask) == (13, 14, 77)
    assert DrawnOrgans.parse("abdomen").others(replace(mask, structure_labels={"liver": (77,)})) == ()


def test_a_table_of_organs_lies_where_the_manifest_says(tmp_path):
    path = write_pictures(tmp_path, squares, "labels.csv")
    (tmp_path / "labels.csv").write_text("id,structure\n1,disc\n2,bar\n")
    assert read_data(path).organs == ("disc", "bar")


@pytest.mark.parametrize("set_name", ["ward", ""])
def test_images_of_one_name_in_folders_of_patients_are_all_read(set_name, tmp_path):
    rows = ["image,mask,set,patient,organs"]
    for number in range(8):
        grey, labels = shapes(number)
        write_png(tmp_path / f"p{number}" / "ct.png", grey)
        write_png(tmp_path / f"p{number}" / "labels.png", labels)
        rows.append(f"p{number}/ct.png,p{number}/labels.png,{set_name},p{number},1 disc 2 bar")
    (tmp_path / "sets.csv").write_text("\n".join(rows) + "\n")
    data = read_data(tmp_path / "sets.csv")
    assert {(one.image, one.patient) for one in every(data)} == {(f"p{number}/ct", f"p{number}") for number in range(8)}
    assert len(every(data)) == 8


def test_images_of_one_name_in_several_folders_of_images_are_all_read(tmp_path):
    for number, name in enumerate(("icu", "ward")):
        for place in range(4):
            grey, labels = shapes(10 * number + place)
            write_png(tmp_path / name / "images" / f"{place}.png", grey)
            write_png(tmp_path / name / "masks" / f"{place}.png", labels)
    data = read_data(tmp_path, ReadingOptions(organs="1 disc 2 bar"))
    assert {one.image for one in every(data)} == {f"{name}/{place}" for name in ("icu", "ward") for place in range(4)}


def test_an_image_with_the_masks_of_two_readers_is_read_with_both(tmp_path):
    path = write_pictures(tmp_path, squares, "1 disc 2 bar")
    write_png(tmp_path / "second.png", np.roll(squares(0), 3).astype(np.uint8))
    path.write_text(path.read_text() + "images/0.png,second.png,training,1 disc 2 bar\n")
    data = read_data(path)
    assert [one.image for one in data.training] == ["images/0 by masks/0", "images/0 by second"]
    assert [one.labels_hw[5, 5] for one in data.training] == [1, 0]
    path.write_text(path.read_text() + "images/0.png,second.png,training,1 disc 2 bar\n")
    with pytest.raises(VolumeError, match="images/0 by second is listed 2 times; list it once"):
        read_data(path)


def test_sets_that_number_their_organs_otherwise_are_joined_by_name(tmp_path):
    organs = ["1 disc 2 bar"] * 5 + ["2 disc 1 ring"]
    data = read_data(write_pictures(tmp_path, squares, organs))
    assert data.organs == ("disc", "bar", "ring")
    first, last = data.training[0], data.held_out[2]
    assert first.labels_hw[6, 6] == 1 and last.labels_hw[6, 6] == 3


def test_a_dicom_segmentation_says_its_organs_by_codes(tmp_path):
    labels = np.zeros((4, 8, 10), np.uint8)
    labels[1:3, 2:5, 2:5], labels[1:3, 5:7, 6:9] = 1, 2
    ct_series(tmp_path / "scan", np.zeros(labels.shape, int))
    segments = [("x", "SCT^78961009^Spleen~^^", labels == 1), ("y", "SCT^10200004^Liver~^^", labels == 2)]
    dicom_segmentation(tmp_path / "seg.dcm", segments)
    case = StudyCase("a", "scan", tmp_path / "scan", tmp_path / "seg.dcm", organs=DrawnOrgans.parse("abdomen"))
    codes = np.stack(case.read_organs()[1])
    assert (codes[labels == 1] == 1).all() and (codes[labels == 2] == 6).all() and not codes[labels == 0].any()


def test_masks_of_organs_are_not_taken_for_lungs(tmp_path):
    cases = read_manifest(write_pictures(tmp_path, squares, "1 disc 2 bar"))
    with pytest.raises(VolumeError, match="draws disc, bar; only 'samlungseg adapt' learns organs"):
        cases[0].read()


def test_a_manifest_says_where_its_organs_make_no_sense(tmp_path):
    with pytest.raises(VolumeError, match=r"sets.csv, 1: organs: 'disc' names no organs"):
        read_data(write_pictures(tmp_path, squares, "disc"))


# ---- parts


def test_a_manifest_is_read_and_no_patient_is_in_two_parts(tmp_path):
    folder = write_shapes(tmp_path, 16)
    text = (folder / "shapes.csv").read_text()
    for number in range(8, 16):
        text = text.replace(f",p{number},", f",p{number - 8},")
    (folder / "shapes.csv").write_text(text)
    data = read_data(folder / "shapes.csv")
    assert data.organs == ("disc", "bar") and data.left_out == 0
    patients = [{one.patient for one in part} for part in (data.training, data.validation, data.held_out)]
    assert [len(some) for some in patients] == [3, 2, 3] and len(set.union(*patients)) == 8
    for one in every(data):
        assert (one.labels_hw == shapes(int(one.image.removeprefix("shape_")))[1]).all()
        assert one.organs == (1, 2) and [example.mask_hw.sum() for example in one.examples()][1] == 40 * 8


def test_images_of_one_content_are_in_one_part(tmp_path):
    folder = write_shapes(tmp_path, 9)
    twin = (folder / "images" / "shape_00.png").read_bytes()
    (folder / "images" / "shape_08.png").write_bytes(twin)
    cells = [row.split(",") for row in (folder / "shapes.csv").read_text().splitlines()]
    rows = [f"{image},{mask},{organs}" for image, mask, _, organs in cells]
    (folder / "shapes.csv").write_text("\n".join(rows) + "\n")
    data = read_data(folder / "shapes.csv")
    part_of = {one.image: part for part in ("training", "validation", "held_out") for one in getattr(data, part)}
    assert part_of["shape_00"] == part_of["shape_08"]


def test_a_folder_with_images_and_masks_is_read_with_the_organs_that_are_named(tmp_path):
    data = read_data(write_shapes(tmp_path), ReadingOptions(organs="1 disc 2 bar"))
    assert data.organs == ("disc", "bar") and len(every(data)) == 8 and data.split is not None


def test_lungs_are_read_where_nobody_names_organs_and_one_alone_is_that_of_its_side(tmp_path):
    def one_lung(number):
        labels = np.zeros((40, 60), np.uint8)
        start = 5 if number == 0 else 40
        labels[10:30, start : start + 12] = 255
        return labels

    data = read_data(write_pictures(tmp_path, one_lung, ""))
    assert data.organs == ("right_lung", "left_lung")
    assert data.training[0].organs == (1,) and {one.organs for one in data.held_out} == {(2,)}


# ---- objects


def test_objects_of_fewer_pixels_are_left_out_and_counted(tmp_path):
    path = write_pictures(tmp_path, squares, "1 disc 2 bar")
    data = read_data(path)  # of 100 and 99 pixels
    assert {one.organs for one in every(data)} == {(1,)} and data.left_out == 6
    assert {one.organs for one in every(read_data(path, ReadingOptions(smallest_px=99)))} == {(1, 2)}
    with pytest.raises(VolumeError, match="part training has no object of 101 pixels"):
        read_data(path, ReadingOptions(smallest_px=101))


def test_small_parts_of_what_is_learned_from_are_dropped_and_what_is_judged_by_stays(tmp_path):
    def with_speck(number):
        labels = np.zeros((40, 50), np.uint8)
        labels[5:25, 5:25] = 1
        labels[30:36, 40:46] = 1
        return labels

    path = write_pictures(tmp_path, with_speck, "1 disc")
    data = read_data(path, ReadingOptions(smallest_part_px=100))
    assert [np.count_nonzero(one.labels_hw) for one in (*data.training, *data.validation)] == [400] * 3
    assert [np.count_nonzero(one.labels_hw) for one in data.held_out] == [436] * 3


def test_parts_touch_by_their_corners():
    labels = np.zeros((5, 5), np.uint8)
    labels[0, 0] = labels[1, 1] = 1
    labels[4, 4] = 1
    kept = without_small_parts(labels, 2)
    assert kept[0, 0] == kept[1, 1] == 1 and kept[4, 4] == 0
    volume = np.zeros((2, 3, 3), np.uint8)
    volume[0, 0, 0] = volume[1, 1, 1] = 2
    assert (without_small_parts(volume, 2) == volume).all() and not without_small_parts(volume, 3).any()


def test_slices_of_a_flipped_anisotropic_volume_have_their_neighbours(tmp_path):
    labels = np.zeros((6, 30, 40), np.uint8)
    labels[1:5, 4:16, 6:20] = 1
    labels[4, 20:24, 6:20] = 1
    grey = np.arange(6)[:, None, None] * 40 - 1000 + np.zeros(labels.shape, np.int16)
    rows = ["image,mask,split,organs,modality"]
    for number, part in enumerate(SPLIT):
        for kind, array in (("image", grey + number), ("mask", labels)):
            image = sitk.GetImageFromArray(array.astype(np.int16 if kind == "image" else np.uint8))
            image.SetSpacing((0.8, 1.2, 5.0))
            image.SetDirection((1, 0, 0, 0, -1, 0, 0, 0, -1))
            sitk.WriteImage(image, str(tmp_path / f"{kind}{number}.nii.gz"))
        rows.append(f"image{number}.nii.gz,mask{number}.nii.gz,{part},1 disc,ct")
    (tmp_path / "sets.csv").write_text("\n".join(rows) + "\n")
    data = read_data(tmp_path / "sets.csv", ReadingOptions(slices_each=3, slices_per_input=3))
    shown = labels[::-1, ::-1]
    assert [one.number for one in data.training] == [1, 3, 4]  # of 1 to 4, evenly spread
    for one in data.training:
        assert (one.labels_hw == shown[one.number]).all()
        assert (one.stack_labels_nhw == shown[one.number - 1 : one.number + 2]).all()
        assert (one.stack_nhw[1] == one.grey_hw).all() and one.view.neighbour(1) is not None
        assert one.stack_nhw[0].mean() > one.stack_nhw[1].mean() > one.stack_nhw[2].mean()
