"""Automatic masks: those of segment_anything's own generator, on the right voxels, and both lungs by lung-compact."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from generated_chests import generated_ct, generated_xray
from scipy import ndimage
from scripted_models import BrightThings, areas
from segment_anything import SamAutomaticMaskGenerator, SamPredictor
from tiny_sams import grey, relative_error, tiny_sam
from torch import nn

from SAMLungSegLib.automatic import (
    AutomaticMask,
    AutomaticSettings,
    automatic_masks,
    default_settings,
    numbered,
    volume_masks,
)
from SAMLungSegLib.errors import IntensityError, PromptError, SettingsError, VolumeError
from SAMLungSegLib.intensity import to_grey
from SAMLungSegLib.metrics import dice
from SAMLungSegLib.models.cached import CachedModel
from SAMLungSegLib.models.embedding_cache import EmbeddingCache
from SAMLungSegLib.models.sam.medsam import MedSamModel
from SAMLungSegLib.models.sam.model import SamModel
from SAMLungSegLib.prompts import PointPrompt, PromptSet
from SAMLungSegLib.volume import Volume


class SpotDecoder(nn.Module):
    """In place of SAM's decoder, whose random weights answer all points alike: three ragged spots around a point."""

    def forward(self, image_embeddings, image_pe, sparse_prompt_embeddings, dense_prompt_embeddings, multimask_output):
        place = sparse_prompt_embeddings[:, 0]
        near = torch.einsum("nc,chw->nhw", place, image_pe[0]) + image_embeddings[0, 0]
        near = nn.functional.interpolate(near[:, None], scale_factor=4.0, mode="bilinear")
        return 4 * (near - torch.tensor([6.0, 9.0, 12.0])[:, None, None]), (place[:, :3] + 1) / 2


# ---- as segment_anything's own generator


@pytest.fixture(scope="module")
def spotty() -> SamModel:
    sam = tiny_sam()
    sam.mask_decoder = SpotDecoder()
    return SamModel(sam, name="spotty")


def masks_of_segment_anything(model: SamModel, image: np.ndarray, **options: object) -> list[dict]:
    own = SamAutomaticMaskGenerator(
        model.network, points_per_side=8, pred_iou_thresh=0.5, stability_score_thresh=0.8, **options
    )
    return own.generate(np.repeat(image[..., None], 3, axis=-1))


def assert_same_masks(masks: list[AutomaticMask], expected: list[dict], size_hw: tuple[int, int]) -> None:
    assert len(masks) == len(expected)
    for mask, record in zip(masks, expected, strict=True):
        left, top, width, height = record["bbox"]
        assert np.array_equal(mask.on(size_hw), record["segmentation"])
        assert mask.area_px == record["area"]
        assert mask.box_xyxy == (left, top, left + width, top + height)
        assert mask.predicted_iou == pytest.approx(record["predicted_iou"], abs=1e-5)
        assert mask.stability == pytest.approx(record["stability_score"], abs=1e-5)
        assert mask.point_xy == pytest.approx(tuple(record["point_coords"][0]))


@pytest.mark.parametrize("layers", [0, 1])
@pytest.mark.parametrize("size_hw", [(256, 256), (200, 310), (333, 100)], ids=str)
def test_masks_are_those_of_segment_anythings_own_generator(spotty, size_hw, layers):
    image = grey(size_hw)
    settings = AutomaticSettings(8, 0.5, 0.8, 0.7, crop_layers=layers, min_area_px=0, max_share=1)
    masks = automatic_masks(spotty, image, settings)
    assert len(masks) > 10
    assert_same_masks(masks, masks_of_segment_anything(spotty, image, crop_n_layers=layers), size_hw)


def components_like_opencv(mask, connectivity):
    parts, count = ndimage.label(mask, np.ones((3, 3)))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    return count + 1, parts, np.stack([sizes] * 5, axis=1), None


