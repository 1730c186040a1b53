"""Which lung it is where only one is in view: one lung has one side in the whole volume, told by the body around it.

A model that sees axial slices tells the sides by where lung lies in them; of a chest that is cut off beside the
mediastinum, it takes the left lung for the right one, or one lung for two. Slices are in radiological display
orientation: the patient's right is at the left edge of the image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from SAMLungSegLib.masks import box_around
from SAMLungSegLib.structures import LEFT_LUNG, RIGHT_LUNG

TITLES = {RIGHT_LUNG: "right", LEFT_LUNG: "left"}

BODY_HU, BONE_HU = -400, 200
LATERAL = "A lateral X-ray shows the lungs one behind the other: what is found in it has no side; use a frontal one."
IF_LATERAL = "If it is a lateral X-ray, what is found has no side: use a frontal one."

_PIXEL_MM = 2.5  # fine enough to tell lungs apart
_MUCH_LUNG = 0.25  # of the slice with most
_SECOND_LUNG = 0.15  # of a slice's lung
_SLICES_WITH_TWO = 0.25  # of those with much lung: 0.75 to 1 on chests, up to 0.08 where one lung is in view
_ONE_SIDE = 0.8
_MIXED = 0.03  # of a part; beyond the spine it may reach with a fifth

_EDGE_MM = 5.0
_CUT_OFF, _HARDLY_CUT_OFF = 0.4, 0.2  # more of the lung's rows reach one edge of the image than the other

_SPINE_ROWS = 0.4  # of the lung's rows, which lie in front of it
_SPINE_SLICES = 0.4
_SMALLEST_SPINE_MM2 = 100.0
_SHORTEST_SPINE_MM = 60.0  # in fewer slices, ribs and enhanced organs go on as well
_BESIDE_SPINE, _FAR_FROM_SPINE = 0.4, 3.0  # of half the lung's width

_XRAY_PIXELS = 256  # along the longer side
_STRIP = 0.06  # of the width, at either edge
_STRIP_ROWS = 0.3, 0.9  # of the lung's rows: below the shoulders, above the diaphragm
_BRIGHTER = 30  # grey levels
_WIDEST_OF_TWO = 0.42  # of the width of an X-ray that shows the whole chest: one lung takes 0.2 to 0.41
_BESIDE_MIDDLE = 0.1


@dataclass(frozen=True, eq=False)
class Tissue:
    """What surrounds the lungs.

    Attributes:
        body: bool (N, H, W), above `BODY_HU`.
        bone: bool (N, H, W), above `BONE_HU`.
    """

    body: np.ndarray
    bone: np.ndarray


def with_sides_told(
    labelmap: np.ndarray,
    spacing_mm: tuple[float, float, float],
    tissue: Callable[[], Tissue] | None,
    frontal_grey: np.ndarray | None,
) -> tuple[np.ndarray, str]:
    """Give each lung one side by what is around it: of an axial CT, its tissue; of one frontal X-ray, its grey values.

    Arguments and results are those of `with_one_side_each` and `xray_with_one_side`; with neither, sides stay as they
    are.
    """
    if tissue is not None:
        return with_one_side_each(labelmap, spacing_mm, tissue)
    if frontal_grey is not None:
        return xray_with_one_side(labelmap, frontal_grey)
    return labelmap, ""


def with_one_side_each(
    labelmap: np.ndarray, spacing_mm: tuple[float, float, float], tissue: Callable[[], Tissue]
) -> tuple[np.ndarray, str]:
    """Give each lung one side, where the body around it tells which; two lungs with a side each stay as they are.

    Args:
        labelmap: uint8 (N, H, W), 1 right lung, 2 left lung, of an axial CT in display orientation.
        spacing_mm: between slices, rows, columns.
        tissue: of the same grid; called where one lung is in view, or has two labels.
    Returns:
        The labelmap, and a note where sides were told by the body or are not certain, else an empty text.
    """
    lung = labelmap > 0
    if not lung.any():
        return labelmap, ""
    is_alone = not _shows_two_lungs(lung, spacing_mm)
    if not is_alone and not _has_mixed_parts(labelmap):
        return labelmap, ""
    around = tissue()
    spine = _spine_column(lung, around.bone, spacing_mm)
    cut_off = _cut_off(lung, around.body, spacing_mm)
    if is_alone and not (spine is not None and _lies_on_both_sides(lung, spine)):
        return _as_one_lung(labelmap, spine, cut_off)
    result = labelmap if spine is None else _by_spine(labelmap, spine)
    is_doubtful = abs(cut_off) >= _CUT_OFF and (is_alone or _has_mixed_parts(result))
    return result, "A lung is cut off at the image's edge: the sides are uncertain, check them." if is_doubtful else ""


def _as_one_lung(labelmap: np.ndarray, spine: float | None, cut_off: float) -> tuple[np.ndarray, str]:
    lung = labelmap > 0
    by_spine = _side_by_spine(lung, spine)
    side, is_certain = _side(by_spine, cut_off)
    if side is None and _are_side_by_side(labelmap):
        return labelmap, ""
    side = side or _majority(labelmap)
    # a little of the other lung may be in view
    return _noted(labelmap, side, is_certain, spine if by_spine == side else None)


def _noted(labelmap: np.ndarray, side: int, is_certain: bool, spine: float | None = None) -> tuple[np.ndarray, str]:
    """All lung as that of one side, but for what lies beyond the spine, and the note on it."""
    result = np.where(labelmap > 0, side, 0).astype(labelmap.dtype)
    if spine is not None:
        result = _by_spine(result, spine)
    note = f"Only one lung is in view, taken as the {TITLES[side]} one"
    if not is_certain:
        return result, f"{note}: the side is uncertain, check it."
    return result, "" if np.array_equal(result, labelmap) else f"{note} by the body around it."


def slice_with_one_side(
    labels_hw: np.ndarray, spacing_hw_mm: tuple[float, float], tissue: Callable[[], Tissue]
) -> tuple[np.ndarray, str]:
    """Give a lung that is alone in one axial slice and has two labels one side; all other slices stay as they are.

    A slice tells less than a volume, in which a spine goes on and a shoulder blade does not: where the image does not
    plainly end in the mediastinum, edges and spine must agree with what the model saw more of, or nothing is changed.

    Args:
        labels_hw: uint8 (H, W), 1 right lung, 2 left lung, in display orientation.
        spacing_hw_mm: between rows, columns.
        tissue: of that slice, (1, H, W); called where one lung is in view and has two labels.
    Returns:
        As `with_one_side_each`.
    """
    labelmap, spacing_mm = labels_hw[np.newaxis], (1.0, *spacing_hw_mm)
    lung = labelmap > 0
    if not _has_mixed_parts(labelmap) or _shows_two_lungs(lung, spacing_mm) or _are_side_by_side(labelmap):
        return labels_hw, ""
    around = tissue()
    spine = _spine_column(lung, around.bone, spacing_mm)
    if spine is not None and _lies_on_both_sides(lung, spine):
        return labels_hw, ""
    cut_off = _cut_off(lung, around.body, spacing_mm)
    side, is_certain = _side(_side_by_spine(lung, spine), cut_off)
    if abs(cut_off) < _CUT_OFF:
        is_certain &= abs(cut_off) >= _HARDLY_CUT_OFF and side == _majority(labelmap)
    if side is None or not is_certain:
        return labels_hw, "Only one lung is in view, and its side is uncertain, check it."
    result, note = _noted(labelmap, side, is_certain)
    return result[0], note


def xray_with_one_side(labelmap: np.ndarray, grey: np.ndarray) -> tuple[np.ndarray, str]:
    """Give a lung that is alone in a frontal X-ray one side; X-rays of two lungs stay as they are.

    Half a chest ends at the mediastinum, which is brighter than the chest wall and the air at the other edge. In a
    whole chest a lung lies beside the middle. Where neither tells, or two labels are not apart, the X-ray may be a
    lateral one, which shows the lungs one behind the other, and that is said.

    Args:
        labelmap: uint8 (1, H, W), 1 right lung, 2 left lung, in display orientation.
        grey: uint8 (1, H, W), bone bright.
    Returns:
        As `with_one_side_each`.
    """
    lung = labelmap > 0
    step = max(1, round(max(lung.shape) / _XRAY_PIXELS))
    if not lung.any() or _has_two_parts(lung[0, ::step, ::step]):
        return labelmap, ""
    if _are_side_by_side(labelmap):
        return labelmap, f"The lungs are not apart: the sides are uncertain, check them. {IF_LATERAL}"
    by_brightness, by_place = _side_by_brightness(lung[0], grey[0]), _side_by_place(lung[0])
    side = by_place or by_brightness
    is_certain = side is not None and by_brightness in (None, side)
    result, note = _noted(labelmap, side or _majority(labelmap), is_certain)
    return result, note if is_certain else f"{note} {IF_LATERAL}"


def _side_by_brightness(lung_hw: np.ndarray, grey_hw: np.ndarray) -> int | None:
    rows, _ = box_around(lung_hw)
    first, last = (rows.start + round(share * (rows.stop - rows.start)) for share in _STRIP_ROWS)
    width = max(1, round(_STRIP * lung_hw.shape[1]))
    strip = grey_hw[first : max(last, first + 1)]
    brighter = float(np.median(strip[:, -width:])) - float(np.median(strip[:, :width]))
    if abs(brighter) < _BRIGHTER:
        return None
    return RIGHT_LUNG if brighter > 0 else LEFT_LUNG


def _side_by_place(lung_hw: np.ndarray) -> int | None:
    columns = np.nonzero(lung_hw)[1] / lung_hw.shape[1]
    from_middle = columns.mean() - 0.5
    if np.ptp(np.percentile(columns, (2, 98))) > _WIDEST_OF_TWO or abs(from_middle) < _BESIDE_MIDDLE:
        return None
    return RIGHT_LUNG if from_middle < 0 else LEFT_LUNG


def _has_mixed_parts(labelmap: np.ndarray) -> bool:
    """Whether a part that is connected in three dimensions has much of both labels."""
    _, right, left = _parts(labelmap)
    return bool(np.any(np.minimum(right, left) > _MIXED * (right + left).max(initial=1)))


def _parts(labelmap: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parts of the lungs, numbered, and how many voxels of each are right and left; of the box around the lungs."""
    boxed = labelmap[box_around(labelmap)]
    parts, count = ndimage.label(boxed > 0, np.ones((3, 3, 3)))
    right, left = (np.bincount(parts[boxed == side], minlength=count + 1) for side in (RIGHT_LUNG, LEFT_LUNG))
    return parts, right, left


