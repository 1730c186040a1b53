"""A volume in, right and left lung out.

Slices are taken in radiological display orientation, so that every storage order gives the same lungs.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from SAMLungSegLib.air import coarse_lungs_ct
from SAMLungSegLib.errors import listed
from SAMLungSegLib.laterality import LATERAL
from SAMLungSegLib.modality import Modality
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.base import PromptableModel
from SAMLungSegLib.models.choice import ModelChoice, ModelOrigin, origin_of
from SAMLungSegLib.models.tuned import learned_organs
from SAMLungSegLib.options import Options, OptionValues, Progress
from SAMLungSegLib.pipeline.extents import extents_to_predict, with_whole
from SAMLungSegLib.pipeline.predict import predict_slices
from SAMLungSegLib.pipeline.prompting import PromptPlan
from SAMLungSegLib.pipeline.view import VolumeView
from SAMLungSegLib.postprocess import clean_up, interpolate_slices
from SAMLungSegLib.provenance import METADATA_NAME, Provenance, is_free, provenance_of, provenance_path, save
from SAMLungSegLib.structures import ExtentChoice
from SAMLungSegLib.volume import Image, SlicePlane, Volume, as_volume, write_labelmap
from SAMLungSegLib.volume.extents import with_extent
from SAMLungSegLib.volume.formats import pair_header
from SAMLungSegLib.volume.itk import image_of
from SAMLungSegLib.volume.telling import tell_of_image
from SAMLungSegLib.volumetry import LungSizes, lung_sizes

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813
    from typing_extensions import Unpack

logger = logging.getLogger(__name__)

_MOST_NAMED = 4


@dataclass(frozen=True)
class Segmentation:
    """Lungs of one volume, and how they were found.

    Attributes:
        volume: the input.
        labelmap_kji: uint8 on the input's grid, 1 = patient's right lung, 2 = left lung; where both extents of an
            X-ray's lungs were asked for, these are the visible fields, and 3 and 4 what is hidden of right and left.
        grey_nhw: uint8 (N, H, W), what the model saw, in display orientation.
        scores: float32 (N,), predicted IoU per displayed slice; NaN where the model was not used.
        notes: what was assumed about the image, and what is uncertain about the lungs, a sentence each.
        options: what was asked for, with the modality that was taken.
        origin: what the model was loaded from; None of a model of the user's own making.
        image: path of the image; None where it came from no file.
        series: which one of a DICOM folder.
    """

    volume: Volume
    modality: Modality
    plane: SlicePlane
    labelmap_kji: np.ndarray
    grey_nhw: np.ndarray
    scores: np.ndarray
    notes: tuple[str, ...] = ()
    options: Options = field(default_factory=Options)
    origin: ModelOrigin | None = None
    image: Path | None = None
    series: str | None = None

    @classmethod
    def of_labelmap(cls, volume: Volume, labelmap_kji: np.ndarray, options: Options) -> Segmentation:
        """An earlier result as it is stored, to draw or measure it without the model.

        Args:
            volume: the image.
            labelmap_kji: uint8, the lungs on the image's grid.
            options: that they were found with.
        """
        view = VolumeView.of(volume, options)
        scores = np.full(len(view), np.nan, np.float32)
        options = replace(options, modality=view.modality)
        return cls(volume, view.modality, view.plane, labelmap_kji, view.grey_nhw, scores, view.notes, options)

    @property
    def labelmap_nhw(self) -> np.ndarray:
        """The labelmap in display orientation."""
        return self.plane.to_display(self.labelmap_kji)

    @property
    def extent(self) -> ExtentChoice | None:
        """Of the lungs on an X-ray; None of a CT."""
        return self.options.shown_extent

    @property
    def labelmap(self) -> Volume:
        """The labelmap as a volume that says what its labels stand for."""
        like = replace(self.volume, array_kji=self.labelmap_kji, structure_labels=None)
        return with_extent(like, self.extent)

    def statistics(self) -> LungSizes:
        """How large, high and dense the lungs are, whole and by thirds; measured once, see docs/statistics.md."""
        return self._statistics

    @cached_property
    def _statistics(self) -> LungSizes:
        return lung_sizes(self.labelmap_kji, self.volume, self.modality)

    def provenance(self) -> Provenance | None:
        """How the labelmap was made; None where `origin` is not known."""
        if self.origin is None:
            return None
        return provenance_of(
            self.volume,
            self.options,
            self.origin.choice,
            self.origin.device,
            image=self.image,
            series=self.series,
            weights_sha256=self.origin.weights_sha256,
            engine=self.origin.engine,
        )

    def save(self, path: Path | str) -> Path:
        """Write the labelmap and how it was made, as `samlungseg segment` does; `--replay` makes it again.

        The format follows the extension (see `volume.write_labelmap`). The provenance lies beside the labelmap as
        <name>.json, with the `statistics`, and in it where the format has a place; a file of that name that is no
        provenance record stays as it is, with a warning. Of a model that neither `ModelChoice.load` nor `load_model`
        has loaded, the provenance is not known: the labelmap is written alone.

        Raises:
            VolumeError, GeometryError: as `write_labelmap`.
            OutputError: a file cannot be written.
        """
        path, made = Path(path), self.provenance()
        if made is None:
            write_labelmap(self.labelmap_kji, self.volume, path, extent=self.extent)
        elif is_free(beside := provenance_path(path)):
            save(self.labelmap_kji, self.volume, path, made, self.statistics())
        else:
            logger.warning(
                "%s is no provenance record and stays as it is: %s has none beside it; save under another name.",
                beside,
                path.name,
            )
            metadata = {METADATA_NAME: made.to_json()}
            write_labelmap(self.labelmap_kji, self.volume, path, metadata=metadata, extent=self.extent)
        return path

    def to_sitk(self) -> sitk.Image:
        """The labelmap as a SimpleITK image, uint8 in 3D on the input's grid."""
        return image_of(self.labelmap_kji, self.volume.ijk_to_ras)


