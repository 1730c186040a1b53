"""A model is loaded once, is known by its weights, and knows what it was loaded from."""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass

import pytest

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.base import PromptableModel
from SAMLungSegLib.models.choice import BaseCheckpoint, ModelChoice, ModelOrigin, forget_models, origin_of
from SAMLungSegLib.models.engines import chosen_engine
from SAMLungSegLib.models.registry import MODELS, bundled_file
from SAMLungSegLib.models.wrapper import ModelWrapper

COMPACT_SHA256 = MODELS["lung-compact"].sha256


@pytest.fixture(autouse=True)
def nothing_kept():
    forget_models()
    yield
    forget_models()


@pytest.fixture
def own(tmp_path):
    """Weights of a user's, the same as the bundled ones."""
    return shutil.copy(bundled_file("lung-compact.safetensors"), tmp_path / "own.safetensors")


def test_a_model_is_loaded_once_until_its_weights_or_what_lies_beside_them_change(own):
    first = ModelChoice(weights=own).load("cpu")
    assert ModelChoice(weights=own).load("cpu") is first
    own.touch()
    second = ModelChoice(weights=own).load("cpu")
    assert second is not first
    own.with_suffix(".json").write_text("{}")
    assert ModelChoice(weights=own).load("cpu") is not second


def test_threads_that_ask_at_once_get_one_model():
    entered, got = threading.Barrier(3), []

    def ask() -> None:
        entered.wait()
        got.append(ModelChoice().load("cpu"))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got[0] is got[1] is got[2]


def test_a_base_is_loaded_anew_for_each_training():
    first, second = (BaseCheckpoint().load("cpu") for _ in range(2))
    assert first is not second
    assert origin_of(first) is None  # what it predicts once it was trained is in no file
    assert BaseCheckpoint().path == ModelChoice().path == bundled_file("lung-compact.safetensors")
    assert BaseCheckpoint().title == f"lung-compact, SHA-256 {COMPACT_SHA256[:12]}"


def test_weights_are_known_by_their_content(tmp_path):
    (tmp_path / "mine.pth").write_bytes(b"abc")
    digests = ModelChoice("sam-vit-b", tmp_path / "mine.pth").weights_sha256()
    assert digests["own"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of 'abc', FIPS 180-2
    assert set(digests) == {"sam-vit-b", "lung-compact", "own"}
    (tmp_path / "mine.pth").write_bytes(b"abcd")
    assert ModelChoice("sam-vit-b", tmp_path / "mine.pth").weights_sha256()["own"] != digests["own"]
    with pytest.raises(ModelError, match="no weights at"):
        ModelChoice(weights=tmp_path / "none.pth").weights_sha256()


def test_a_model_knows_what_it_was_loaded_from(own, monkeypatch):
    digests, engine = {"lung-compact": COMPACT_SHA256, "own": COMPACT_SHA256}, chosen_engine(MODELS["lung-compact"])
    monkeypatch.chdir(own.parent)
    chosen = ModelChoice(weights=own.relative_to(own.parent)).load("cpu")
    assert origin_of(chosen) == ModelOrigin(ModelChoice(weights=own), digests, "cpu", engine)
    plain = load_model(weights=own.name, device="cpu")
    assert origin_of(plain) == ModelOrigin(ModelChoice(weights=own, keeps_embeddings=False), digests, "cpu", engine)
    own.write_bytes(b"other weights, which the loaded models do not have")
    assert origin_of(chosen).weights_sha256 == origin_of(plain).weights_sha256 == digests


@dataclass
class Unhashable(PromptableModel):
    """A user's model whose objects have no hash."""

    def encode(self, views):
        return []

    def decode(self, embedding, prompts):
        raise NotImplementedError


def test_a_model_of_the_users_and_one_that_they_wrapped_have_no_origin():
    assert origin_of(Unhashable()) is None
    assert origin_of(ModelWrapper(load_model(device="cpu"))) is None