def _by_spine(labelmap: np.ndarray, spine: float) -> np.ndarray:
    """Parts that have both labels, or lie beyond the spine from where their label belongs, get the side they lie on."""
    box = box_around(labelmap)
    parts, right, left = _parts(labelmap)
    column = max(0, round(spine) - box[2].start)
    on_right = np.bincount(parts[..., :column].ravel(), minlength=len(right)) / np.maximum(right + left, 1)
    share_right = right / np.maximum(right + left, 1)
    is_right = (on_right > _ONE_SIDE) & (share_right < 1 - _MIXED)
    is_left = (on_right < 1 - _ONE_SIDE) & (share_right > _MIXED)
    is_right[0] = is_left[0] = False
    result = labelmap.copy()
    result[box][is_right[parts]] = RIGHT_LUNG
    result[box][is_left[parts]] = LEFT_LUNG
    return result


def _are_side_by_side(labelmap: np.ndarray) -> bool:
    """Whether the labels are those of two lungs that touch."""
    right, left = (np.nonzero(labelmap == side)[2] for side in (RIGHT_LUNG, LEFT_LUNG))
    if min(len(right), len(left)) < _SECOND_LUNG * (len(right) + len(left)):
        return False
    return bool(np.percentile(right, 75) < np.percentile(left, 25))


