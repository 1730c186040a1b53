"""The fast image encoder: the numbers of segment_anything's own module, with less work and memory."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from segment_anything.modeling.image_encoder import Attention
from tiny_encoders import GRIDS, TOLERANCE, frames, relative_error, stock, vit
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from SAMLungSegLib.models.sam import attention
from SAMLungSegLib.models.sam import encoder as encoder_module
from SAMLungSegLib.models.sam.attention import attend_fused, attend_in_blocks, relative_offsets
from SAMLungSegLib.models.sam.encoder import FastEncoder, mix_tokens, position_embedding

WAYS = {"blocks": attend_in_blocks, "fused": attend_fused}


# ---- the same numbers


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_embeddings_are_those_of_the_stock_module(monkeypatch, grid, way):
    monkeypatch.setattr(encoder_module, "attend", way)
    encoder = vit(grid)
    assert relative_error(FastEncoder(encoder)(frames(grid)), stock(encoder, frames(grid))) <= TOLERANCE


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_windows_at_the_edge_may_be_computed_with_their_padding(monkeypatch, grid):
    """As on graphics cards."""
    encoder = vit(grid)
    monkeypatch.setattr(encoder_module, "has_padded_windows", lambda _device: True)
    monkeypatch.setattr(encoder_module, "attend", attend_fused)
    assert relative_error(FastEncoder(encoder)(frames(grid)), stock(encoder, frames(grid))) <= TOLERANCE


def test_gradients_are_the_same_with_the_padding_of_windows(monkeypatch):
    """Of tokens and of the layer's weights, on a grid of 10 x 9 in windows of 7."""
    attention = vit(15).blocks[0].attn.requires_grad_(True)
    found = []
    for is_padded in (False, True):
        monkeypatch.setattr(encoder_module, "has_padded_windows", lambda _device, is_padded=is_padded: is_padded)
        tokens = torch.randn(2, 10, 9, attention.qkv.in_features, generator=torch.Generator().manual_seed(1))
        tokens.requires_grad_()
        mixed = mix_tokens(attention, tokens, window=7)
        weights = (attention.qkv.weight, attention.qkv.bias, attention.rel_pos_h)
        found.append([mixed, *torch.autograd.grad((mixed * mixed.detach().sin()).sum(), (tokens, *weights))])
    for one, other in zip(*found, strict=True):
        assert relative_error(one.detach(), other.detach()) <= TOLERANCE


@pytest.mark.parametrize("scores", [1, 3 * 20**3, 5 * 20**3 + 1, 7 * 20**4], ids="{} scores at once".format)
def test_the_size_of_the_blocks_does_not_matter(monkeypatch, scores):
    """A single row of queries, three and five rows with a rest, all rows of seven heads where there are three."""
    encoder = vit(20)
    expected = stock(encoder, frames(20))
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", scores)
    assert relative_error(FastEncoder(encoder)(frames(20)), expected) <= TOLERANCE


@pytest.mark.parametrize(("width", "heads"), [(1024, 16), (1280, 16)], ids=["ViT-L", "ViT-H"])
def test_the_widths_of_the_larger_networks_work(width, heads):
    """ViT-H has 80 channels a head."""
    encoder = vit(15, width=width, heads=heads, depth=2, global_blocks=(1,))
    expected = stock(encoder, frames(15))
    assert relative_error(FastEncoder(encoder)(frames(15)), expected) <= 10 * TOLERANCE
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder_module, "attend", attend_fused)
        assert relative_error(FastEncoder(encoder)(frames(15)), expected) <= 10 * TOLERANCE


def test_a_batch_gives_what_its_frames_give_alone():
    encoder = FastEncoder(vit(20))
    images = frames(20, number=3)
    alone = torch.cat([encoder(image[None]) for image in images])
    assert relative_error(encoder(images), alone) <= TOLERANCE


def test_weights_are_read_at_every_call():
    encoder, other = vit(20), vit(15)
    fast = FastEncoder(encoder)
    before = fast(frames(20))
    own = {name: value for name, value in other.state_dict().items() if value.shape == encoder.state_dict()[name].shape}
    encoder.load_state_dict(own, strict=False)
    after = fast(frames(20))
    assert relative_error(after, stock(encoder, frames(20))) <= TOLERANCE
    assert relative_error(after, before) > 0.1


