"""The job on generated chests: sides, storage orders, prompts, progress, cancel."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch
from cohorts import DarkIsLung, chest_hu
from generated_chests import generated_xray

from SAMLungSegLib.errors import PromptError, SettingsError, VolumeError
from SAMLungSegLib.intensity import to_grey
from SAMLungSegLib.metrics import dice
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.base import Embedding, ModelView, Prediction, PromptableModel
from SAMLungSegLib.phantom import chest_ct
from SAMLungSegLib.pipeline import CancelledError, Options, VolumeBox, VolumePoint, segment, segment_volume
from SAMLungSegLib.prompts import BoxPrompt, PointPrompt, PromptSet
from SAMLungSegLib.volume import Volume

FLIPS = list(product((False, True), repeat=3))
STORAGES = [(axes, flips) for axes in permutations(range(3)) for flips in FLIPS]


@pytest.fixture(scope="module")
def phantom():
    return chest_ct(seed=0, size_kji=(16, 128, 128), spacing_mm=(20.0, 3.0, 3.0))


@pytest.fixture(scope="module")
def volume(phantom) -> Volume:
    return Volume(phantom.hu_kji, phantom.ijk_to_ras, "phantom")


@pytest.fixture(scope="module")
def axial(volume, model):
    return segment_volume(volume, model)


def stored_otherwise(volume: Volume, axes: tuple[int, ...], flips: tuple[bool, ...]) -> Volume:
    """The same voxels at the same places, with array axes permuted and reversed."""
    array, matrix = volume.array_kji.transpose(axes), volume.ijk_to_ras.copy()
    columns = [matrix[:3, 2 - axis] for axis in axes]
    origin = matrix[:3, 3].copy()
    for axis, is_flipped in enumerate(flips):
        if is_flipped:
            array = np.flip(array, axis)
            origin += columns[axis] * (array.shape[axis] - 1)
            columns[axis] = -columns[axis]
    changed = np.eye(4)
    changed[:3, :3] = np.stack(columns[::-1], axis=1)
    changed[:3, 3] = origin
    return Volume(np.ascontiguousarray(array), changed, "stored otherwise")


def stored_back(array: np.ndarray, axes: tuple[int, ...], flips: tuple[bool, ...]) -> np.ndarray:
    """An array of a volume that was `stored_otherwise`, in the first one's order."""
    back = np.flip(array, [axis for axis, is_flipped in enumerate(flips) if is_flipped])
    return back.transpose(np.argsort(axes))


class BoxModel(PromptableModel):
    """Answers every prompt with its box, or a 5 x 5 square at its first point: shows what the pipeline asks."""

    name, device = "box", torch.device("cpu")

    def __init__(self) -> None:
        self.asked: list[PromptSet] = []

    def encode(self, views):
        slices = [ModelView.of(view).grey_hw for view in views]
        return [Embedding((), image.shape) for image in slices]

    def decode(self, embedding, prompts):
        self.check_prompts(prompts, embedding.size_hw)
        self.asked.append(prompts)
        logits = np.full(embedding.size_hw, -5.0, np.float32)
        x, y = prompts.points[0].xy if prompts.points else (0, 0)
        left, top, right, bottom = prompts.box.xyxy if prompts.box else (x - 2, y - 2, x + 2, y + 2)
        logits[int(np.ceil(top)) : int(bottom) + 1, int(np.ceil(left)) : int(right) + 1] = 5.0
        return Prediction(logits, 0.5, logits)


# ---- sides and storage


def test_both_lungs_of_a_phantom_are_found_on_the_patients_sides(axial, phantom):
    for label in (1, 2):
        assert dice(axial.labelmap_kji == label, phantom.labelmap_kji == label) > 0.9
    right, left = (np.argwhere(axial.labelmap_kji == label).mean(axis=0)[::-1] for label in (1, 2))
    to_ras = phantom.ijk_to_ras
    assert (to_ras @ [*right, 1])[0] > (to_ras @ [*left, 1])[0]