def _shows_two_lungs(lung: np.ndarray, spacing_mm: tuple[float, float, float]) -> bool:
    """Whether many slices have two large parts side by side."""
    rows, columns = (max(1, round(_PIXEL_MM / one)) for one in spacing_mm[1:])
    coarse = lung[box_around(lung)][:, ::rows, ::columns]
    areas = np.count_nonzero(coarse, axis=(1, 2))
    much = coarse[areas >= _MUCH_LUNG * areas.max()]
    return np.mean([_has_two_parts(one) for one in much]) >= _SLICES_WITH_TWO


def _has_two_parts(lung_hw: np.ndarray) -> bool:
    parts, count = ndimage.label(ndimage.binary_opening(np.pad(lung_hw, 1), np.ones((3, 3))))
    sizes = np.bincount(parts.ravel(), minlength=3)[1:]
    first, second = np.argsort(-sizes)[:2] + 1
    if count < 2 or sizes[second - 1] < _SECOND_LUNG * sizes.sum():
        return False
    one, other = sorted((np.nonzero(parts == part)[1] for part in (first, second)), key=np.median)
    return np.percentile(one, 75) < np.percentile(other, 25)


def _spine_column(lung: np.ndarray, bone: np.ndarray, spacing_mm: tuple[float, float, float]) -> float | None:
    """Column of the largest bone behind the front of the lungs that goes on through the slices, as no rib does."""
    slices, rows, _ = box_around(lung)
    if len(lung) > 1 and (slices.stop - slices.start) * spacing_mm[0] < _SHORTEST_SPINE_MM:
        return None
    first = rows.start + int(_SPINE_ROWS * (rows.stop - rows.start))
    share = bone[slices, first : rows.stop].mean(axis=0)
    parts, count = ndimage.label(share > _SPINE_SLICES)
    if count == 0:
        return None
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    if areas.max() * spacing_mm[1] * spacing_mm[2] < _SMALLEST_SPINE_MM2:
        return None
    return float(np.average(np.arange(share.shape[1]), weights=(share * (parts == areas.argmax())).sum(axis=0)))


