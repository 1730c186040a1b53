"""What a model sees of an image, decided here and nowhere else.

Whatever is prefetched, previewed or segmented takes its slices from here, so that embeddings always fit.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np

from SAMLungSegLib.adapters.place import PlaceInVolume, SmallVolume
from SAMLungSegLib.errors import GeometryError
from SAMLungSegLib.intensity import (
    WINDOW_PRESETS,
    GreyMapping,
    Window,
    grey_mapping,
    lung_window_hu,
    stored_levels,
)
from SAMLungSegLib.laterality import BODY_HU, BONE_HU, Tissue
from SAMLungSegLib.masks import Box
from SAMLungSegLib.modality import Modality, RecognisedModality, recognise_modality
from SAMLungSegLib.models.base import Embedding, ModelView
from SAMLungSegLib.models.choice import origin_of
from SAMLungSegLib.models.tuned import learned_window
from SAMLungSegLib.options import Options
from SAMLungSegLib.pipeline.resample import IsotropicResampling
from SAMLungSegLib.volume import ReformattedSlice, SlicePlane, Volume, axial_plane

KEPT_VIEWS = 16
_KEPT_MAPPINGS = 4
_MIDDLE = 50


@dataclass(frozen=True, eq=False)
class VolumeView:
    """The axial slices of a volume.

    Attributes:
        volume: the image.
        modality: given or guessed.
        plane: how its slices are displayed.
        mapping: of stored values to grey.
        resampling: of a slice to square pixels.
        notes: what was assumed about the image: its modality where none was given, and its values.
    """

    volume: Volume
    modality: Modality
    plane: SlicePlane
    mapping: GreyMapping
    resampling: IsotropicResampling
    notes: tuple[str, ...]

    @classmethod
    def of(cls, volume: Volume, options: Options) -> VolumeView:
        """With the options' modality and window; the rest plays no part."""
        recognised = RecognisedModality(options.modality) if options.modality else recognise_modality(volume)
        plane = axial_plane(volume)
        resampling = IsotropicResampling.of(plane.size_nhw[1:], plane.spacing_hw_mm)
        mapping = grey_mapping(volume, recognised.modality, options.ct_window)
        notes = tuple(filter(None, (recognised.note, mapping.note)))
        return cls(volume, recognised.modality, plane, mapping, resampling, notes)

    def __len__(self) -> int:
        return self.plane.size_nhw[0]

    @cached_property
    def grey_nhw(self) -> np.ndarray:
        """All slices in the window, uint8 (N, H, W)."""
        return self.plane.to_display(self.mapping.apply(self.volume.array_kji))

    def grey(self, index: int) -> np.ndarray:
        """One slice in the window, uint8 (H, W); the others are not computed for it."""
        if "grey_nhw" in self.__dict__:
            return self.grey_nhw[index]
        return self.mapping.apply(self._shown_nhw[index])

    def slice(self, index: int) -> ModelView:
        """One slice as models see it, with its neighbours and, of several slices, its place among these."""

        def neighbour(offset: int) -> np.ndarray | None:
            place = index + offset
            return self.resampling.apply(self.grey(place)) if 0 <= place < len(self) else None

        place = PlaceInVolume(self._small, index, len(self)) if len(self) > 1 else None
        return ModelView(self.resampling.apply(self.grey(index)), neighbour, place)

    @cached_property
    def _small(self) -> SmallVolume:
        return SmallVolume(lambda: self.grey_nhw)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """From slice to slice, row to row, column to column."""
        return (self.plane.slice_spacing_mm, *self.plane.spacing_hw_mm)

    @property
    def is_lateral_xray(self) -> bool:
        """Whether an X-ray was taken from the side, by what its file says of view or directions."""
        return self.modality == "XRAY" and (self.volume.is_lateral or self.plane.is_sagittal)

    @property
    def is_frontal_xray(self) -> bool:
        """Whether it is one X-ray of which nothing says that it was taken from the side."""
        return self.modality == "XRAY" and len(self) == 1 and not self.is_lateral_xray

    def lung_hu(self, box: Box = np.s_[:, :, :]) -> np.ndarray:
        """Hounsfield units, int16 (N, H, W), in a box of a CT within the lung window, however it is stored."""
        return lung_window_hu(self._lung_mapping.apply(self._shown_nhw[box]))

    def tissue(self) -> Tissue:
        """Where a CT shows tissue, and where bone."""
        return Tissue(*(self._shown_nhw > level for level in stored_levels(self.volume, (BODY_HU, BONE_HU))))

    def why_no_lung(self) -> str:
        """Why a CT may seem to have no lung, and what to do."""
        if self.mapping.is_certain:
            return "No lung was found; if one is in view, show it with a point or a box."
        finite = self.volume.array_kji[np.isfinite(self.volume.array_kji)]
        return (
            f"No lung was found, and the values, {finite.min():.4g} to {finite.max():.4g} with a median of "
            f"{np.percentile(finite, _MIDDLE):.4g}, do not look like Hounsfield units (air near -1000, the body near "
            "0); give a window in values of the file: --window WIDTH/LEVEL, from what air has to what the body has."
        )

    def why_another_window(self, model: Any, window: Window) -> str:
        """Why a CT in a window may look to a model otherwise than what it was trained with; empty where it does not.

        Args:
            model: of which the card beside its weights says their window.
            window: that the view was made with.
        """
        origin = origin_of(model)
        weights = origin and origin.choice.weights
        learned = weights and learned_window(weights)
        if not learned or learned[0] == window or self.mapping == grey_mapping(self.volume, self.modality, learned[0]):
            return ""
        own, shown = (f"{one.width:g}/{one.level:g}" for one in (learned[0], window))
        return f"The weights were trained with the CT window {own}, and see the image in {shown}; give --window {own}."

    @cached_property
    def _lung_mapping(self) -> GreyMapping:
        return grey_mapping(self.volume, "CT")

    @cached_property
    def _shown_nhw(self) -> np.ndarray:
        return self.plane.to_display(self.volume.array_kji)


