"""SegmentAnyBone's depth attention: where in a slice to look, told by the slices around it (arXiv:2401.12974).

A small network looks at the whole volume once. What it marks near a slice becomes a map by which the slice's embedding
is weighted, beside the embedding itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from SAMLungSegLib.adapters.base import EmbeddingAdapter
from SAMLungSegLib.adapters.place import PlaceInVolume, SmallVolume

REACH = 8  # slices of the cube above and below that count
LEAST_MARK = 0.1
NOTHING, FAINT, STRONG = 0.001, 0.05, 0.8


class DepthAttention(EmbeddingAdapter):
    """(1 - g) E + g mix(E map), g being 0 at the start.

    Args:
        width: C, of the embeddings E.
    Raises:
        ImportError: MONAI is not installed, which has the network (VNet).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        from monai.networks.nets import VNet

        self.marks = VNet(spatial_dims=3, in_channels=1, out_channels=1)
        self.mix = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
        )
        self.gate = nn.Parameter(torch.zeros(()))
        self._latest: tuple[object, Tensor] | None = None

    def forward(
        self, features: Tensor, places: Sequence[PlaceInVolume | None], parts_hw: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Embeddings of slices without a place are as they were."""
        known = {number: place for number, place in enumerate(places) if place is not None}
        if not known:
            return features
        marked = self._marked([place.volume for place in known.values()])
        maps = [
            on_grid(attention_map(one.float(), place.depth), parts_hw[number], features.shape[-2:])
            for one, (number, place) in zip(marked, known.items(), strict=True)
        ]
        chosen = torch.tensor([*known], device=features.device)
        own = features[chosen]
        mixed = self.mix(own * torch.stack(maps)[:, None])
        return features.index_copy(0, chosen, ((1 - self.gate) * own + self.gate * mixed).to(features))

    def _marked(self, volumes: Sequence[SmallVolume]) -> list[Tensor]:
        """What the network puts out (64, 64, 64) for each volume; without gradients, the latest one is kept."""
        different = list(dict.fromkeys(volumes))
        if torch.is_grad_enabled() or self.training or len(different) > 1:
            outputs = dict(zip(different, self._run(different), strict=True))
            return [outputs[one] for one in volumes]
        weights = (*self.marks.parameters(), *self.marks.buffers())
        now = (different[0].digest, *((one.data_ptr(), one.is_inference() or one._version) for one in weights))
        if self._latest is None or self._latest[0] != now:
            self._latest = (now, self._run(different)[0])
        return [self._latest[1]] * len(volumes)

    def _run(self, volumes: Sequence[SmallVolume]) -> Tensor:
        cubes = torch.stack([torch.from_numpy(one.cube) for one in volumes]).to(self.gate)
        return self.marks((cubes / 255 - 0.5)[:, None] / 0.5)[:, 0]


def attention_map(logits: Tensor, depth: int) -> Tensor:
    """Where to look in a slice, (64, 64) in 0..1.

    Args:
        logits: of the network (64, 64, 64): slices, rows, columns.
        depth: number of the slice among these.
    """
    marks = logits[max(0, depth - REACH) : depth + REACH + 1].sigmoid()
    summed = torch.where(marks < LEAST_MARK, 0, marks).sum(0)
    return emphasised(summed / summed.max().clamp(min=torch.finfo(summed.dtype).tiny))


def emphasised(share: Tensor) -> Tensor:
    """0 up to .001; 16 times the share up to .05, where it is .8; from there to 1 in a straight line to 1."""
    strong = STRONG + (share - FAINT) * (1 - STRONG) / (1 - FAINT)
    return torch.where(share <= NOTHING, 0, torch.where(share <= FAINT, STRONG / FAINT * share, strong))


def on_grid(map_hw: Tensor, part_hw: tuple[int, int], grid_hw: Sequence[int]) -> Tensor:
    """A map of a slice on the grid of an embedding, of which the slice takes a part at the top left; 0 elsewhere."""
    rows, columns = part_hw
    if map_hw.shape != part_hw:
        map_hw = F.interpolate(map_hw[None, None], part_hw, mode="bilinear", antialias=True, align_corners=False)[0, 0]
    return F.pad(map_hw, (0, grid_hw[1] - columns, 0, grid_hw[0] - rows))