@pytest.mark.parametrize(("axes", "flips"), STORAGES)
def test_every_storage_order_gives_the_same_lungs(volume, axial, axes, flips, model):
    other = stored_otherwise(volume, axes, flips)
    result = segment_volume(other, model).labelmap_kji
    assert result.shape == other.array_kji.shape
    assert np.array_equal(stored_back(result, axes, flips), axial.labelmap_kji)


@pytest.mark.parametrize("degrees", [(20, 0, 0), (0, -25, 0), (10, 15, 30)])
def test_an_oblique_volume_gives_the_same_lungs(volume, axial, degrees, model):
    x, y, z = np.radians(degrees)
    turn_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    turn_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    turn_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    turned = np.eye(4)
    turned[:3, :3] = turn_z @ turn_y @ turn_x
    oblique = stored_otherwise(volume, (1, 2, 0), (True, False, True))
    oblique = Volume(oblique.array_kji, turned @ oblique.ijk_to_ras, "oblique")
    result = np.flip(segment_volume(oblique, model).labelmap_kji, (0, 2)).transpose(np.argsort((1, 2, 0)))
    assert np.array_equal(result, axial.labelmap_kji)


def test_an_xray_gives_two_lungs(model):
    image, labelmap = generated_xray()
    result = segment_volume(Volume(image[None], np.diag([-1.0, -1, 1, 1]), "xray"), model)
    assert result.modality == "XRAY"
    for label in (1, 2):
        assert dice(result.labelmap_kji[0] == label, labelmap == label) > 0.85


def test_a_mirrored_xray_that_says_so_keeps_the_patients_sides(model):
    image, _ = generated_xray()
    plain = segment_volume(Volume(image[None], np.diag([-1.0, -1, 1, 1]), "xray"), model)
    mirrored_to_ras = np.diag([1.0, -1, 1, 1])
    mirrored = segment_volume(Volume(image[None, :, ::-1].copy(), mirrored_to_ras, "mirrored"), model)
    assert np.array_equal(mirrored.labelmap_kji[..., ::-1], plain.labelmap_kji)


def test_a_windowed_ct_gives_nearly_the_same_lungs(volume, axial, model):
    grey = np.clip((volume.array_kji.astype(float) + 1350) / 1500 * 255, 0, 255).astype(np.uint8)
    result = segment_volume(Volume(grey, volume.ijk_to_ras, "windowed"), model, Options(modality="CT"))
    assert dice(result.labelmap_kji > 0, axial.labelmap_kji > 0) > 0.995


# ---- options


def test_options_are_read_as_people_write_them():
    options = Options(modality="ct", window="1500/-600")
    assert options.modality == "CT"
    assert options.window.low == -1350


@pytest.mark.parametrize("ijk", [(1,), (1, 2, 3, 4), (1, np.nan, 2)])
def test_a_voxel_that_is_none_is_refused(ijk):
    with pytest.raises(PromptError, match="is not i,j,k"):
        VolumePoint(ijk)


def test_what_is_no_image_is_refused():
    with pytest.raises(VolumeError, match="give a Volume or a path"):
        segment(np.zeros((5, 5, 5)))


def test_every_third_slice_gives_nearly_the_same_lungs_for_a_third_of_the_work(model, monkeypatch):
    phantom = chest_ct(seed=0, size_kji=(50, 96, 96), spacing_mm=(6.0, 4.0, 4.0))
    volume = Volume(phantom.hu_kji, phantom.ijk_to_ras)
    whole = segment_volume(volume, model)
    shown, encode = [], model.encode
    monkeypatch.setattr(model, "encode", lambda slices: shown.append(len(slices)) or encode(slices))
    found = segment_volume(volume, model, Options(every=3, points=(VolumePoint((30, 48, 20)),)))
    seen = [*range(0, 50, 3), 49, 20]
    assert sum(shown) == len(seen) == 19
    assert np.array_equal(np.flatnonzero(~np.isnan(found.scores)), sorted(seen))
    assert dice(whole.labelmap_kji > 0, found.labelmap_kji > 0) > 0.95  # 18 mm apart