def test_a_patched_layer_is_used():
    """As adapters do: a layer is replaced by one that adds to its output."""

    class Adapted(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer, self.more = layer, nn.Linear(layer.in_features, layer.out_features)

        def forward(self, x):
            return self.layer(x) + self.more(x)

    encoder = vit(15)
    before = FastEncoder(encoder)(frames(15))
    for block in encoder.blocks:
        block.attn.qkv, block.mlp.lin1 = Adapted(block.attn.qkv), Adapted(block.mlp.lin1)
    after = FastEncoder(encoder)(frames(15))
    assert relative_error(after, stock(encoder, frames(15))) <= TOLERANCE
    assert relative_error(after, before) > 0.1


# ---- padded windows


def one_channel_attention(offsets_x: tuple[float, float, float]) -> Attention:
    """Every query is 1, every key 0, values are the tokens; `offsets_x` is the table of columns of a 2 x 2 window."""
    attention = Attention(1, num_heads=1, use_rel_pos=True, input_size=(2, 2))
    with torch.no_grad():
        attention.qkv.weight.copy_(torch.tensor([[0.0], [0.0], [1.0]]))
        attention.qkv.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
        attention.rel_pos_w.copy_(torch.tensor(offsets_x)[:, None])
    return attention


@pytest.mark.parametrize(
    ("to_the_right", "share"), [(1.0, 1 / 4), (3.0, 1 / 8)], ids=["equal", "keys to the right count three times"]
)
@torch.inference_mode()
def test_padded_keys_take_their_share_of_the_attention(to_the_right, share):
    """One real token of value 5 in a window of 2 x 2: the padded ones have value 0 and weights 1, and r, r on the
    right, so the real one keeps 1 / (2 + 2 r). Without padded keys it would keep all."""
    attention = one_channel_attention((float(torch.tensor(to_the_right).log()), 0.0, 0.0))
    assert mix_tokens(attention, torch.full((1, 1, 1, 1), 5.0), window=2).item() == pytest.approx(5 * share)


@torch.inference_mode()
def test_keys_and_values_of_padded_tokens_are_the_bias():
    """Three padded tokens of value 4 and a real one of 5 + 4: their mean."""
    attention = one_channel_attention((0.0, 0.0, 0.0))
    attention.qkv.bias[2] = 4.0
    mixed = mix_tokens(attention, torch.full((1, 1, 1, 1), 5.0), window=2)
    assert mixed.item() == pytest.approx((9 + 3 * 4) / 4)


# ---- other input sizes


def resized_position(position: Tensor, grid: int) -> Tensor:
    """The published recipe for ViTs at another size: antialiased bicubic interpolation."""
    planes = F.interpolate(position.permute(0, 3, 1, 2), (grid, grid), mode="bicubic", antialias=True)
    return planes.permute(0, 2, 3, 1)


@pytest.mark.parametrize("grid", [10, 16])
def test_smaller_frames_are_encoded_with_interpolated_positions(grid):
    """The stock module interpolates relative positions by itself, once its position embedding has the size."""
    encoder = vit(20)
    resized = deepcopy(encoder)
    resized.pos_embed = nn.Parameter(resized_position(encoder.pos_embed.detach(), grid))
    embedding = FastEncoder(encoder)(frames(grid))
    assert embedding.shape == (1, 32, grid, grid)
    assert relative_error(embedding, stock(resized, frames(grid))) <= TOLERANCE


def test_a_ramp_of_positions_stays_a_ramp_at_half_the_size():
    """Cell i of 10 covers cells 2i and 2i + 1 of 20, whose mean is 2i + 0.5."""
    encoder = vit(20)
    encoder.pos_embed.data[:] = torch.arange(20.0)[:, None]
    position = position_embedding(encoder, 10, 10)[0, 4, :, 7]
    assert torch.allclose(position[2:-2], 2 * torch.arange(2.0, 8.0) + 0.5, atol=1e-3)


def test_relative_offsets_run_from_the_farthest_negative_to_the_farthest_positive():
    """With a table of its own offsets -2..2, the entry for query i and key j is i - j."""
    table = torch.arange(-2.0, 3.0)[:, None]
    assert relative_offsets(table, 3)[..., 0].tolist() == [[0, -1, -2], [1, 0, -1], [2, 1, 0]]


# ---- cost


class LargestArray(TorchDispatchMode):
    """Records the elements of the largest array that an operation returns."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.elements = max([self.elements, *(one.untyped_storage().nbytes() // 4 for one in _tensors(out))])
        return out


def _tensors(out):
    return [one for one in (out if isinstance(out, (tuple, list)) else [out]) if isinstance(one, Tensor)]


def test_no_score_matrix_is_ever_in_memory(monkeypatch):
    """At 28 x 28 tokens, 3 heads: 1.8 million scores; the largest array must be the queries, keys and values."""
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", 1 << 16)
    encoder = vit(28)
    with LargestArray() as largest:
        FastEncoder(encoder)(frames(28))
    assert largest.elements == max(28 * 28 * 4 * 48, 3 * (16 * 28) ** 2)
    with LargestArray() as of_stock, torch.no_grad():
        encoder(frames(28))
    assert of_stock.elements == 3 * (28 * 28) ** 2


def test_padded_tokens_are_not_multiplied():
    """15 x 15 tokens are four windows of 14 x 14: 225 rows enter the layer, not 784, and one for the padding."""
    encoder = vit(15, depth=1, global_blocks=())
    rows = []
    encoder.blocks[0].attn.qkv.register_forward_hook(lambda _layer, args, _out: rows.append(len(args[0])))
    FastEncoder(encoder)(frames(15))
    assert sum(rows) == 225 + 3, rows


def test_no_gradients_are_kept():
    assert not FastEncoder(vit(6))(frames(6)).requires_grad


# ---- half precision


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 5e-2), (torch.float16, 5e-3)], ids=str)
def test_half_precision_comes_close(monkeypatch, way, dtype, tolerance):
    monkeypatch.setattr(encoder_module, "attend", way)
    encoder = vit(20)
    expected = stock(encoder, frames(20))
    embedding = FastEncoder(encoder.to(dtype))(frames(20))
    assert embedding.dtype == dtype
    assert 0 < relative_error(embedding, expected) <= tolerance


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no graphics card here")
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 5e-2), (torch.float16, 5e-3)], ids=str
)
@pytest.mark.parametrize("grid", [20, 28])
def test_a_graphics_card_gives_the_same(grid, dtype, tolerance, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # which rounds to ten bits
    encoder = vit(grid)
    expected = stock(encoder, frames(grid))
    images = frames(grid, number=3).cuda()
    embeddings = FastEncoder(encoder.to("cuda", dtype))(images)
    assert relative_error(embeddings[:1], expected) <= tolerance
