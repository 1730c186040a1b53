"""lung-compact's frame: where slices, masks and logits lie in it, and that they are resized as PyTorch resizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from SAMLungSegLib.models.base import scaled_size
from SAMLungSegLib.models.compact.frames import from_frame, mask_to_frame, to_frame

SIZES = [(256, 256), (512, 512), (300, 200), (101, 333), (17, 640)]


@pytest.mark.parametrize(
    ("size_hw", "input_size", "expected"),
    [((512, 512), 256, (256, 256)), ((300, 200), 256, (256, 171)), ((1, 640), 320, (1, 320))],
)
def test_the_longest_side_becomes_that_of_the_frame(size_hw, input_size, expected):
    assert scaled_size(size_hw, input_size) == expected


def test_a_slice_is_padded_with_black_below_and_right():
    frame = to_frame(np.full((100, 50), 255, np.uint8), 256)
    assert frame.shape == (256, 256)
    assert np.allclose(frame[:, :128], 1)
    assert (frame[:, 128:] == -1).all()


@pytest.mark.parametrize("size_hw", SIZES)
def test_logits_come_back_where_they_belong(size_hw):
    """A ramp along x and y on the frame is the same ramp on the slice, whatever its shape."""
    centres = ((np.arange(128) + 0.5) / 128).astype(np.float32)
    x_ramp, y_ramp = from_frame(np.stack(np.meshgrid(centres, centres)), size_hw)
    longest = max(size_hw)
    expected_x = (np.arange(size_hw[1]) + 0.5) / longest
    expected_y = (np.arange(size_hw[0]) + 0.5) / longest
    inner_x = (expected_x > 0.01) & (expected_x < 0.99 * size_hw[1] / longest)
    inner_y = (expected_y > 0.01) & (expected_y < 0.9 * size_hw[0] / longest)
    assert np.abs(x_ramp[0] - expected_x)[inner_x].max() < 0.006
    if inner_y.any():
        assert np.abs(y_ramp[:, 0] - expected_y)[inner_y].max() < 0.006


def test_a_mask_prompt_lands_where_it_was_drawn():
    logits = np.full((512, 256), -10, np.float32)
    logits[100:300, 60:200] = 10
    frame = mask_to_frame(logits, 256)
    assert frame.shape == (128, 128)
    inside = frame > 0
    assert inside[26:74, 16:49].all()
    assert not inside[:24].any() and not inside[76:].any() and not inside[:, 52:].any()


@pytest.mark.parametrize("size_hw", SIZES)
def test_slices_and_masks_are_resized_as_pytorch_does_with_antialiasing(size_hw):
    grey = np.random.default_rng(0).integers(0, 256, size_hw).astype(np.uint8)
    height, width = scaled_size(size_hw, 320)
    small = F.interpolate(
        torch.from_numpy(grey).float()[None, None], (height, width), mode="bilinear", antialias=True
    ).numpy()[0, 0]
    assert np.abs(to_frame(grey, 320)[:height, :width] - (small / 127.5 - 1)).max() < 5e-5
    padded = np.pad(small - 128, ((0, 320 - height), (0, 320 - width)), constant_values=grey.min() - 128.0)
    halved = padded.reshape(160, 2, 160, 2).mean((1, 3))
    assert np.abs(mask_to_frame(grey - np.float32(128), 320) - halved).max() < 0.01


@pytest.mark.parametrize("size_hw", SIZES)
def test_logits_are_drawn_out_as_pytorch_does(size_hw):
    logits = np.random.default_rng(0).normal(0, 10, (2, 160, 160)).astype(np.float32)
    height, width = scaled_size(size_hw, 320)
    planes = F.interpolate(torch.from_numpy(logits)[None], (320, 320), mode="bilinear")[..., :height, :width]
    if height % 2 == 0 and width % 2 == 0:
        planes = torch.from_numpy(logits)[None, :, : height // 2, : width // 2]
    expected = F.interpolate(planes, size_hw, mode="bilinear")[0].numpy()
    assert np.abs(from_frame(logits, size_hw) - expected).max() < 1e-3
