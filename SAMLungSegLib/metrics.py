"""Agreement of two binary masks: overlap, surface distances, volume. Torch-free.

`METRICS` lists them; tables, plots and the command line iterate it. A new metric is one function and one row.

Surfaces are boundary voxels: mask voxels with a face neighbour (4 in a slice, 6 in a volume) outside the mask, where
everything outside the image is outside the mask. A volume one voxel thick is treated as a slice. Distances are taken
between voxel centres with `scipy.spatial.KDTree`: exact for any spacing, and on a chest CT several times faster than
a distance map because the cost follows the surface, not the volume (MONAI's versions need torch and such a map).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf, nan

import numpy as np
from scipy.ndimage import binary_erosion, find_objects, generate_binary_structure
from scipy.spatial import KDTree

from SAMLungSegLib.errors import GeometryError, SettingsError

DEFAULT_TOLERANCE_MM = 2.0

Distances = tuple[np.ndarray, np.ndarray]


def dice(reference: np.ndarray, prediction: np.ndarray) -> float:
    """Overlap of two binary masks, 2|A & B| / (|A| + |B|).

    Args:
        reference: bool array, (H, W) or (K, J, I).
        prediction: bool array, same shape.
    Returns:
        Unitless value in [0, 1]; NaN when both masks are empty.
    Raises:
        GeometryError: shapes differ.
    Source: Dice (1945), doi:10.2307/1932409.
    """
    common, in_reference, in_prediction = _counts(reference, prediction)
    return _ratio(2 * common, in_reference + in_prediction)


def jaccard(reference: np.ndarray, prediction: np.ndarray) -> float:
    """Intersection over union, |A & B| / |A | B|. Arguments, NaN and errors as for `dice`.

    Source: Jaccard (1912), doi:10.1111/j.1469-8137.1912.tb05611.x.
    """
    common, in_reference, in_prediction = _counts(reference, prediction)
    return _ratio(common, in_reference + in_prediction - common)


def precision(reference: np.ndarray, prediction: np.ndarray) -> float:
    """Share of the prediction that is correct; NaN when the prediction is empty. Otherwise as `dice`."""
    common, _, in_prediction = _counts(reference, prediction)
    return _ratio(common, in_prediction)


def sensitivity(reference: np.ndarray, prediction: np.ndarray) -> float:
    """Share of the reference that was found; NaN when the reference is empty. Otherwise as `dice`."""
    common, in_reference, _ = _counts(reference, prediction)
    return _ratio(common, in_reference)


def hausdorff_95_mm(
    reference: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: Sequence[float],
    *,
    distances_mm: Distances | None = None,
) -> float:
    """Robust Hausdorff distance: the larger of the two directed 95th percentiles of surface distances.

    Args:
        reference: bool array, (H, W) or (K, J, I).
        prediction: bool array, same shape.
        spacing_mm: distance between voxel centres along each array axis, in the order of the axes.
        distances_mm: what `surface_distances_mm` gives for these masks, where it is at hand.
    Returns:
        Millimetres; NaN when both masks are empty, infinity when one is: a missed object is not a small error, and
        leaving it out would flatter the prediction.
    Raises:
        GeometryError: shapes differ, or spacing_mm does not have one positive number for each axis.
    Source: Huttenlocher et al. (1993), doi:10.1109/34.232073; percentile interpolated linearly.
    """
    from_reference, from_prediction = distances_mm or surface_distances_mm(reference, prediction, spacing_mm)
    if not from_reference.size and not from_prediction.size:
        return nan
    if not from_reference.size or not from_prediction.size:
        return inf
    return float(max(np.percentile(from_reference, 95), np.percentile(from_prediction, 95)))


def assd_mm(
    reference: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: Sequence[float],
    *,
    distances_mm: Distances | None = None,
) -> float:
    """Average symmetric surface distance: the mean over the boundary voxels of both masks of the distance to the other.

    Args:
        reference: bool array, (H, W) or (K, J, I).
        prediction: bool array, same shape.
        spacing_mm: as for `hausdorff_95_mm`.
        distances_mm: as for `hausdorff_95_mm`.
    Returns:
        Millimetres; NaN when both masks are empty, infinity when one is.
    Raises:
        GeometryError: as for `hausdorff_95_mm`.
    Source: Heimann et al. (2009), doi:10.1109/TMI.2009.2013851.
    """
    both = np.concatenate(distances_mm or surface_distances_mm(reference, prediction, spacing_mm))
    return float(both.mean()) if both.size else nan


def surface_dice(
    reference: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: Sequence[float],
    tolerance_mm: float = DEFAULT_TOLERANCE_MM,
    *,
    distances_mm: Distances | None = None,
) -> float:
    """Share of both surfaces that lies within a tolerance of the other surface.

    Normalised surface Dice with the surfaces taken as boundary voxels of equal weight: the number of boundary voxels
    of either mask whose centre is at most `tolerance_mm` from the nearest boundary voxel centre of the other, divided
    by the number of all boundary voxels. The definition it approximates weights surface elements by their area.

    Args:
        reference: bool array, (H, W) or (K, J, I).
        prediction: bool array, same shape.
        spacing_mm: as for `hausdorff_95_mm`.
        tolerance_mm: largest distance that counts as agreement.
        distances_mm: as for `hausdorff_95_mm`.
    Returns:
        Unitless value in [0, 1]; NaN when both masks are empty, 0 when one is.
    Raises:
        GeometryError: as for `hausdorff_95_mm`.
        SettingsError: the tolerance is negative.
    Source: Nikolov et al. (2021), doi:10.2196/26151.
    """
    if not tolerance_mm >= 0:
        raise SettingsError(f"Tolerance {tolerance_mm} mm is not usable; give zero or a positive number.")
    both = np.concatenate(distances_mm or surface_distances_mm(reference, prediction, spacing_mm))
    return _ratio(int(np.count_nonzero(both <= tolerance_mm)), both.size)


def volume_difference_ml(reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """Prediction's volume minus the reference's, in millilitres; both (K, J, I). Zero when both are empty.

    Raises:
        GeometryError: shapes differ, the masks are not volumes, or spacing_mm is not usable.
    """
    _, in_reference, in_prediction = _counts(reference, prediction)
    if np.ndim(reference) != 3:
        raise GeometryError(f"A volume in ml needs masks (K, J, I), got shape {np.shape(reference)}.")
    return (in_prediction - in_reference) * float(np.prod(_checked_spacing(spacing_mm, 3))) / 1000


def relative_volume_error(reference: np.ndarray, prediction: np.ndarray) -> float:
    """Prediction's volume minus the reference's, by the reference's; needs no spacing.

    Args:
        reference: bool array, (H, W) or (K, J, I).
        prediction: bool array, same shape.
    Returns:
        Unitless, 0.1 for a prediction that is a tenth too large; NaN when the reference is empty.
    Raises:
        GeometryError: shapes differ.
    Source: Heimann et al. (2009), doi:10.1109/TMI.2009.2013851, there in percent.
    """
    _, in_reference, in_prediction = _counts(reference, prediction)
    return _ratio(in_prediction - in_reference, in_reference)


def surface_distances_mm(reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]) -> Distances:
    """Distances from each boundary voxel of one mask to the nearest boundary voxel of the other.

    Arguments and errors as for `hausdorff_95_mm`.

    Returns:
        Float64 vectors in mm: from the reference's surface, and from the prediction's. A vector is empty when its own
        mask is, and infinite when only the other mask is empty.
    """
    reference, prediction = _checked_pair(reference, prediction)
    spacing = _checked_spacing(spacing_mm, reference.ndim)
    reference_mm, prediction_mm = _boundary_mm(reference, spacing), _boundary_mm(prediction, spacing)
    return _nearest_mm(reference_mm, prediction_mm), _nearest_mm(prediction_mm, reference_mm)


def _nearest_mm(points_mm: np.ndarray, targets_mm: np.ndarray) -> np.ndarray:
    if not len(points_mm) or not len(targets_mm):
        return np.full(len(points_mm), inf)
    # Balancing the tree costs more than it saves on points that lie on a grid.
    tree = KDTree(targets_mm, balanced_tree=False, compact_nodes=False)
    return tree.query(points_mm)[0]


def _boundary_mm(mask: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """Float64 (N, D): centres of the boundary voxels."""
    (box,) = find_objects(mask.view(np.int8), max_label=1)
    if box is None:
        return np.empty((0, mask.ndim))
    # Along an axis of one voxel every voxel would be boundary, and a slice would have no outline.
    thick = [size > 1 or mask.size == 1 for size in mask.shape]
    neighbours = generate_binary_structure(mask.ndim, 1)[tuple(slice(None) if t else slice(1, 2) for t in thick)]
    boundary = mask[box] & ~binary_erosion(mask[box], neighbours)
    return (np.argwhere(boundary) + [extent.start for extent in box]) * spacing_mm


def _counts(reference: np.ndarray, prediction: np.ndarray) -> tuple[int, int, int]:
    """Voxels in both masks, in the reference, in the prediction."""
    reference, prediction = _checked_pair(reference, prediction)
    both, in_reference, in_prediction = map(np.count_nonzero, (reference & prediction, reference, prediction))
    return int(both), int(in_reference), int(in_prediction)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else nan


def _checked_pair(reference: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    reference, prediction = np.asarray(reference, dtype=bool), np.asarray(prediction, dtype=bool)
    if reference.shape != prediction.shape:
        raise GeometryError(
            f"The reference has shape {reference.shape} and the prediction {prediction.shape}; "
            "put both on the same grid first."
        )
    return reference, prediction


def _checked_spacing(spacing_mm: Sequence[float], dimensions: int) -> np.ndarray:
    spacing = np.asarray(spacing_mm, dtype=float)
    if spacing.shape != (dimensions,) or not np.all(np.isfinite(spacing)) or np.any(spacing <= 0):
        raise GeometryError(
            f"Spacing {tuple(spacing_mm)} mm does not fit masks of {dimensions} axes; "
            "give one positive number for each axis."
        )
    return spacing


@dataclass(frozen=True)
class Metric:
    """One row of the table of metrics.

    Attributes:
        name: column name in tables and on the command line.
        title: name for readers.
        unit: 'mm', 'px', 'ml', or '' for a share.
        function: (reference, prediction), then spacing_mm and tolerance_mm where the flags below say so.
        higher_is_better: None where the best value is in the middle (a signed difference).
        needs_spacing: takes spacing_mm; undefined on images without physical spacing.
        needs_tolerance: takes tolerance_mm after spacing_mm.
        shares_distances: takes distances_mm by name, so that several metrics share the costly part.
        per_slice: has a meaning in a single slice.
    """

    name: str
    title: str
    unit: str
    function: Callable[..., float]
    higher_is_better: bool | None = True
    needs_spacing: bool = False
    needs_tolerance: bool = False
    shares_distances: bool = False
    per_slice: bool = True

    def measure(
        self,
        reference: np.ndarray,
        prediction: np.ndarray,
        spacing_mm: Sequence[float] | None = None,
        tolerance_mm: float = DEFAULT_TOLERANCE_MM,
        distances_mm: Distances | None = None,
    ) -> float:
        """The metric of two masks of the same shape; NaN where it needs a spacing and there is none."""
        if not self.needs_spacing:
            return self.function(reference, prediction)
        if spacing_mm is None:
            return nan
        tolerance = (tolerance_mm,) if self.needs_tolerance else ()
        shared = {"distances_mm": distances_mm} if self.shares_distances else {}
        return self.function(reference, prediction, spacing_mm, *tolerance, **shared)


METRICS: tuple[Metric, ...] = (
    Metric("dice", "Dice", "", dice),
    Metric("jaccard", "Jaccard", "", jaccard),
    Metric("precision", "Precision", "", precision),
    Metric("sensitivity", "Sensitivity", "", sensitivity),
    Metric(
        "hausdorff_95_mm",
        "HD95",
        "mm",
        hausdorff_95_mm,
        higher_is_better=False,
        needs_spacing=True,
        shares_distances=True,
    ),
    Metric(
        "assd_mm",
        "ASSD",
        "mm",
        assd_mm,
        higher_is_better=False,
        needs_spacing=True,
        shares_distances=True,
    ),
    Metric(
        "surface_dice",
        "Surface Dice",
        "",
        surface_dice,
        needs_spacing=True,
        needs_tolerance=True,
        shares_distances=True,
    ),
    Metric(
        "volume_difference_ml",
        "Volume difference",
        "ml",
        volume_difference_ml,
        higher_is_better=None,
        needs_spacing=True,
        per_slice=False,
    ),
    Metric(
        "relative_volume_error",
        "Relative volume error",
        "",
        relative_volume_error,
        higher_is_better=None,
        per_slice=False,
    ),
)


def in_pixels(metrics: Sequence[Metric]) -> tuple[Metric, ...]:
    """The metrics in mm of a table as metrics in pixels, for images without physical spacing; to measure with ones."""
    return tuple(
        replace(metric, name=f"{metric.name.removesuffix('_mm')}_px", unit="px")
        for metric in metrics
        if metric.unit == "mm"
    )


ALL_METRICS = (*METRICS, *in_pixels(METRICS))


def measure_all(
    metrics: Sequence[Metric],
    reference: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: Sequence[float] | None = None,
    tolerance_mm: float = DEFAULT_TOLERANCE_MM,
) -> dict[str, float]:
    """Each metric of two masks by name, with the distances between the surfaces computed once; see `Metric.measure`."""
    distances_mm = None
    if spacing_mm is not None and any(metric.shares_distances for metric in metrics):
        distances_mm = surface_distances_mm(reference, prediction, spacing_mm)
    return {m.name: m.measure(reference, prediction, spacing_mm, tolerance_mm, distances_mm) for m in metrics}
