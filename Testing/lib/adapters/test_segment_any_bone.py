"""SegmentAnyBone's adapters: depth attention by its rule, where bottlenecks are, and slices that know their volume."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from tiny_encoders import relative_error, vit
from tiny_sams import tiny_sam
from torch import nn
from tuning_sets import chest, register_tiny_sam

from SAMLungSegLib.adapters import adapter_from
from SAMLungSegLib.adapters.base import adapter_in, adapter_parameters
from SAMLungSegLib.adapters.bone import SegmentAnyBone
from SAMLungSegLib.adapters.depth import DepthAttention, attention_map, emphasised, on_grid
from SAMLungSegLib.adapters.place import PlaceInVolume, SmallVolume
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.adapted import save_adapter
from SAMLungSegLib.models.base import ModelView
from SAMLungSegLib.models.cached import CachedModel
from SAMLungSegLib.models.embedding_cache import EmbeddingCache
from SAMLungSegLib.models.sam.encoder import AdaptableEncoder
from SAMLungSegLib.models.sam.model import SamModel
from SAMLungSegLib.options import Options
from SAMLungSegLib.pipeline.view import VolumeView
from SAMLungSegLib.prompts import PointPrompt, PromptSet
from SAMLungSegLib.training.adapters import AdapterConfig, AdapterTask, PromptedSlice, fit_adapters
from SAMLungSegLib.training.data.cases import StudyCase, Windowing
from SAMLungSegLib.training.data.examples import Example, read_examples
from SAMLungSegLib.training.example_changes import ExampleChanges
from SAMLungSegLib.volume import Volume

GREY, MASK = chest(0)
SLICES = np.stack([chest(seed)[0] for seed in range(5)])
POINT = PromptSet((PointPrompt((22.0, 48.0)),))


class Bright(nn.Module):
    """In the place of the 3D network: marks what is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.tensor(4.0))
        self.runs = 0

    def forward(self, cubes):
        self.runs += 1
        return self.strength * cubes


def model(*, gate: float = 0.5, learned: bool = True, own_network: bool = False) -> SamModel:
    one = SamModel(tiny_sam(), name="tiny")
    SegmentAnyBone().inject(one.network)
    depth = one.network.image_encoder.adapters["embedding"]
    if not own_network:
        depth.marks = Bright().requires_grad_(False).eval()
    torch.manual_seed(3)
    if learned:
        for name, parameter in one.network.image_encoder.adapters.named_parameters():
            if "marks" not in name:
                nn.init.normal_(parameter, std=0.3)
    depth.gate.data.fill_(gate)
    return one


def depth_of(one: SamModel) -> DepthAttention:
    return one.network.image_encoder.embedding_adapter


def view(index: int = 2, slices: np.ndarray = SLICES) -> ModelView:
    return ModelView(slices[index], place=place(index, slices))


def place(index: int = 2, slices: np.ndarray = SLICES) -> PlaceInVolume:
    return PlaceInVolume(SmallVolume(lambda: slices), index, len(slices))


def embedded(one: SamModel, what) -> torch.Tensor:
    return one.encode([what])[0].features[0]


# ---- the map, by its rule


def test_small_shares_are_nothing_and_from_a_twentieth_on_all_are_strong():
    """16 x .01 = .16; 16 x .05 = .8; .8 + .475 x .2 / .95 = .9; 1 stays."""
    shares = torch.tensor([0.0, 0.001, 0.01, 0.05, 0.525, 1.0], dtype=torch.float64)
    assert emphasised(shares).tolist() == pytest.approx([0, 0, 0.16, 0.8, 0.9, 1.0])


def logits_of(marks: dict[tuple[int, int], float]) -> torch.Tensor:
    """Probabilities by (slice, column) of row 0; elsewhere .09, which counts as none."""
    probabilities = torch.full((64, 64, 64), 0.09, dtype=torch.float64)
    for (number, column), value in marks.items():
        probabilities[number, 0, column] = value
    return probabilities.logit()


def test_a_map_sums_the_marks_of_eight_slices_above_and_below_and_is_relative_to_its_largest():
    """Slice 30: 22 to 38. Column 0: .5 + .5 = 1; 1: .5; 2: outside; 3: .02 is below .1; 4: .11, once; 5: .04 is."""
    marks = {(22, 0): 0.5, (38, 0): 0.5, (30, 1): 0.5, (21, 2): 0.9, (39, 2): 0.9, (30, 3): 0.02, (25, 4): 0.11}
    found = attention_map(logits_of(marks), 30)
    expected = [1, 0.8 + 0.45 * 0.2 / 0.95, 0, 0, 0.8 + 0.06 * 0.2 / 0.95, 0]
    assert found[0, :6].tolist() == pytest.approx(expected)
    assert found.shape == (64, 64) and found[1:].sum() == 0