def _lies_on_both_sides(lung: np.ndarray, spine: float) -> bool:
    columns = np.count_nonzero(lung, axis=(0, 1))
    share = columns[: round(spine)].sum() / columns.sum()
    return 1 - _ONE_SIDE < share < _ONE_SIDE


def _cut_off(lung: np.ndarray, body: np.ndarray, spacing_mm: tuple[float, float, float]) -> float:
    """How much more of the body the image cuts off at its right edge than at its left one, -1 to 1."""
    slices, rows, _ = box_around(lung)
    width = max(1, round(_EDGE_MM / spacing_mm[2]))
    inside = (body | lung)[slices, rows]
    return float(inside[..., -width:].any(axis=2).mean() - inside[..., :width].any(axis=2).mean())


def _side_by_spine(lung: np.ndarray, spine: float | None) -> int | None:
    if spine is None:
        return None
    columns = box_around(lung)[2]
    centre = np.average(np.arange(lung.shape[2]), weights=np.count_nonzero(lung, axis=(0, 1)))
    to_spine = (spine - centre) / ((columns.stop - columns.start) / 2)
    if not _BESIDE_SPINE <= abs(to_spine) <= _FAR_FROM_SPINE:
        return None
    return RIGHT_LUNG if to_spine > 0 else LEFT_LUNG


def _side(by_spine: int | None, cut_off: float) -> tuple[int | None, bool]:
    """The side that spine and edges tell, and whether it is certain.

    An image that ends inside the body at one edge only is cut off there, at the mediastinum.
    """
    by_edges = RIGHT_LUNG if cut_off > 0 else LEFT_LUNG
    if abs(cut_off) >= _CUT_OFF:
        return by_edges, True
    if abs(cut_off) < _HARDLY_CUT_OFF:
        return by_spine, by_spine is not None
    return by_edges, by_spine == by_edges


def _majority(labelmap: np.ndarray) -> int:
    right, left = (np.count_nonzero(labelmap == side) for side in (RIGHT_LUNG, LEFT_LUNG))
    return RIGHT_LUNG if right >= left else LEFT_LUNG
