"""Embeddings on disk: found by content, never damaged, never too many, shared by processes."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from generated_chests import generated_ct
from processes import ready_processes

from SAMLungSegLib.intensity import WINDOW_PRESETS, to_grey
from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.base import Embedding, ModelView, Prediction, PromptableModel
from SAMLungSegLib.models.cached import CachedModel
from SAMLungSegLib.models.embedding_cache import EmbeddingCache
from SAMLungSegLib.pipeline import Options, segment_volume
from SAMLungSegLib.volume import Volume


class CountingModel(PromptableModel):
    """An encoder whose embedding is the slice itself, and that counts the slices it has seen."""

    def __init__(self, fingerprint: str = "encoder") -> None:
        self.name, self.device, self._fingerprint, self.seen = "counting", torch.device("cpu"), fingerprint, 0

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def encode(self, views) -> list[Embedding]:
        slices = [ModelView.of(view).grey_hw for view in views]
        self.seen += len(slices)
        return [Embedding((torch.from_numpy(one.astype(np.float32)) / 3,), one.shape) for one in slices]

    def decode(self, embedding, prompts) -> Prediction:
        return Prediction(embedding.features[0].numpy(), 1.0, embedding.features[0].numpy())


@pytest.fixture
def cache(tmp_path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "embeddings")


def a_slice(value: int = 7, size_hw: tuple[int, int] = (5, 6)) -> np.ndarray:
    return np.full(size_hw, value, np.uint8)


def embedding_of_bytes(count: int) -> Embedding:
    return Embedding((torch.zeros(count // 2),), (1, 1))


def stored_files(cache: EmbeddingCache) -> list[Path]:
    return sorted(cache.folder.glob("*.safetensors"))


def test_a_slice_is_encoded_once(cache):
    model = CountingModel()
    cached = CachedModel(model, cache)
    first = cached.encode([a_slice()])[0]
    again = cached.encode([a_slice()])[0]
    assert model.seen == 1
    assert again.size_hw == first.size_hw == (5, 6)
    assert torch.equal(again.features[0], first.features[0])
    assert again.features[0].dtype == torch.float32
    assert float(again.features[0][0, 0]) == float(np.float16(7 / 3))


def test_another_process_finds_what_this_one_stored(cache):
    CachedModel(CountingModel(), cache).encode([a_slice()])
    model = CountingModel()
    CachedModel(model, EmbeddingCache(cache.folder)).encode([a_slice()])
    assert model.seen == 0


def test_only_the_slices_that_are_missing_are_encoded(cache):
    model = CountingModel()
    cached = CachedModel(model, cache)
    cached.encode([a_slice(1), a_slice(3)])
    values = [float(one.features[0][0, 0]) for one in cached.encode([a_slice(n) for n in (1, 2, 3, 2)])]
    assert model.seen == 3
    assert values == [float(np.float16(n / 3)) for n in (1, 2, 3, 2)]


def test_the_same_image_under_another_name_hits_and_another_window_misses(cache):
    rng = np.random.default_rng(0)
    array = rng.integers(-1000, 400, (2, 16, 16)).astype(np.int16)
    model = CountingModel()
    cached = CachedModel(model, cache)
    for name in ("scan.nii.gz", "copy of scan.nii.gz"):
        cached.encode(list(to_grey(Volume(array.copy(), np.eye(4), name), "CT")))
    assert model.seen == 2
    cached.encode(list(to_grey(Volume(array, np.eye(4), "scan"), "CT", WINDOW_PRESETS["mediastinum"])))
    assert model.seen == 4


def test_another_encoder_or_another_shape_of_the_same_bytes_misses(cache):
    CachedModel(CountingModel("one"), cache).encode([a_slice(0, (4, 6))])
    other, turned = CountingModel("other"), CountingModel("one")
    CachedModel(other, cache).encode([a_slice(0, (4, 6))])
    CachedModel(turned, cache).encode([a_slice(0, (6, 4))])
    assert (other.seen, turned.seen) == (1, 1)


def test_the_weights_of_the_encoder_name_it_and_those_of_the_decoder_do_not():
    model, tuned, retrained = (load_model(device="cpu", engine="torch") for _ in range(3))
    next(tuned.network.mask_decoder.parameters()).add_(1)
    next(retrained.network.image_encoder.parameters()).add_(1)
    assert tuned.fingerprint == model.fingerprint
    assert retrained.fingerprint != model.fingerprint


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "text"])
def test_a_damaged_file_is_noticed_and_made_again(cache, damage, caplog):
    model = CountingModel()
    cached = CachedModel(model, cache)
    whole = cached.encode([a_slice()])[0]
    (file,) = stored_files(cache)
    content = bytearray(file.read_bytes())
    content[-1] ^= 0xFF
    file.write_bytes(
        {"truncated": bytes(content[:-9]), "empty": b"", "flipped": bytes(content), "text": b"no embedding"}[damage]
    )
    again = cached.encode([a_slice()])[0]
    assert model.seen == 2
    assert torch.equal(again.features[0], whole.features[0])
    assert "damaged" in caplog.text
    assert np.array_equal(cache.get(file.stem).features[0], whole.features[0])


def test_a_pickle_in_the_place_of_an_embedding_is_never_run(cache):
    import pickle

    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(cache.folder / "exploded"),))

    CachedModel(CountingModel(), cache).encode([a_slice()])
    (file,) = stored_files(cache)
    file.write_bytes(pickle.dumps(Bomb()))
    assert cache.get(file.stem) is None
    assert not (cache.folder / "exploded").exists()


def test_the_least_recently_used_embeddings_go_first(tmp_path):
    cache = EmbeddingCache(tmp_path, max_bytes=10_000)
    for number in range(8):
        cache.put(f"{number}", embedding_of_bytes(900))
        os.utime(tmp_path / f"{number}.safetensors", (number, number))
    assert cache.get("0") is not None  # used now, so 1 is the oldest
    for number in range(8, 12):
        cache.put(f"{number}", embedding_of_bytes(900))
    names = {file.stem for file in stored_files(cache)}
    assert {"0", "10", "11"} <= names
    assert "1" not in names
    assert cache.size().size_bytes <= 10_000


def test_a_cache_smaller_than_one_embedding_still_answers(tmp_path):
    cached = CachedModel(CountingModel(), EmbeddingCache(tmp_path, max_bytes=1))
    values = [float(cached.encode([a_slice(n)])[0].features[0][0, 0]) for n in (3, 6)]
    assert values == [1.0, 2.0]


def test_a_folder_that_cannot_be_written_costs_time_only(tmp_path, caplog):
    file = tmp_path / "a file in the way"
    file.write_text("")
    model = CountingModel()
    cached = CachedModel(model, EmbeddingCache(file / "embeddings"))
    for _ in range(2):
        assert cached.encode([a_slice(3)])[0].features[0][0, 0] == 1.0
    assert model.seen == 2
    assert caplog.text.count("cannot be kept") == 1


def test_parts_that_a_killed_process_left_are_swept_up(tmp_path):
    old, young = tmp_path / "old.part", tmp_path / "young.part"
    old.write_bytes(b"x")
    young.write_bytes(b"x")
    os.utime(old, (time.time() - 7200,) * 2)
    EmbeddingCache(tmp_path).put("key", embedding_of_bytes(10))
    assert not old.exists()
    assert young.exists()


def test_clearing_says_what_there_was(cache):
    CachedModel(CountingModel(), cache).encode([a_slice(1), a_slice(2)])
    before = cache.size()
    assert cache.clear() == before
    assert before.slices == 2
    assert cache.size() == (0, 0)


def test_the_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("SAMLUNGSEG_CACHE", str(tmp_path))
    assert EmbeddingCache().folder == tmp_path / "embeddings"


def test_lungs_are_the_same_with_a_cold_and_a_warm_cache(cache):
    phantom = generated_ct(3)
    middle = len(phantom.hu_kji) // 2
    volume = Volume(phantom.hu_kji[middle : middle + 3], phantom.ijk_to_ras)
    plain = load_model(device="cpu")
    cached = CachedModel(plain, cache)
    cold = segment_volume(volume, cached, Options()).labelmap_kji
    warm = segment_volume(volume, cached, Options()).labelmap_kji
    assert cache.size().slices == 3
    assert np.array_equal(cold, warm)
    assert np.mean(cold != segment_volume(volume, plain, Options()).labelmap_kji) < 1e-3


def write_for_ever(folder: Path, is_writing) -> None:
    cache = EmbeddingCache(folder, max_bytes=4_000_000)
    is_writing.set()
    for number in itertools.cycle(range(8)):
        cache.put(f"{number:04d}", Embedding((torch.full((256, 32, 32), float(number)),), (8, 8)))


@pytest.mark.slow
def test_fifty_kills_in_the_middle_of_writing_leave_nothing_damaged(tmp_path):
    processes = ready_processes()
    rng = np.random.default_rng(1)
    found, interrupted = 0, 0
    for _ in range(50):
        is_writing = processes.Event()
        writer = processes.Process(target=write_for_ever, args=(tmp_path, is_writing), daemon=True)
        writer.start()
        assert is_writing.wait(60)
        time.sleep(rng.uniform(0.0, 0.05))
        writer.kill()
        writer.join()
        cache = EmbeddingCache(tmp_path)
        for file in stored_files(cache):
            embedding = cache.get(file.stem)
            assert embedding is not None
            assert np.all(embedding.features[0] == float(file.stem))
            found += 1
        interrupted = len(list(tmp_path.glob("*.part")))
    assert found > 50
    assert interrupted > 0  # some kills did hit the middle of a write