def test_at_the_ends_of_the_volume_fewer_slices_are_summed():
    """Slice 3: 0 to 11. .6 + .3 is the largest, .45 half of it."""
    found = attention_map(logits_of({(0, 0): 0.6, (11, 0): 0.3, (12, 0): 0.9, (5, 1): 0.45}), 3)
    assert found[0, :2].tolist() == pytest.approx([1, 0.8 + 0.45 * 0.2 / 0.95])


def test_without_any_mark_a_map_is_nothing():
    assert attention_map(logits_of({}), 30).abs().sum() == 0


def test_a_map_lies_on_the_slices_part_of_the_embedding():
    found = on_grid(torch.ones(64, 64), (4, 3), (4, 4))
    assert found[:, 3].sum() == 0 and found[:, :3].flatten().tolist() == pytest.approx([1] * 12)


@pytest.mark.parametrize(("index", "count", "depth"), [(0, 5, 6), (2, 5, 32), (4, 5, 57), (0, 128, 0), (127, 128, 63)])
def test_the_middle_of_a_slice_says_where_it_is_in_the_cube(index, count, depth):
    """Of 5 slices each takes 12.8 of 64: the middle of the first is at 6.4."""
    assert PlaceInVolume(SmallVolume(lambda: []), index, count).depth == depth


def test_the_cube_is_the_volume_drawn_small():
    """Two slices, 0 and 200: the first quarter of the cube is 0, the last 200, between them in a straight line."""
    cube = SmallVolume(lambda: [np.full((7, 90), grey, np.uint8) for grey in (0, 200)]).cube
    assert cube.shape == (64, 64, 64) and cube.dtype == np.uint8
    assert cube[:16].max() == 0 and cube[48:].min() == 200
    assert abs(int(cube[31, 0, 0]) - 98) <= 1  # (31.5 - 16) / 32 of the way


# ---- the fusion


def test_the_fusion_is_that_of_the_gate():
    """Marks are alike everywhere, so that the map is 1 there: (1 - g) E + g mix(E)."""
    depth = DepthAttention(4).eval()
    depth.marks = Bright()
    depth.gate.data.fill_(0.25)
    white = SmallVolume(lambda: [np.full((8, 8), 255, np.uint8)] * 2)
    features = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = depth(features, [None, PlaceInVolume(white, 0, 2)], [(6, 6), (6, 6)])
        assert torch.equal(found[0], features[0])
        assert torch.allclose(found[1], 0.75 * features[1] + 0.25 * depth.mix(features[1:])[0], atol=1e-6)


def test_a_closed_gate_changes_nothing_with_the_real_network():
    one = SamModel(tiny_sam(), name="tiny")
    before = embedded(one, GREY)
    SegmentAnyBone().inject(one.network)
    seen = ModelView(GREY, place=place())
    assert torch.equal(embedded(one, seen), before)
    with torch.no_grad():
        assert torch.equal(one.encode_batch([seen])[0].features[0], one.encode_batch([GREY])[0].features[0])


def test_another_slice_of_the_volume_changes_the_embedding_where_the_gate_is_open():
    other = SLICES.copy()
    other[3] = 255 - other[3]
    for gate, moves in ((0.5, True), (0.0, False)):
        one = model(gate=gate)
        error = relative_error(embedded(one, view(slices=other)), embedded(one, view()))
        assert error > 1e-3 if moves else error == 0


def test_a_slice_alone_is_weighted_by_nothing():
    one = model()
    assert torch.equal(embedded(one, SLICES[2]), embedded(model(gate=0.0), view()))


def test_both_ways_agree_on_slices_with_and_without_a_volume():
    one, views = model(), [view(1), ModelView(SLICES[0]), view(3), view(2, SLICES[::-1].copy())]
    with torch.no_grad():
        fast, own = one.encode(views), one.encode_batch(views)
    for left, right in zip(fast, own, strict=True):
        assert relative_error(left.features[0], right.features[0]) <= 1e-5


def test_the_network_runs_once_a_volume_until_its_weights_change():
    one = model()
    small = SmallVolume(lambda: SLICES)
    for index in range(5):
        embedded(one, ModelView(SLICES[index], place=PlaceInVolume(small, index, 5)))
    assert depth_of(one).marks.runs == 1
    before = embedded(one, view())
    with torch.no_grad():
        depth_of(one).marks.strength.mul_(-1)
    assert relative_error(embedded(one, view()), before) > 1e-3 and depth_of(one).marks.runs == 2