@dataclass(eq=False)
class ReformattedView:
    """One reformat of a volume, as people and models see it.

    Attributes:
        modality: of the volume.
        grey_hw: uint8 (H, W).
        hu_hw: int16 (H, W), Hounsfield units within the lung window; None of an X-ray.
        resampling: to square pixels.
        embedding: once it has been encoded.
    """

    modality: Modality
    grey_hw: np.ndarray
    hu_hw: np.ndarray | None
    resampling: IsotropicResampling
    embedding: Embedding | None = None

    @property
    def slice(self) -> ModelView:
        """As models see it; without neighbours."""
        return ModelView(self.resampling.apply(self.grey_hw))


class ReformattedViews:
    """Reformats of one volume; the latest are kept, and what the whole volume decides about grey is found once."""

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self._mapping = lru_cache(_KEPT_MAPPINGS)(partial(grey_mapping, volume))
        self._views: dict[Hashable, ReformattedView] = {}

    def of(self, reformat: ReformattedSlice, modality: Modality | None, window: Window) -> ReformattedView:
        """A reformat in a window; the modality is guessed where it is None.

        Raises:
            GeometryError: the reformat is a mere line.
        """
        if min(reformat.size_hw) == 1:
            height, width = reformat.size_hw
            raise GeometryError(
                f"The slice view meets {self.volume.name} in a line of {width} x {height} pixels; move or turn it, so "
                "that it shows a slice of the image."
            )
        modality = modality or self._guessed_modality
        mapping = self._mapping(modality, window)
        key = (reformat.key, modality, mapping)
        view = self._views.pop(key, None) or self._new(reformat, modality, mapping)
        self._views[key] = view  # the latest at the end
        if len(self._views) > KEPT_VIEWS:
            del self._views[next(iter(self._views))]
        return view

    def tissue(self, reformat: ReformattedSlice) -> Tissue:
        """Where a reformat of a CT shows tissue, and where bone, each (1, H, W)."""
        values = reformat.sample(self.volume.array_kji)[np.newaxis]
        return Tissue(*(values > level for level in self._body_and_bone))

    @cached_property
    def _body_and_bone(self) -> list[float]:
        return stored_levels(self.volume, (BODY_HU, BONE_HU))

    @cached_property
    def _guessed_modality(self) -> Modality:
        return recognise_modality(self.volume).modality

    def _new(self, reformat: ReformattedSlice, modality: Modality, mapping: GreyMapping) -> ReformattedView:
        values = reformat.sample(self.volume.array_kji, outside=mapping.lowest)
        hu_hw = None
        if modality == "CT":
            hu_hw = lung_window_hu(self._mapping(modality, WINDOW_PRESETS["lung"]).apply(values))
        return ReformattedView(
            modality, mapping.apply(values), hu_hw, IsotropicResampling.of(reformat.size_hw, reformat.spacing_hw_mm)
        )
