"""The order in which slices are encoded ahead."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.base import ModelView
from SAMLungSegLib.models.cached import CachedModel
from SAMLungSegLib.models.embedding_cache import EmbeddingCache
from SAMLungSegLib.phantom import chest_ct
from SAMLungSegLib.pipeline import Options, encode_volume_ahead, segment_volume
from SAMLungSegLib.pipeline.prefetch import SliceQueue, encode_ahead
from SAMLungSegLib.volume import Volume, axial_plane


def taken(queue: SliceQueue, count: int) -> list[int]:
    return [queue.next() for _ in range(count)]


def test_the_visible_slice_comes_first_and_then_its_neighbours():
    assert taken(SliceQueue(7, visible=3), 7) == [3, 2, 4, 1, 5, 0, 6]


def test_slices_ahead_of_the_scrolling_come_before_those_behind():
    queue = SliceQueue(12, visible=4)
    queue.set_visible(5)
    assert taken(queue, 7) == [5, 6, 7, 4, 8, 9, 10]


def test_turning_round_turns_the_order_round():
    queue = SliceQueue(12, visible=6)
    queue.set_visible(7)
    queue.set_visible(6)
    assert taken(queue, 4) == [6, 5, 4, 3]


def test_each_slice_is_given_out_once_and_then_none():
    queue = SliceQueue(5)
    assert sorted(taken(queue, 5)) == [0, 1, 2, 3, 4]
    assert queue.next() is None
    assert len(queue) == 0


def test_wherever_a_person_scrolls_the_visible_slice_is_next():
    rng = np.random.default_rng(0)
    queue, done = SliceQueue(300), set()
    while len(queue):
        visible = int(rng.integers(300))
        queue.set_visible(visible)
        index = queue.next()
        assert index == visible or visible in done
        done.add(index)
    assert len(done) == 300


def test_threads_share_a_queue_without_taking_a_slice_twice():
    queue, taken_by = SliceQueue(2000), [[], []]

    def work(mine: list[int]) -> None:
        while (index := queue.next()) is not None:
            mine.append(index)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in taken_by]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken_by[0] + taken_by[1]) == list(range(2000))


class SeenModel(CachedModel):
    """Notes which slices it was asked to encode; each slice holds its own number."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def encode(self, views):
        slices = [ModelView.of(view).grey_hw for view in views]
        self.seen += [int(one[0, 0]) for one in slices]


def numbered_slice(index: int) -> np.ndarray:
    return np.full((2, 2), index, np.uint8)


def test_a_person_who_jumps_gets_the_visible_slice_encoded_next():
    model, queue = SeenModel(), SliceQueue(50, visible=10)
    encode_ahead(model, numbered_slice, queue, progress=lambda left: queue.set_visible(40) if left == 47 else None)
    assert model.seen[:5] == [10, 9, 11, 40, 41]
    assert sorted(model.seen) == list(range(50))


def test_cancelling_stops_after_the_slice_in_work_and_the_rest_can_go_on_later():
    model, queue = SeenModel(), SliceQueue(5, visible=0)
    encode_ahead(model, numbered_slice, queue, cancelled=lambda: len(model.seen) == 2)
    assert model.seen == [0, 1]
    encode_ahead(model, numbered_slice, queue)
    assert model.seen == [0, 1, 2, 3, 4]


def test_what_was_encoded_ahead_is_in_the_cache(tmp_path):
    model = CachedModel(load_model(device="cpu"), EmbeddingCache(tmp_path))
    encode_ahead(model, numbered_slice, SliceQueue(3))
    assert model.cache.size().slices == 3
    assert model.cache.get(model.cache.key(numbered_slice(2), model.fingerprint)).size_hw == (2, 2)


# ---- a whole volume


def upright() -> Volume:
    phantom = chest_ct(seed=0, size_kji=(4, 96, 96), spacing_mm=(70.0, 4.0, 4.0))
    return Volume(phantom.hu_kji, phantom.ijk_to_ras)


def oblong() -> Volume:
    """Rows four times as far apart as columns."""
    phantom = chest_ct(seed=0, size_kji=(4, 96, 96), spacing_mm=(70.0, 4.0, 4.0))
    return Volume(phantom.hu_kji[:, ::4].copy(), phantom.ijk_to_ras @ np.diag([1.0, 4, 1, 1]))


def stored_otherwise() -> Volume:
    """Coronally, flipped and tilted."""
    volume = upright()
    stored = np.eye(4)  # I runs as I did, J as -K, K as J
    stored[:3, :3] = volume.ijk_to_ras[:3, [0, 2, 1]] * [1, -1, 1]
    stored[:3, 3] = volume.ijk_to_ras[:3, 3] + 3 * volume.ijk_to_ras[:3, 2]
    tilt = np.array([[0.96, -0.28, 0, 12], [0.28, 0.96, 0, -7], [0, 0, 1, 30], [0, 0, 0, 1]])
    return Volume(volume.array_kji.transpose(1, 0, 2)[:, ::-1].copy(), tilt @ stored)


def as_unsigned() -> Volume:
    """Without negative values, which only the whole volume tells."""
    return Volume((upright().array_kji + 1024).clip(0).astype(np.uint16), upright().ijk_to_ras)


OPTIONS = [Options(), Options(window="mediastinum"), Options(modality="XRAY")]


@pytest.mark.parametrize("options", OPTIONS, ids=["lung", "mediastinum", "xray"])
@pytest.mark.parametrize("volume", [upright(), oblong(), stored_otherwise(), as_unsigned()], ids=range(4))
def test_after_a_volume_was_encoded_ahead_segmenting_it_encodes_nothing(volume, options, tmp_path, monkeypatch):
    model = CachedModel(load_model(device="cpu"), EmbeddingCache(tmp_path))
    left = []
    encode_volume_ahead(volume, model, SliceQueue(4, visible=2), options, progress=left.append)
    assert left == [3, 2, 1, 0]
    assert model.cache.size().slices == 4
    monkeypatch.setattr(model.model, "encode", lambda slices: pytest.fail("a slice was encoded again"))
    assert segment_volume(volume, model, options).scores.shape == (4,)


def test_a_slice_with_oblong_pixels_is_encoded_as_it_is_drawn_for_the_model():
    shapes = []

    class Shapes(SeenModel):
        def encode(self, views):
            slices = [ModelView.of(view).grey_hw for view in views]
            shapes.extend(one.shape for one in slices)

    encode_volume_ahead(oblong(), Shapes(), SliceQueue(4))
    assert shapes == [(93, 96)] * 4  # 24 rows with three more between any two


def test_slices_are_numbered_as_they_are_displayed():
    volume, greys = stored_otherwise(), []

    class Greys(SeenModel):
        def encode(self, views):
            slices = [ModelView.of(view).grey_hw for view in views]
            greys.extend(slices)

    encode_volume_ahead(volume, Greys(), SliceQueue(4, visible=1))
    expected = segment_volume(volume, load_model(device="cpu")).grey_nhw
    assert axial_plane(volume).size_nhw[0] == 4
    np.testing.assert_array_equal(greys, expected[[1, 0, 2, 3]])


def test_encoding_a_volume_ahead_stops_between_slices_and_goes_on_with_the_same_queue():
    queue, left = SliceQueue(4), []
    volume, model = upright(), SeenModel()
    encode_volume_ahead(volume, model, queue, progress=left.append, cancelled=lambda: len(left) == 1)
    assert left == [3]
    encode_volume_ahead(volume, model, queue, progress=left.append)
    assert left == [3, 2, 1, 0]