def test_gradients_reach_the_gate_first_and_what_marks_once_it_is_open():
    one = model(gate=0.0)
    parameters = dict(depth_of(one).requires_grad_(True).named_parameters())
    one.encode_batch([view()])[0].features[0].square().sum().backward()
    assert parameters["gate"].grad != 0 and parameters["marks.strength"].grad == 0
    depth_of(one).gate.data.fill_(0.5)
    one.encode_batch([view()])[0].features[0].square().sum().backward()
    assert all(value.grad.abs().max() > 0 for value in parameters.values())


# ---- where it is


def test_the_first_two_and_last_two_blocks_have_bottlenecks():
    one = SimpleNamespace(image_encoder=AdaptableEncoder(vit(6, depth=6)))
    SegmentAnyBone(depth=False).inject(one)
    assert list(one.image_encoder.adapters) == ["0", "1", "4", "5"]
    short = SimpleNamespace(image_encoder=AdaptableEncoder(vit(6, depth=3)))
    SegmentAnyBone(depth=False).inject(short)
    assert list(short.image_encoder.adapters) == ["0", "1", "2"]


def test_there_are_as_many_weights_as_the_formulas_say():
    """Bottleneck of d to h = d / 4 and back: 2 d h + h + d; two in each of 4 blocks, three in each of the decoder's 2.

    Depth attention: two 3 x 3 convolutions of 256 with biases and norms, a gate, and MONAI's VNet.
    """
    block = SimpleNamespace(attn=SimpleNamespace(qkv=nn.Linear(768, 3 * 768)))
    count = {}
    for number in range(12):
        one = SegmentAnyBone().block_adapter(block, number, 12)
        count[number] = 0 if one is None else sum(value.numel() for value in one.parameters())
    assert sum(count.values()) == 4 * 2 * (2 * 768 * 192 + 192 + 768) == 2_366_976
    decoder = SegmentAnyBone().decoder_adapter(256)
    assert 2 * sum(value.numel() for value in decoder.parameters()) == 2 * 3 * (2 * 256 * 64 + 64 + 256) == 198_528
    depth = DepthAttention(256)
    marks = sum(value.numel() for value in depth.marks.parameters())
    others = sum(value.numel() for value in depth.parameters()) - marks
    assert others == 2 * (9 * 256 * 256 + 256 + 512) + 1 == 1_181_185
    assert marks == 45_593_892


@pytest.mark.parametrize("settings", [{"depth": 1}, {"decoder": "yes"}, {"ratio": 0}, {"scale": -1.0}], ids=str)
def test_settings_that_are_not_possible_are_refused(settings):
    with pytest.raises(ModelError, match="is not possible; give"):
        adapter_from("segment-any-bone", settings)


def test_without_monai_it_says_what_to_install_and_depth_can_be_left_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai.networks.nets", None)
    one = SamModel(tiny_sam(), name="tiny")
    with pytest.raises(ModelError, match=r"needs MONAI, which is not installed; run: pip install .* depth=false"):
        SegmentAnyBone().inject(one.network)
    assert not one.network.image_encoder.adapters
    SegmentAnyBone(depth=False).inject(one.network)
    assert not one.capabilities.sees_volume


# ---- slices that know their volume


def test_slices_of_a_volume_have_their_place_and_an_xray_has_none():
    volume = Volume(SLICES.astype(np.int16) - 500, np.diag([4.0, 4.0, 50.0, 1.0]), "five slices")
    shown = VolumeView.of(volume, Options(modality="CT"))
    places = [shown.slice(index).place for index in range(5)]
    assert [one.index for one in places] == list(range(5)) and len({id(one.volume) for one in places}) == 1
    drawn = places[0].volume.cube[[6, 32, 57]].astype(int)
    assert np.abs(drawn.mean((1, 2)) - shown.grey_nhw[[0, 2, 4]].mean((1, 2))).max() < 3
    xray = Volume(SLICES[:1].astype(np.int16), np.eye(4), "x-ray")
    assert VolumeView.of(xray, Options(modality="XRAY")).slice(0).place is None


