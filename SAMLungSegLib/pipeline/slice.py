"""One slice along any plane in, right and left lung of that slice out: previews that follow the prompts.

The lungs are those that `segment_volume` finds in the slice, but for what only the neighbouring slices tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from SAMLungSegLib.air import coarse_lungs_ct_slice, without_airway
from SAMLungSegLib.errors import CancelledError, ModelError
from SAMLungSegLib.laterality import slice_with_one_side
from SAMLungSegLib.modality import Modality
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.base import Embedding, PromptableModel
from SAMLungSegLib.options import Options
from SAMLungSegLib.pipeline.extents import extents_to_predict, with_whole
from SAMLungSegLib.pipeline.predict import predict_slice
from SAMLungSegLib.pipeline.prompting import automatic_objects, prompted_objects
from SAMLungSegLib.pipeline.view import ReformattedView, ReformattedViews
from SAMLungSegLib.postprocess import SMALLEST_ISLAND, as_clicked, clean_lungs
from SAMLungSegLib.prompts import PointPrompt
from SAMLungSegLib.prompts.types import ObjectPrompt
from SAMLungSegLib.prompts.volume import PlacedPrompts
from SAMLungSegLib.structures import LEFT_LUNG, RIGHT_LUNG
from SAMLungSegLib.volume import ReformattedSlice, Volume

SMALLEST_SPECK = 0.001  # of the largest part; what is larger may be the tip of a lung, which one slice cannot tell


@dataclass(frozen=True, eq=False)
class SliceSegmentation:
    """Lungs on one reformat of a volume.

    Attributes:
        reformat: where.
        modality: 'CT' or 'XRAY'.
        labels_hw: uint8 (H, W), 1 = patient's right lung, 2 = left lung, and, where both extents were asked for, 3 and
            4 as in `Segmentation`; `reformat.put` writes them into a labelmap.
        grey_hw: uint8 (H, W), the slice in the window.
        score: predicted IoU; NaN where nothing was predicted.
        embedding: of the slice, to be given back for the same reformat, modality and window; None where there is none.
        notes: where the side of a lung was told by the body around it, or is uncertain, a sentence each.
    """

    reformat: ReformattedSlice
    modality: Modality
    labels_hw: np.ndarray
    grey_hw: np.ndarray
    score: float
    embedding: Embedding | None
    notes: tuple[str, ...] = ()


def segment_slice(
    volume: Volume,
    reformat: ReformattedSlice,
    model: PromptableModel,
    options: Options | None = None,
    *,
    embedding: Embedding | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> SliceSegmentation:
    """Right and left lung on one reformat of a CT or X-ray; for more than one reformat or prompt use `SliceSegmenter`.

    Args:
        volume: the image.
        reformat: from `volume.reformat_volume`, on the grid of `volume`.
        model: any model of the registry.
        options: as for `segment_volume`; only prompts on the reformat count.
        embedding: of an earlier prediction for the same reformat, modality and window: the slice is not encoded again.
        cancelled: polled before the slice is encoded and before it is decoded.
    Raises:
        GeometryError: the reformat is of another volume, or a mere line.
        ModelError: the embedding is of another slice.
        PromptError: a prompt is outside the volume, or a prompt or the extent is not one of the model's.
        CancelledError: `cancelled` returned true.
    """
    return SliceSegmenter(volume, model).segment(reformat, options, embedding=embedding, cancelled=cancelled)


class SliceSegmenter:
    """Predicts from prompts on many reformats of one volume.

    What the whole volume decides about grey values is found once, and the latest reformats stay encoded, so that a
    moved prompt costs no more than its decoding. Meant for one thread at a time.

    Example:
        >>> segmenter = SliceSegmenter(volume, model)
        >>> reformat = reformat_volume(volume.size_kji, volume.ijk_to_ras, normal_ras=(0, 1, 0), point_ras=(0, -20, 0))
        >>> segmenter.segment(reformat, Options(points=(VolumePoint((140, 210, 55)),))).labels_hw
    """

    def __init__(self, volume: Volume, model: PromptableModel) -> None:
        """Prepare nothing yet: the first prediction takes longer."""
        self.volume = volume
        self.model = model
        self._views = ReformattedViews(volume)

    def segment(
        self,
        reformat: ReformattedSlice,
        options: Options | None = None,
        *,
        embedding: Embedding | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> SliceSegmentation:
        """Right and left lung on one reformat; arguments and errors as of `segment_slice`.

        On axial and coronal reformats the sides are told as in `segment_volume`; without prompts, a lung that is alone
        on an axial reformat of a CT and has two labels gets one side, told by the body around it. On a sagittal one
        everything is one lung: the one on whose side of the volume's middle it lies.
        """
        options = options or Options()
        view = self._views.of(reformat, options.modality, options.ct_window)
        extents = extents_to_predict(self.model, view.modality, options.extent)
        placed = options.prompts.on(reformat, self.volume)
        is_outside_every_box = bool(options.boxes) and not placed
        objects = [] if is_outside_every_box else self._objects(reformat, view, placed)
        labels_hw, score, note = np.zeros(reformat.size_hw, np.uint8), float("nan"), ""
        if objects:
            embedding = self._encoded(view, embedding, cancelled)
            objects = view.resampling.apply_to_prompts(objects)
            predicted = [predict_slice(self.model, embedding, objects, options.threshold, one) for one in extents]
            score = min(one.score for one in predicted)
            raws = (view.resampling.restore(one.labels_hw) for one in predicted)
            labels_hw, *others = (_finished(raw, reformat, view, placed.points) for raw in raws)
            for whole in others:
                labels_hw = with_whole(labels_hw, whole, options.extent)
            if not placed and view.modality == "CT" and reformat.orientation == "axial":
                labels_hw, note = slice_with_one_side(
                    labels_hw, reformat.spacing_hw_mm, partial(self._views.tissue, reformat)
                )
        labels_hw[~np.isin(labels_hw, options.labels)] = 0
        notes = (note,) if note else ()
        return SliceSegmentation(reformat, view.modality, labels_hw, view.grey_hw, score, view.embedding, notes)

    @cached_property
    def _guide(self) -> SliceSegmenter:
        """Shows models that need prompts where the lungs are."""
        return SliceSegmenter(self.volume, load_model())

    def _objects(self, reformat: ReformattedSlice, view: ReformattedView, placed: PlacedPrompts) -> list[ObjectPrompt]:
        objects = prompted_objects(self.model, placed.points, placed.boxes)
        if not objects:
            objects = automatic_objects(self.model, self._coarse_lungs(reformat, view))
        for one in objects:
            self.model.check_prompts(one.prompts, reformat.size_hw)
        return objects

    def _coarse_lungs(self, reformat: ReformattedSlice, view: ReformattedView) -> np.ndarray:
        """Where automatic prompts point: found by thresholds, or by lung-compact where these do not serve."""
        if view.hu_hw is None:
            return self._guide.segment(reformat, Options(modality="XRAY")).labels_hw
        resampling, is_axial = view.resampling, reformat.orientation == "axial"
        spacing_mm = np.divide(reformat.spacing_hw_mm, resampling.times_hw).tolist()
        found = coarse_lungs_ct_slice(resampling.apply(view.hu_hw), spacing_mm, ends_in_body=not is_axial)
        if not (is_axial or found.any()):
            return self._guide.segment(reformat, Options(modality="CT")).labels_hw
        return _as_one_lung_if_sagittal(resampling.restore(found), reformat)

    def _encoded(self, view: ReformattedView, given: Embedding | None, cancelled: Callable[[], bool]) -> Embedding:
        expected = view.resampling.resampled_hw
        if given is not None and tuple(given.size_hw) != expected:
            raise ModelError(f"The embedding is of a slice of {given.size_hw} pixels; expected {expected}.")
        view.embedding = given or view.embedding
        if view.embedding is None:
            self._stop_if(cancelled)
            view.embedding = self.model.encode([view.slice])[0]
        self._stop_if(cancelled)
        return view.embedding

    def _stop_if(self, cancelled: Callable[[], bool]) -> None:
        if cancelled():
            raise CancelledError(f"Stopped before the slice of {self.volume.name} was segmented; nothing was written.")


def _finished(
    raw: np.ndarray, reformat: ReformattedSlice, view: ReformattedView, points: Sequence[PointPrompt]
) -> np.ndarray:
    """The model's labels (H, W) without airway, specks and holes, except where the user clicked."""
    labels = raw
    is_whole_volume = reformat.plane.size_nhw[0] == 1
    if view.hu_hw is not None and (reformat.orientation == "axial" or is_whole_volume):
        labels = without_airway(labels[None], view.hu_hw[None], (1.0, *reformat.spacing_hw_mm))[0]
    labels = clean_lungs(labels[None], SMALLEST_ISLAND if is_whole_volume else SMALLEST_SPECK)[0]
    labels = as_clicked(raw, labels, [point.xy for point in points])
    labels[~reformat.inside_hw] = 0
    return _as_one_lung_if_sagittal(labels, reformat)


def _as_one_lung_if_sagittal(labels_hw: np.ndarray, reformat: ReformattedSlice) -> np.ndarray:
    """All lung of a sagittal slice of several is of one side: that of its centre, seen from the volume's middle."""
    lung = labels_hw > 0
    size_kji = np.array(reformat.plane.size_kji)
    if reformat.orientation != "sagittal" or reformat.plane.size_nhw[0] == 1 or not lung.any():
        return labels_hw
    centre_ijk = reformat.xy_to_ijk(np.argwhere(lung)[:, ::-1]).mean(axis=0)
    to_right = reformat.plane.ijk_to_ras[0, :3] @ (centre_ijk - (size_kji[::-1] - 1) / 2)
    return np.where(lung, RIGHT_LUNG if to_right > 0 else LEFT_LUNG, 0).astype(np.uint8)