def chest_that_is_white_in_one_slice(slice_spacing_mm: float) -> Volume:
    """Seven slices; the right lung, columns 0 to 31, is as dense as tissue in slice 3."""
    hu = chest_hu(slices=7)
    hu[3, :, :32] = 40
    return Volume(hu, np.diag([-6.0, -6.0, slice_spacing_mm, 1.0]))


@pytest.mark.parametrize(("axes", "flips"), [((0, 1, 2), (False,) * 3), ((1, 0, 2), (True, False, True))])
def test_what_one_thin_slice_alone_leaves_out_is_filled_by_its_neighbours(axes, flips):
    other = stored_otherwise(chest_that_is_white_in_one_slice(2.5), axes, flips)
    result = stored_back(segment_volume(other, DarkIsLung()).labelmap_kji, axes, flips)
    assert (result[3] == 1).sum() > 50
    assert np.array_equal(result[3], result[2])


@pytest.mark.parametrize(
    ("slice_spacing_mm", "options"),
    [
        (5.0, Options()),
        (2.5, Options(modality="XRAY")),
        (2.5, Options(points=(VolumePoint((46, 24, 3)),))),
        (2.5, Options(boxes=(VolumeBox((2, 2, 1), (61, 45, 5)),))),
    ],
    ids=["thick slices", "a stack of X-rays", "a point in the slice", "a box around the lungs"],
)
def test_xrays_thick_slices_and_those_with_prompts_are_as_the_model_answers(slice_spacing_mm, options):
    result = segment_volume(chest_that_is_white_in_one_slice(slice_spacing_mm), DarkIsLung(), options).labelmap_kji
    assert not result[3, :, :32].any()
    assert np.array_equal(result[3, :, 32:], result[2, :, 32:])
    assert (result[2] == 1).any()


def test_only_the_lung_that_is_asked_for_is_written(volume, axial, model):
    result = segment_volume(volume, model, Options(lungs="left")).labelmap_kji
    assert np.array_equal(result == 2, axial.labelmap_kji == 2)
    assert not (result == 1).any()


def test_a_higher_threshold_gives_smaller_lungs(volume, axial, model):
    result = segment_volume(volume, model, Options(threshold=0.95)).labelmap_kji
    assert 0 < np.sum(result > 0) < np.sum(axial.labelmap_kji > 0)


@pytest.mark.parametrize(
    "wrong", [{"threshold": 0.0}, {"threshold": 1.0}, {"threshold": "0.5"}, {"lungs": "heart"}, {"every": 0}]
)
def test_wrong_options_are_refused(wrong):
    with pytest.raises(SettingsError):
        Options(**wrong)


def test_progress_counts_every_slice(volume, model):
    seen = []
    segment_volume(volume, model, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(index + 1, 16) for index in range(16)]


def test_cancelling_stops_before_the_next_slice(volume, model):
    polls = iter([False, False, True])
    with pytest.raises(CancelledError, match="after 2 of 16 slices"):
        segment_volume(volume, model, cancelled=lambda: next(polls))


def test_scores_are_given_per_slice(axial):
    assert axial.scores.shape == (16,)
    assert np.isfinite(axial.scores).all()


# ---- prompts


def test_a_box_prompts_its_slices_only_and_lands_on_its_voxels(volume):
    """Stored sagittal and flipped: the box in voxels of the file is the same box in voxels of the result."""
    other = stored_otherwise(volume, (2, 0, 1), (True, False, True))
    box = VolumeBox((30, 6, 70), (50, 9, 60))
    result = segment_volume(other, BoxModel(), Options(boxes=(box,))).labelmap_kji
    k, j, i = np.nonzero(result)
    assert (i.min(), i.max()) == (30, 50)
    assert (j.min(), j.max()) == (6, 9)
    assert (k.min(), k.max()) == (60, 70)
    assert len(k) == 21 * 4 * 11