@pytest.mark.parametrize("size_hw", [(256, 256), (200, 310)], ids=str)
def test_holes_and_islands_are_treated_as_in_segment_anything(spotty, size_hw, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(connectedComponentsWithStats=components_like_opencv))
    image = grey(size_hw)
    settings = AutomaticSettings(8, 0.5, 0.8, 0.7, min_area_px=300, max_share=1)
    masks = automatic_masks(spotty, image, settings)
    as_found = automatic_masks(spotty, image, AutomaticSettings(8, 0.5, 0.8, 0.7, min_area_px=0, max_share=1))
    assert areas(masks) != areas(as_found)
    assert_same_masks(masks, masks_of_segment_anything(spotty, image, min_mask_region_area=300), size_hw)


def test_the_three_masks_of_each_point_are_those_of_sams_own_predictor():
    model = SamModel(tiny_sam(), name="tiny")
    image, points_xy = grey((200, 310)), np.array([[3.0, 4.0], [200.5, 100.25], [309.0, 199.0]])
    predictor = SamPredictor(model.network)
    predictor.set_image(np.repeat(image[..., None], 3, axis=-1))
    coordinates = torch.tensor(predictor.transform.apply_coords(points_xy, image.shape))[:, None]
    logits, scores, low_res = predictor.predict_torch(coordinates, torch.ones(3, 1), return_logits=True)
    [embedding] = model.encode([image])
    own_low_res, own_scores = model.decode_points(embedding, points_xy)
    assert own_low_res.shape == (3, 3, 64, 64)
    assert relative_error(own_low_res, low_res.numpy()) < 1e-5
    assert relative_error(own_scores, scores.numpy()) < 1e-5
    assert relative_error(model.to_slice(own_low_res, image.shape), logits.numpy()) < 1e-5


def test_masks_are_the_same_from_cached_embeddings(spotty, tmp_path):
    settings = AutomaticSettings(8, 0.5, 0.8, min_area_px=0)
    cached = CachedModel(spotty, EmbeddingCache(tmp_path))
    first, again = (automatic_masks(cached, grey((256, 256)), settings) for _ in range(2))
    assert cached.cache.size().slices == 1
    assert len(first) > 10
    assert [mask.box_xyxy for mask in again] == [mask.box_xyxy for mask in first]


# ---- masks and settings


@pytest.mark.parametrize("kind", ["all", "one pixel", "ragged", "hole at the corner"])
def test_a_mask_comes_back_as_it_was(kind):
    mask_hw = np.ones((7, 9), bool)
    if kind == "one pixel":
        mask_hw[:] = False
        mask_hw[6, 8] = True
    elif kind == "ragged":
        mask_hw = np.random.default_rng(0).random((7, 9)) > 0.6
    elif kind == "hole at the corner":
        mask_hw[0, 0] = mask_hw[3, 4] = False
    mask = AutomaticMask.of(mask_hw, 0.9, 0.8, (1.0, 2.0))
    assert np.array_equal(mask.on((7, 9)), mask_hw)
    assert mask.area_px == mask_hw.sum()


def test_where_masks_overlap_the_smallest_is_on_top():
    parts = [np.zeros((4, 6), bool) for _ in range(3)]
    parts[0][0, 0:2] = parts[1][:] = parts[2][0, 1:4] = True
    masks = [AutomaticMask.of(part, 1, 1, (0, 0)) for part in parts]
    assert numbered(masks, (4, 6)).tolist() == [[1, 1, 3, 3, 2, 2], *[[2] * 6] * 3]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"points_per_side": 0}, "points_per_side 0 is not possible; give a number from 1 to 256"),
        ({"points_per_side": 8.5}, "points_per_side 8.5 is not possible; give a whole number"),
        ({"iou": 1.5}, "iou 1.5 is not possible; give a number from 0 to 1"),
        ({"stability": -0.1}, "stability -0.1"),
        ({"nms": float("nan")}, "nms nan"),
        ({"max_share": "much"}, "max_share 'much'"),
        ({"min_area_px": -1}, "min_area_px -1"),
        ({"crop_layers": 9}, "crop_layers 9"),
    ],
)
def test_settings_that_are_not_possible_are_refused(wrong, message):
    with pytest.raises(SettingsError, match=message):
        AutomaticSettings(**wrong)