def test_stored_embeddings_are_told_apart_by_their_volume_and_place(tmp_path):
    one = CachedModel(model(), EmbeddingCache(tmp_path))
    views = [view(), ModelView(SLICES[2], place=place(1)), ModelView(SLICES[2]), view(slices=SLICES[::-1].copy())]
    assert one.capabilities.sees_volume
    assert len({one._key(one_view) for one_view in views}) == 4
    assert one._key(view()) == one._key(views[0])
    plain = CachedModel(SamModel(tiny_sam(), name="plain"), EmbeddingCache(tmp_path))
    assert len({plain._key(one_view) for one_view in views}) == 1


def test_the_file_and_its_card_bring_depth_attention_along(tmp_path, monkeypatch):
    register_tiny_sam(monkeypatch, tmp_path / "cache")
    monkeypatch.setattr("monai.networks.nets.VNet", lambda **_: Bright())  # 182 MB otherwise
    one = load_model("sam-vit-b", device="cpu")
    SegmentAnyBone().inject(one.network)
    depth_of(one).gate.data.fill_(0.5)
    again = load_model("sam-vit-b", weights=save_adapter(tmp_path / "mine.safetensors", one), device="cpu")
    assert adapter_in(again.network) == SegmentAnyBone() and again.capabilities.sees_volume
    assert torch.equal(embedded(again, view()), embedded(one, view()))
    assert relative_error(embedded(again, view()), embedded(again, SLICES[2])) > 1e-3


def test_training_learns_what_only_the_volume_tells():
    """The slice is the same for both targets, everything and nothing; the volumes are black and white."""
    targets = np.ones_like(MASK), np.zeros_like(MASK)
    slices = []
    for target, grey in zip(targets, (255, 0), strict=True):
        volume = SmallVolume(lambda grey=grey: [np.full((8, 8), grey, np.uint8)] * 3)
        slices.append(PromptedSlice(GREY, POINT, target, place=PlaceInVolume(volume, 1, 3)))
    one = model(learned=False)
    for parameter in one.network.mask_decoder.output_hypernetworks_mlps.parameters():
        parameter.data *= 4
    norm = depth_of(one).mix[1]
    fit_adapters(one, slices, AdapterConfig(steps=40, batch=2, learning_rate=1e-2))
    assert norm.num_batches_tracked > 0 and not norm.training
    all_of_it, none_of_it = (one.decode(one.encode([two.view])[0], POINT).logits for two in slices)
    assert (all_of_it > 0).mean() - (none_of_it > 0).mean() > 0.3


def test_a_training_in_another_volume_is_another_one():
    one = model()
    places = None, place(), place(1), place(slices=SLICES[::-1].copy())
    tasks = [AdapterTask(one, [PromptedSlice(GREY, POINT, MASK, place=two)], AdapterConfig(1)) for two in places]
    assert len({task.fingerprint for task in tasks}) == 4


def test_examples_of_a_volume_have_their_place(tmp_path):
    mask = np.zeros((4, 8, 8), np.uint8)
    mask[1:, 2:6, 1:3], mask[1:, 2:6, 5:7] = 1, 2
    values = (np.arange(4 * 8 * 8).reshape(4, 8, 8) % 97).astype(np.uint8)
    for name, array in (("image", values), ("mask", mask)):
        sitk.WriteImage(sitk.GetImageFromArray(array), tmp_path / f"{name}.nii.gz")
    case = StudyCase("set", "one", tmp_path / "image.nii.gz", tmp_path / "mask.nii.gz")
    found = read_examples([case], Windowing(), sees_volume=True)
    assert [(one.place.index, one.place.count) for one in found] == [(1, 4), (2, 4), (3, 4)]
    assert found[0].view.place is found[0].place
    assert read_examples([case], Windowing())[0].place is None


def test_the_volume_is_changed_as_the_slice_itself():
    """All slices are the slice itself, so that the cube must stay a drawing of the changed one."""
    example = Example("chest", 0, GREY, MASK.astype(np.uint8), place=place(1, np.stack([GREY] * 3)))
    changed = ExampleChanges("plain", 64)(example, 7)
    assert (changed.place.index, changed.place.count) == (1, 3)
    expected = SmallVolume(lambda: [changed.grey_hw] * 2).cube.astype(float)
    before = example.place.volume.cube.astype(float)
    error, moved = (np.abs(changed.place.volume.cube - one).mean() for one in (expected, before))
    assert error < 6 < moved


def test_only_the_decoder_and_embeddings_can_be_left_out():
    for settings, missing in (({"depth": False}, "embedding"), ({"decoder": False}, "decoder_0")):
        one = SamModel(tiny_sam(), name="tiny")
        replace(SegmentAnyBone(), **settings).inject(one.network)
        assert missing not in one.network.image_encoder.adapters and adapter_parameters(one.network)