def test_points_inside_a_box_belong_to_it_and_others_are_another_object(volume):
    model = BoxModel()
    options = Options(
        boxes=(VolumeBox((10, 10, 8), (40, 40, 8)),),
        points=(VolumePoint((20, 20, 8)), VolumePoint((30, 30, 8), positive=False), VolumePoint((90, 60, 8))),
    )
    segment_volume(volume, model, options)
    with_box, alone = model.asked
    assert [point.xy for point in with_box.points] == [(20.0, 20.0), (30.0, 30.0)]
    assert [point.positive for point in with_box.points] == [True, False]
    assert with_box.box.xyxy == (10.0, 10.0, 40.0, 40.0)
    assert alone.box is None
    assert [point.xy for point in alone.points] == [(90.0, 60.0)]


def test_without_prompts_a_model_that_needs_them_is_asked_about_each_lung(volume, phantom):
    model = BoxModel()
    result = segment_volume(volume, model)
    assert all(prompts.box is not None and prompts.points for prompts in model.asked)
    for label in (1, 2):
        found, truth = result.labelmap_kji == label, phantom.labelmap_kji == label
        assert dice(found, truth) > 0.6, "boxes cover the lungs"


@pytest.mark.parametrize("side", [1, 2])
def test_one_click_or_one_box_asks_for_one_lung(phantom, model, side):
    index = 8
    embedding = model.encode([to_grey(phantom.hu_kji[index], "CT")])[0]
    lung = phantom.labelmap_kji[index] == side
    rows, columns = np.nonzero(lung)
    middle = np.argsort(rows)[len(rows) // 2]
    click = PromptSet(points=(PointPrompt((float(columns[middle]), float(rows[middle]))),))
    box = PromptSet(box=BoxPrompt((columns.min(), rows.min(), columns.max(), rows.max())))
    for prompts in (click, box):
        assert dice(model.decode(embedding, prompts).logits > 0, lung) > 0.85


def test_a_click_on_what_is_right_already_changes_little(volume, axial, model):
    k, j, i = np.argwhere(axial.labelmap_kji == 1)[1000]
    click = VolumePoint((float(i), float(j), float(k)))
    result = segment_volume(volume, model, Options(points=(click,))).labelmap_kji
    assert np.array_equal(np.delete(result, k, axis=0), np.delete(axial.labelmap_kji, k, axis=0))
    assert dice(result[k] > 0, axial.labelmap_kji[k] > 0) > 0.95


@pytest.mark.parametrize(
    "options",
    [Options(points=(VolumePoint((5, 5, 16)),)), Options(boxes=(VolumeBox((0, 0, 0), (128, 5, 5)),))],
)
def test_prompts_outside_the_volume_are_refused(volume, options, model):
    with pytest.raises(PromptError, match="is outside phantom"):
        segment_volume(volume, model, options)


def test_the_one_line_call_reads_segments_and_saves(tmp_path, volume, axial, model):
    import SimpleITK as sitk  # noqa: N813

    image = sitk.GetImageFromArray(volume.array_kji)
    image.SetSpacing((3, 3, 20))
    sitk.WriteImage(image, str(tmp_path / "chest.nii.gz"))
    path = segment(tmp_path / "chest.nii.gz", model=model).save(tmp_path / "chest_lungs.nrrd")
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), axial.labelmap_kji)


def test_thick_slices_seen_from_the_front_are_drawn_out_for_the_model():
    """Axial slices of a coronal acquisition: rows 6 mm apart, columns 2 mm."""
    fine = chest_ct(0, size_kji=(10, 120, 160), spacing_mm=(30.0, 2.5, 2.2))
    coarse = Volume(fine.hu_kji[:, ::4], fine.ijk_to_ras @ np.diag([1, 4, 1, 1]))
    found = segment_volume(coarse, load_model(device="cpu")).labelmap_kji
    assert dice(fine.labelmap_kji[:, ::4] > 0, found > 0) > 0.93