def test_each_family_has_settings_and_a_model_that_takes_boxes_only_is_refused():
    assert default_settings("sam-vit-h") == AutomaticSettings(32, 0.88, 0.95, 0.7, 0, 100, 0.95)
    assert default_settings("lung-compact").points_per_side < 32
    with pytest.raises(PromptError, match=r"medsam-vit-b accepts boxes only.*use lung-compact or sam-vit-b"):
        default_settings("medsam-vit-b")
    medsam = MedSamModel(tiny_sam(), name="my-medsam")
    with pytest.raises(PromptError, match="my-medsam accepts boxes only"):
        automatic_masks(medsam, grey((40, 40)))
    with pytest.raises(PromptError, match="my-medsam accepts boxes only"):
        medsam.decode_points(medsam.encode([grey((40, 40))])[0], np.array([[1.0, 1.0]]))


def test_what_is_not_a_grey_slice_is_refused():
    with pytest.raises(IntensityError, match=r"expected uint8 \(H, W\)"):
        automatic_masks(BrightThings(), np.zeros((4, 5, 3), np.uint8))


# ---- volumes


def two_boxes() -> np.ndarray:
    """Grey levels (4, 30, 40): in slice 2 an L of 150 and in its corner a square of 250; anything else is 0."""
    array = np.zeros((4, 30, 40), np.uint8)
    array[2, 4:24, 5:15] = array[2, 16:24, 5:35] = 150
    array[2, 4:12, 5:13] = 250
    array[0, 0, 0] = 255
    return array


def turned(degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])


OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = turned(20) @ np.diag([-2.0, -1.5, 4.0])
OBLIQUE[:3, 3] = (40, 30, -100)
SETTINGS = AutomaticSettings(points_per_side=2, min_area_px=20)


def test_masks_lie_on_the_right_voxels_of_an_oblique_volume_however_it_is_stored():
    array = two_boxes()
    plain = volume_masks(Volume(array, OBLIQUE), BrightThings(), SETTINGS, slices=[2])
    expected = np.where(array[2] == 150, 1, np.where(array[2] == 250, 2, 0))
    assert np.array_equal(plain.labelmap_kji[2], expected)
    assert not plain.labelmap_kji[[0, 1, 3]].any()

    stored = array[::-1, :, ::-1].transpose(2, 0, 1)  # array axes are now I flipped, K flipped, J
    to_plain = np.zeros((4, 4))
    to_plain[0, 2], to_plain[0, 3] = -1, 39  # i of the plain volume from k of the stored one
    to_plain[1, 0] = 1
    to_plain[2, 1], to_plain[2, 3] = -1, 3
    to_plain[3, 3] = 1
    other = volume_masks(Volume(stored, OBLIQUE @ to_plain), BrightThings(), SETTINGS, slices=[2])
    assert np.array_equal(other.labelmap_kji, plain.labelmap_kji[::-1, :, ::-1].transpose(2, 0, 1))
    for found in (plain, other):
        assert found.labelmap_kji.dtype == np.uint16
        row = found.table.iloc[1]
        voxels_kji = np.argwhere(found.labelmap_kji == 2)
        assert row[["k_min", "j_min", "i_min"]].tolist() == voxels_kji.min(axis=0).tolist()
        assert row[["k_max", "j_max", "i_max"]].tolist() == voxels_kji.max(axis=0).tolist()


def test_the_table_says_how_large_masks_are():
    """The L has 200 + 160 pixels more, with the square within; pixels are 2 x 1.5 mm."""
    table = volume_masks(Volume(two_boxes(), OBLIQUE), BrightThings(), SETTINGS, slices=[2]).table
    assert table["mask"].tolist() == [1, 2]
    assert table["area_px"].tolist() == [20 * 10 + 8 * 20, 64]
    assert table["visible_px"].tolist() == [20 * 10 + 8 * 20 - 64, 64]
    assert table["area_mm2"].tolist() == pytest.approx([360 * 3.0, 64 * 3.0])
    assert table["point_k"].tolist() == [2, 2]
    flat = Volume(two_boxes(), OBLIQUE, has_physical_spacing=False)
    assert volume_masks(flat, BrightThings(), SETTINGS, slices=[2]).table["area_mm2"].isna().all()


