"""lung-compact by ONNX Runtime, behind the interface of all models; it needs no PyTorch."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from SAMLungSegLib.models.base import Embedding, ModelView
from SAMLungSegLib.models.capabilities import COMPACT, Capabilities
from SAMLungSegLib.models.compact.decoding import CompactDecoding, Decoded
from SAMLungSegLib.models.compact.frames import BOTH, PROMPTED, FramePrompts, from_frame, prompts_in_frame, to_frame
from SAMLungSegLib.models.onnx_graphs import Device, Sessions, State, bundled_graphs
from SAMLungSegLib.prompts import PointPrompt, PromptSet
from SAMLungSegLib.structures import Extent

NOT_A_POINT, NEGATIVE, POSITIVE, BOX_FIRST, BOX_LAST = -1, 0, 1, 2, 3  # labels of points as SAM has them
FEATURES = ("embedding", "quarter", "half", "eighth", "sixteenth", "last")  # what the encoder finds
GRAPHS_FILE = "lung-compact.graphs"


class CompactOnnxModel(CompactDecoding):
    """lung-compact as `CompactModel` has it, to rounding: logits differ by less than 1e-4.

    Attributes:
        state: all weights of the network, by name.
        frame_size: side of its frame in pixels.
    """

    engine = "onnx"
    _latest: tuple[weakref.ref[Embedding], Extent, Decoded] | None = None

    def __init__(
        self,
        state: State,
        *,
        name: str = "lung-compact",
        device: Device = Device("cpu"),  # noqa: B008  # a frozen value
        capabilities: Capabilities = COMPACT,
    ) -> None:
        self.device = device
        self.state = state
        parts = {key.partition(".")[0] for key in state}
        super().__init__(name, capabilities, int(state["input_size"]), parts, on_cpu=device.type == "cpu")
        self._sessions = Sessions(bundled_graphs(GRAPHS_FILE), state, self.frame_size, device)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the encoder's weights; not that of `CompactModel`, whose features are rounded otherwise."""
        digest = hashlib.sha256(f"compact onnx {self.frame_size} {FEATURES}".encode())
        for name, array in sorted(self.state.items()):
            if name.startswith("image_encoder."):
                digest.update(f"{name} {array.shape} {array.dtype}\n".encode())
                digest.update(array.tobytes())
        return digest.hexdigest()

    def encode(self, views: Sequence[ModelView | np.ndarray]) -> list[Embedding]:
        """Encode slices one by one. Raises IntensityError for what is not uint8 (H, W)."""
        return [self._encoded(ModelView.of(one).grey_hw) for one in views]

    def _encoded(self, grey_hw: np.ndarray) -> Embedding:
        features = self._sessions.run("encoder", image=to_frame(grey_hw, self.frame_size)[None, None])
        return Embedding(tuple(level[0] for level in features), tuple(grey_hw.shape))

    def decode_points(self, embedding: Embedding, points_xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Two masks for each point: the object that it shows, and both lungs."""
        prompts = PromptSet(tuple(PointPrompt(tuple(xy)) for xy in points_xy.tolist()))
        self.check_prompts(prompts, embedding.size_hw)
        every = prompts_in_frame(prompts, embedding.size_hw, self.frame_size)
        found = [
            self._decoded(embedding, FramePrompts(xy[None], label[None]))
            for xy, label in zip(every.points_xy, every.labels, strict=True)
        ]
        low_res, iou = (np.stack(parts)[:, [PROMPTED, BOTH]] for parts in zip(*found, strict=True))
        return low_res, iou

    def to_slice(self, low_res: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
        """Logits (N, M, S/2, S/2) in the slice's pixels (N, M, H, W)."""
        return np.stack([from_frame(one, size_hw) for one in low_res])

    def _decoded(self, embedding: Embedding, prompts: FramePrompts) -> tuple[np.ndarray, np.ndarray]:
        """Logits (4, S/2, S/2) and predicted IoU (4,) in [0, 1] of all mask tokens."""
        half = self.frame_size // 2
        mask = np.zeros((half, half), np.float32) if prompts.mask is None else prompts.mask
        points_xy, labels = with_corners(prompts)
        low_res, iou = self._sessions.run(
            "decoder",
            **_inputs(embedding, FEATURES[:3]),
            point_coords=points_xy[None],
            point_labels=labels[None],
            mask_input=mask[None, None],
            has_mask_input=np.array([prompts.mask is not None], np.float32),
        )
        return low_res[0], iou[0].clip(0, 1)

    def _unprompted(self, embedding: Embedding, extent: Extent) -> Decoded:
        """Remembered for the latest embedding: who clicks stays on a slice, and these weights never change."""
        latest = self._latest
        if latest is None or latest[0]() is not embedding or latest[1] != extent:
            self._latest = latest = (weakref.ref(embedding), extent, super()._unprompted(embedding, extent))
        return latest[2]

    def _whole(self, embedding: Embedding, visible: np.ndarray) -> Decoded:
        low_res, iou = self._sessions.run("whole", **_inputs(embedding, FEATURES[1:]), visible_masks=visible[None])
        return low_res[0], iou[0].clip(0, 1)

    def _corrected(
        self, embedding: Embedding, mask: np.ndarray, points_xy: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, float]:
        low_res, iou = self._sessions.run(
            "corrector",
            **_inputs(embedding, FEATURES[:3]),
            mask_input=mask[None, None],
            point_coords=points_xy[None],
            point_labels=labels[None].astype(np.float32),
        )
        return low_res[0, 0], float(iou[0, 0])


def _inputs(embedding: Embedding, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The features of these names."""
    found = dict(zip(FEATURES, embedding.features, strict=True))
    return {name: found[name][None] for name in names}


def with_corners(prompts: FramePrompts) -> tuple[np.ndarray, np.ndarray]:
    """Points and labels, float32, with the corners of the box; after points without a box one that is none."""
    added_xy, added = np.zeros((0, 2), np.float32), []
    if prompts.box_xyxy is not None:
        added_xy, added = prompts.box_xyxy.reshape(2, 2), [BOX_FIRST, BOX_LAST]
    elif len(prompts.labels):
        added_xy, added = np.zeros((1, 2), np.float32), [NOT_A_POINT]
    return np.concatenate([prompts.points_xy, added_xy]), np.array([*prompts.labels, *added], np.float32)
