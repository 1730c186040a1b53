"""The command `samlungseg automatic`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
from generated_chests import generated_xray

from SAMLungSegLib.cli import main
from SAMLungSegLib.phantom import chest_ct


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    picture, _ = generated_xray(0, (128, 128))
    sitk.WriteImage(sitk.GetImageFromArray(picture), str(folder / "frontal.png"))
    phantom = chest_ct(seed=1, size_kji=(12, 96, 96), spacing_mm=(26.0, 4.0, 4.0))
    image = sitk.GetImageFromArray(phantom.hu_kji)
    image.SetSpacing((4, 4, 26))
    sitk.WriteImage(image, str(folder / "chest.nii.gz"))
    return folder


def run(*arguments: object) -> int:
    return main(["automatic", *(str(argument) for argument in arguments)])


def test_a_picture_gives_a_labelmap_a_table_and_an_overlay(images, tmp_path, capsys):
    assert run(images / "frontal.png", "-o", tmp_path) == 0
    files = {"frontal_masks.png", "frontal_masks.csv", "frontal_masks_overlay.png"}
    assert {path.name for path in tmp_path.iterdir()} == files
    image = sitk.ReadImage(str(tmp_path / "frontal_masks.png"))
    table = pd.read_csv(tmp_path / "frontal_masks.csv")
    assert image.GetPixelID() == sitk.sitkUInt16
    numbers, counts = np.unique(sitk.GetArrayFromImage(image), return_counts=True)
    shown = table[table["visible_px"] > 0]
    assert numbers.tolist() == [0, *shown["mask"]]
    assert counts[1:].tolist() == shown["visible_px"].tolist()
    assert table["area_px"].is_monotonic_decreasing
    assert f"{len(table)} masks in the slice" in capsys.readouterr().out
    assert (tmp_path / "frontal_masks_overlay.png").stat().st_size > 10_000


def test_the_middle_slice_of_a_volume_is_taken_or_the_one_that_is_asked_for(images, tmp_path, capsys):
    original = sitk.ReadImage(str(images / "chest.nii.gz"))
    for options, expected in (([], 6), (["--slice", 5], 5)):
        assert run(images / "chest.nii.gz", "-o", tmp_path, "--overwrite", "--min-area", 20, *options) == 0
        labelmap = sitk.ReadImage(str(tmp_path / "chest_masks.nrrd"))
        assert labelmap.GetSize() == original.GetSize()
        assert np.allclose(labelmap.GetSpacing(), original.GetSpacing())
        assert np.flatnonzero(sitk.GetArrayFromImage(labelmap).any(axis=(1, 2))).tolist() == [expected]
        assert f"in slice {expected}" in capsys.readouterr().out


def test_all_slices_of_a_volume_are_taken(images, tmp_path, capsys):
    assert run(images / "chest.nii.gz", "-o", tmp_path, "--slice", "all", "--points-per-side", 4) == 0
    table = pd.read_csv(tmp_path / "chest_masks.csv")
    assert table["slice"].nunique() > 4
    assert table["mask"].tolist() == list(range(1, len(table) + 1))
    assert "masks in 12 slices" in capsys.readouterr().out


def test_no_mask_is_a_result_too(images, tmp_path, capsys):
    assert run(images / "frontal.png", "-o", tmp_path, "--iou", 1) == 0
    assert "frontal: no masks in the slice" in capsys.readouterr().out
    assert not sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "frontal_masks.png"))).any()
    assert len(pd.read_csv(tmp_path / "frontal_masks.csv")) == 0
    assert (tmp_path / "frontal_masks_overlay.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--slice", "12"], "has no slice 12; give one from 0 to 11"),
        (["--iou", "2"], "iou 2.0 is not possible"),
        (["--points-per-side", "0"], "points_per_side 0 is not possible"),
        (["--model", "medsam-vit-b"], "medsam-vit-b accepts boxes only"),
        (["--model", "lung-huge"], "no model 'lung-huge'"),
        (["--window", "sharp"], "Window 'sharp' is unknown"),
        (["--weights", "nothing.pth"], "no weights at nothing.pth"),
    ],
)
def test_wrong_arguments_are_explained_and_write_nothing(images, tmp_path, capsys, arguments, message):
    assert run(images / "chest.nii.gz", "-o", tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_a_slice_that_is_no_number_is_refused(images, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(images / "chest.nii.gz", "-o", tmp_path / "out", "--slice", "top")
    assert stopped.value.code == 2
    assert "'top' is no slice; give a whole number from 0 on, or 'all'" in capsys.readouterr().err


def test_results_that_exist_are_kept_unless_told_otherwise(images, tmp_path, capsys):
    (tmp_path / "frontal_masks.csv").write_text("mine")
    assert run(images / "frontal.png", "-o", tmp_path) == 2
    assert "exists already; add --overwrite" in capsys.readouterr().err
    assert (tmp_path / "frontal_masks.csv").read_text() == "mine"


def test_what_was_assumed_about_an_image_is_said_once_and_not_where_it_was_given(tmp_path, capsys):
    hu = chest_ct(seed=0, size_kji=(16, 128, 128), spacing_mm=(20.0, 3.0, 3.0)).hu_kji[8]
    stored = (np.maximum(hu, -1024).astype(np.int32) + 1024).astype(np.uint16)
    sitk.WriteImage(sitk.GetImageFromArray(stored), str(tmp_path / "slice.png"))
    for options, times in (([], 1), (["--modality", "ct"], 0)):
        assert run(tmp_path / "slice.png", "-o", tmp_path, "--overwrite", "--points-per-side", 2, *options) == 0
        assert capsys.readouterr().err.count("slice: Taken as a CT slice") == times