def test_masks_of_several_slices_are_numbered_on():
    array = two_boxes()
    array[3] = array[2]
    found = volume_masks(Volume(array, OBLIQUE), BrightThings(), SETTINGS, slices=range(4))
    assert found.table["mask"].tolist() == [1, 2, 3, 4]
    assert found.table["slice"].tolist() == [2, 2, 3, 3]
    assert np.array_equal(found.labelmap_kji[3], np.where(array[3] > 0, found.labelmap_kji[2] + 2, 0))


def test_oblong_pixels_are_drawn_out_and_masks_come_back_on_the_own_ones():
    """Rows of a coronal slice 4 mm apart, columns 2 mm: the model sees twice as many rows."""
    array = np.zeros((30, 1, 40), np.uint8)
    array[10:20, 0, 5:25] = 250
    array[0, 0, 0] = 255
    model = BrightThings()
    found = volume_masks(Volume(array, OBLIQUE, modality_hint="CT"), model, SETTINGS)
    assert np.array_equal(found.labelmap_kji > 0, array == 250)
    assert found.table["area_px"].tolist() == [200]


@pytest.mark.parametrize("number", [-1, 4])
def test_a_slice_that_is_not_there_is_refused(number):
    with pytest.raises(VolumeError, match=f"no slice {number}; give one from 0 to 3"):
        volume_masks(Volume(two_boxes(), OBLIQUE), BrightThings(), SETTINGS, slices=[number])


# ---- lung-compact


def test_a_batch_of_points_is_answered_as_one_by_one(model):
    image, _ = generated_xray(0, (200, 310))
    points_xy = np.random.default_rng(0).uniform(0, 199, (7, 2))
    [embedding] = model.encode([image])
    low_res, scores = model.decode_points(embedding, points_xy)
    logits = model.to_slice(low_res, image.shape)
    assert logits.shape == (7, 2, 200, 310), "the object that the point shows, and both lungs"
    for point_xy, own, score in zip(points_xy, low_res, scores, strict=True):
        alone = model.decode(embedding, PromptSet((PointPrompt(tuple(point_xy)),)))
        assert relative_error(own[0], alone.low_res_logits) < 1e-4
        assert float(score[0]) == pytest.approx(alone.score, abs=1e-5)


def best_dice(masks: list[AutomaticMask], reference_hw: np.ndarray) -> float:
    return max((float(dice(reference_hw, mask.on(reference_hw.shape))) for mask in masks), default=0.0)


@pytest.mark.slow
def test_lung_compact_finds_each_lung_and_both_of_a_phantom(model):
    phantom = generated_ct(1)
    slice_hw, labels_hw = to_grey(phantom.hu_kji, "CT")[32], phantom.labelmap_kji[32]
    picture, fields_hw = generated_xray()
    for image, reference, least in ((slice_hw, labels_hw, 0.96), (picture, fields_hw, 0.87)):
        masks = automatic_masks(model, image)
        assert len(masks) == 3
        for wanted in (reference == 1, reference == 2, reference > 0):
            assert best_dice(masks, wanted) > least


def test_lung_compact_finds_nothing_where_there_is_no_lung(model):
    phantom = generated_ct(1)
    assert not phantom.labelmap_kji[0].any()
    assert automatic_masks(model, to_grey(phantom.hu_kji, "CT")[0]) == []


def test_lung_compact_finds_the_lungs_of_a_real_chest_xray(model, shared_data):
    name = "MCUCXR_0011_0.png"
    image, reference = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(shared_data / "cxr_montgomery" / folder / name)))
        for folder in ("images", "masks")
    )
    assert best_dice(automatic_masks(model, to_grey(image, "XRAY")), reference > 0) > 0.96
