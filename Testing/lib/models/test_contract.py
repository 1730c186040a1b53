"""The contract of all models: capabilities as data, wrappers that forward everything, a border of NumPy arrays."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest

from SAMLungSegLib.errors import IntensityError, ModelError, PromptError
from SAMLungSegLib.models import MODELS, load_model
from SAMLungSegLib.models.base import Embedding, ModelView, Prediction, PromptableModel
from SAMLungSegLib.models.capabilities import COMPACT, MEDSAM, SAM, Capabilities
from SAMLungSegLib.models.trainable import trainable
from SAMLungSegLib.models.wrapper import ModelWrapper
from SAMLungSegLib.pipeline import segment_volume
from SAMLungSegLib.prompts import BoxPrompt, MaskPrompt, PointPrompt, PromptSet
from SAMLungSegLib.structures import LOBES, LUNGS
from SAMLungSegLib.volume import Volume

LIBRARY = Path(__file__).resolve().parents[3] / "SAMLungSegLib"
MODULE = LIBRARY.parent / "SAMLungSeg"
GREY = np.full((6, 8), 100, np.uint8)


class Remote(PromptableModel):
    """Stands for a model that runs elsewhere: no torch anywhere; everything dark is one of two structures."""

    name, device = "remote", "elsewhere"
    capabilities = Capabilities(("box",), needs_prompt=False, structures=LUNGS)
    max_threads = 2

    def encode(self, views):
        return [Embedding((ModelView.of(view).grey_hw.tobytes(),), ModelView.of(view).grey_hw.shape) for view in views]

    def decode(self, embedding, prompts):
        self.check_prompts(prompts, embedding.size_hw)
        grey = np.frombuffer(embedding.features[0], np.uint8).reshape(embedding.size_hw)
        logits = np.where(grey < 128, 5, -5).astype(np.float32)
        columns = np.broadcast_to(np.arange(grey.shape[1], dtype=np.float32), grey.shape)
        half = grey.shape[1] / 2
        return Prediction(logits, 0.75, logits, {"right_lung": half - columns, "left_lung": columns - half})


def test_a_wrapper_forwards_every_member_of_the_contract():
    public = {name for name in vars(PromptableModel) if not name.startswith("_")} | set(PromptableModel.__annotations__)
    assert public <= set(vars(ModelWrapper))
    for name in public:
        ours, theirs = inspect.getattr_static(ModelWrapper, name), inspect.getattr_static(PromptableModel, name, None)
        assert ours is not theirs, name


def test_a_wrapper_is_as_capable_as_the_model_inside():
    model, wrapped = Remote(), ModelWrapper(Remote())
    assert (wrapped.name, wrapped.device, wrapped.max_threads) == ("remote", "elsewhere", 2)
    assert wrapped.capabilities is Remote.capabilities
    embedding = wrapped.encode([GREY])[0]
    assert np.array_equal(wrapped.decode(embedding, PromptSet()).logits, model.decode(embedding, PromptSet()).logits)
    with pytest.raises(PromptError, match="accepts boxes only"):
        wrapped.check_prompts(PromptSet((PointPrompt((1, 1)),)), (6, 8))


def test_a_model_without_torch_segments_a_volume():
    """Columns 0 to 31 are the patient's right: displayed as stored, since the first axis runs to the left."""
    array = np.full((3, 64, 64), 200, np.uint8)
    array[:, 16:48, 8:24], array[:, 16:48, 40:56] = 50, 50
    volume = Volume(array, np.diag([-1.0, -1.0, 1.0, 1.0]), "toy")
    labelmap = segment_volume(volume, Remote()).labelmap_kji
    assert set(np.unique(labelmap[:, :, :32])) == {0, 1} and set(np.unique(labelmap[:, :, 32:])) == {0, 2}
    assert (labelmap == 1).sum() == (labelmap == 2).sum() == 3 * 32 * 16


@pytest.mark.parametrize("capabilities", [SAM, MEDSAM, COMPACT, Capabilities(structures=LOBES, slices_per_input=3)])
def test_capabilities_come_back_from_a_card(capabilities):
    assert Capabilities.from_fields(capabilities.to_fields()) == capabilities


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompts": ["wish"]}, "choose of points, box, mask"),
        ({"prompts": "box"}, "is no list"),
        ({"trainable": ["heart"]}, "choose of image_encoder"),
        ({"slices_per_input": 2}, "no middle"),
        ({"slices_per_input": "3"}, "expected one like 1"),
        ({"needs_prompt": 1}, "expected one like True"),
        ({"structures": "bones"}, "no label set 'bones'"),
        ({"window": "night"}, "is no preset"),
        ({"colour": 3}, "'colour' is not known"),
    ],
)
def test_capabilities_that_make_no_sense_are_refused_in_words(fields, message):
    with pytest.raises(ModelError, match=message):
        Capabilities.from_fields(fields)


def test_the_registry_says_what_a_model_can_do_before_it_is_loaded():
    assert not MODELS["lung-compact"].capabilities.needs_prompt
    assert MODELS["lung-compact"].capabilities.structures is LUNGS
    assert MODELS["medsam-vit-b"].capabilities.prompts == ("box",)
    assert load_model(device="cpu").capabilities == MODELS["lung-compact"].capabilities


@pytest.mark.parametrize(
    ("capabilities", "prompts", "message"),
    [
        (SAM, PromptSet(), "needs a prompt"),
        (MEDSAM, PromptSet((PointPrompt((1, 1)),)), "boxes only"),
        (MEDSAM, PromptSet(box=BoxPrompt((0, 0, 4, 4)), mask=MaskPrompt(np.ones((6, 8), bool))), "boxes only"),
    ],
)
def test_what_is_not_among_the_capabilities_is_refused(capabilities, prompts, message):
    model = Remote()
    model.capabilities = capabilities
    with pytest.raises(PromptError, match=message):
        model.check_prompts(prompts, (6, 8))


def test_a_view_has_its_neighbours_and_the_nearest_stands_for_missing_ones():
    slices = [np.full((2, 2), value, np.uint8) for value in (10, 20, 30)]
    views = [
        ModelView(one, lambda offset, at=at: slices[at + offset] if 0 <= at + offset < 3 else None)
        for at, one in enumerate(slices)
    ]
    assert views[1].stack(3)[:, 0, 0].tolist() == [10, 20, 30]
    assert views[0].stack(5)[:, 0, 0].tolist() == [10, 10, 10, 20, 30]
    assert views[2].stack(3)[:, 0, 0].tolist() == [20, 30, 30]
    assert ModelView.of(slices[1]).stack(3)[:, 0, 0].tolist() == [20, 20, 20]


def test_a_slice_that_is_not_grey_is_no_view():
    with pytest.raises(IntensityError, match="expected uint8"):
        ModelView.of(np.zeros((2, 2), np.float32))


def test_a_model_that_cannot_be_trained_is_refused_in_words():
    with pytest.raises(ModelError, match="cannot be trained here"):
        trainable(Remote())
    with pytest.raises(ModelError, match="no part 'heart'"):
        trainable(load_model(device="cpu", engine="torch")).part("heart")


def test_nobody_outside_models_asks_for_a_family():
    asking = [
        str(path.relative_to(LIBRARY.parent))
        for folder in (LIBRARY, MODULE)
        for path in folder.rglob("*.py")
        if not path.is_relative_to(LIBRARY / "models")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "family"
    ]
    assert asking == []