def segment_volume(
    volume: Volume,
    model: PromptableModel,
    options: Options | None = None,
    *,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Segmentation:
    """Right and left lung of a CT or X-ray.

    Args:
        volume: the image.
        model: any model of the registry.
        options: modality, window, prompts, threshold, extent.
        progress: called with (slices done, slices in all).
        cancelled: polled between slices.
    Raises:
        PromptError: a prompt is outside the volume, or a prompt or the extent is not one of the model's.
        CancelledError: `cancelled` returned true.
    """
    start, options = time.perf_counter(), options or Options()
    view = VolumeView.of(volume, options)
    extents = extents_to_predict(model, view.modality, options.extent)
    if view.modality == "CT" and options.extent != "visible":
        logger.warning("%s: extent '%s' is about X-rays; the lungs of a CT are as always.", volume.name, options.extent)
    grey = view.grey_nhw
    placed = options.prompts.by_slice(view.plane, volume)
    coarse = _coarse_lungs(view) if model.capabilities.needs_prompt and not options.boxes else None
    prompts = PromptPlan(model, placed, view.plane.size_nhw, coarse)
    seen = prompts.slices_to_see(options.every)
    predicted, scores = predict_slices(
        model, view, prompts.of_slice, seen, options.threshold, extents, progress=progress, cancelled=cancelled
    )
    clicked = {index: [point.xy for point in shown.points] for index, shown in placed.items() if shown.points}
    labelmap, on_sides = _cleaned([interpolate_slices(one, seen) for one in predicted], view, options, clicked)
    on_view = LATERAL if view.is_lateral_xray else ""
    on_lungs = view.why_no_lung() if view.modality == "CT" and not labelmap.any() else ""
    on_window = view.why_another_window(model, options.ct_window)
    on_organs = _why_no_lungs(model)
    notes = tuple(filter(None, (on_view, *view.notes, on_window, on_organs, on_sides, on_lungs)))
    for note in notes:
        logger.warning("%s: %s", volume.name, note)
    labelmap[~np.isin(labelmap, options.labels)] = 0
    result = Segmentation(
        volume,
        view.modality,
        view.plane,
        view.plane.from_display(labelmap),
        grey,
        scores,
        notes,
        replace(options, modality=view.modality),
        origin_of(model),
    )
    _say_how(result, len(seen), time.perf_counter() - start)
    return result


def _why_no_lungs(model: PromptableModel) -> str:
    """Why what was found may be no lung: the weights were adapted to other organs."""
    origin = origin_of(model)
    weights = origin and origin.choice.weights
    organs = learned_organs(weights) if weights else ()
    if not organs or any("lung" in one for one in organs):
        return ""
    some = listed([one.replace("_", " ") for one in organs], _MOST_NAMED)
    return (
        f"The weights were adapted to {some}: what was prompted is labelled as a right or left lung all the same; "
        "'samlungseg propagate' names what it is."
    )


def _cleaned(
    predicted: Sequence[np.ndarray],
    view: VolumeView,
    options: Options,
    clicked: Mapping[int, Sequence[tuple[float, float]]],
) -> tuple[np.ndarray, str]:
    """One labelmap (N, H, W) of all predicted extents, and a note on the sides; see `clean_up`."""
    first, *others = predicted
    labelmap, on_sides = clean_up(
        first,
        view.spacing_mm,
        lung_hu=view.lung_hu if view.modality == "CT" else None,
        tissue=view.tissue if view.modality == "CT" and view.plane.is_axial else None,
        frontal_grey=view.grey_nhw if view.is_frontal_xray else None,
        steady=not options.boxes,
        clicked=clicked,
    )
    for raw in others:  # which may touch behind the heart, so that the fields tell the sides
        whole, _ = clean_up(raw, view.spacing_mm, clicked=clicked)
        labelmap = with_whole(labelmap, whole, options.extent, is_side_told=bool(on_sides))
    return labelmap, on_sides


def _say_how(result: Segmentation, shown: int, seconds: float) -> None:
    """`shown`: number of slices that the model saw."""
    window, (slices, height, width) = result.options.ct_window, result.plane.size_nhw
    kind = f"CT, window {window.width:g}/{window.level:g}" if result.modality == "CT" else "X-ray"
    count = f"{slices} slice{'s' if slices > 1 else ''}"
    said = f"{kind}, {count} of {width} x {height} pixels, {shown} shown to the model"
    tell_of_image(logger, "%s: %s, %.1f s.", result.volume.name, said, seconds)


def _coarse_lungs(view: VolumeView) -> np.ndarray:
    """Where automatic prompts point: lung-compact's prediction on X-rays, thresholds and components on CT."""
    if view.modality == "XRAY":
        return segment_volume(view.volume, load_model(), Options(modality="XRAY")).labelmap_nhw
    return coarse_lungs_ct(view.lung_hu(), view.spacing_mm)


def segment(
    image: Image,
    *,
    ijk_to_ras: ArrayLike | None = None,
    model: str | ModelChoice | PromptableModel = "lung-compact",
    weights: Path | str | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    **options: Unpack[OptionValues],
) -> Segmentation:
    """Lungs of one image, the one-line way.

    Example:
        >>> from SAMLungSegLib import segment
        >>> segment("chest.nii.gz").save("chest_lungs.seg.nrrd")

    Args:
        image: the path of a file or DICOM folder, a volume, a SimpleITK image, or an array (K, J, I).
        ijk_to_ras: (4, 4), of an array: voxel centre (i, j, k, 1) to patient RAS in mm.
        model: a name of the registry, a choice or a loaded model. Without a choice, embeddings of a model that encodes
            slowly are kept on disk, as by the command; a model that is not loaded yet is kept for the next image.
        weights: a checkpoint of the user's for that model.
        device: 'auto', 'cpu', 'cuda', 'mps'.
        progress: called with (slices done, slices in all).
        cancelled: polled between slices.
        **options: fields of `Options`.
    Raises:
        SAMLungSegError: its kinds say what was wrong with the image, the prompts or the model.
    """
    volume = as_volume(image, ijk_to_ras)
    if not isinstance(model, PromptableModel):
        choice = model if isinstance(model, ModelChoice) else ModelChoice(model)
        model = (choice if weights is None else replace(choice, weights=Path(weights))).load(device)
    result = segment_volume(volume, model, Options(**options), progress=progress, cancelled=cancelled)
    path = pair_header(Path(image)).absolute() if isinstance(image, str | os.PathLike) else None
    return replace(result, image=path)
