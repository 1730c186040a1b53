"""An object carried through a volume, by three slices or one: where it goes, where it stops, and how masks unite."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from SAMLungSegLib.errors import CancelledError, ModelError, PromptError
from SAMLungSegLib.models.base import Capabilities, Embedding, ModelView, Prediction
from SAMLungSegLib.options import Options
from SAMLungSegLib.pipeline.propagation import Carrier, grown_box, hypotheses_of, opened, propagate_volume
from SAMLungSegLib.pipeline.view import VolumeView
from SAMLungSegLib.prompts import BoxPrompt, PointPrompt, PromptSet
from SAMLungSegLib.volume import Volume, axial_plane

POINT = PromptSet((PointPrompt((15.0, 15.0)),))
SIZE = (40, 50)


@dataclass(frozen=True)
class Said:
    logits_nhw: np.ndarray
    score: float = 0.9
    stability: float = 1.0


class Scripted:
    """Predicts what a function says of the middle slice; greys are the number of the slice."""

    name = "scripted"

    def __init__(self, says) -> None:
        self.says, self.asked, self.encoded = says, [], []

    def encode(self, views):
        found = []
        for view in views:
            below, middle, above = (int(one[0, 0]) for one in view.stack(3))
            self.encoded.append((below, middle, above))
            found.append(Embedding((middle,), view.grey_hw.shape))
        return found

    def predict_triple(self, embedding, prompts):
        (number,) = embedding.features
        self.asked.append((number, prompts))
        return self.says(number)


def block(top=10, left=10, bottom=30, right=26, *, size=SIZE) -> np.ndarray:
    """Rows 10 to 29, columns 10 to 25: 320 pixels."""
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


NOTHING = np.zeros(SIZE, bool)


def logits(*masks) -> np.ndarray:
    return np.where(np.stack(masks), 5.0, -5.0).astype(np.float32)


def present(first: int, last: int):
    """An object of the same form in slices from `first` to `last`."""

    def says(number):
        return [
            Said(logits(*(block() if first <= index <= last else NOTHING for index in range(number - 1, number + 2))))
        ]

    return says


def carrier(model: Scripted, count: int = 12, **options) -> Carrier:
    slices = [np.full(SIZE, number, np.uint8) for number in range(count)]

    def view(index: int) -> ModelView:
        return ModelView(slices[index], lambda step: slices[index + step] if 0 <= index + step < count else None)

    return Carrier(model.encode, model.predict_triple, view, count, **options)


# ---- where it goes and stops


def test_it_ends_where_the_object_ends():
    model = Scripted(present(3, 8))
    found = carrier(model).carried(5, POINT)
    assert sorted(found) == [3, 4, 5, 6, 7, 8]
    assert all(np.array_equal(mask, block()) for mask in found.values())
    assert [number for number, _ in model.asked] == [5, 4, 3, 6, 7, 8]


def test_a_triple_is_prompted_by_the_box_of_the_outer_slice_of_the_one_before():
    """Columns 10 to 26, rows 10 to 30: 0.8 at the sides, 1 above and below."""
    model = Scripted(present(3, 8))
    carrier(model).carried(5, POINT)
    assert model.asked[0][1] == POINT
    boxes = {one[1].box.xyxy for one in model.asked[1:]}
    assert boxes == {(10 - 0.8, 10 - 1, 26 + 0.8, 30 + 1)}


def test_each_slice_is_seen_with_its_neighbours_and_encoded_once_for_all_objects():
    model = Scripted(present(0, 3))
    one = carrier(model, 4)
    one.carried(1, POINT)
    one.carried(2, POINT)
    assert sorted(model.encoded) == [(0, 0, 1), (0, 1, 2), (1, 2, 3), (2, 3, 3)]


def test_it_ends_with_the_volume():
    model = Scripted(present(-5, 50))
    assert sorted(carrier(model, 4).carried(3, POINT)) == [0, 1, 2, 3]


def test_an_outer_mask_of_fifty_pixels_is_dropped_and_ends_it_and_one_of_51_goes_on():
    """In 50 pixels a square of 2 fits; 5 x 10 stays as it is, and so does 3 x 17."""
    for outer, expected in ((block(10, 10, 15, 20), [5]), (block(10, 10, 13, 27), [4, 5, 6])):
        says = {5: [Said(logits(outer, block(), outer))]}
        model = Scripted(lambda number, says=says: says.get(number, [Said(logits(NOTHING, NOTHING, NOTHING))]))
        found = carrier(model).carried(5, POINT)
        assert sorted(found) == expected
        assert len(model.asked) == (1 if expected == [5] else 3)


@pytest.mark.parametrize(
    ("score", "stability", "goes_on"),
    [(0.5, 1.0, False), (0.51, 1.0, True), (0.9, 0.59, False), (0.9, 0.6, True)],
)
def test_what_is_not_likely_or_not_stable_ends_it_and_is_not_written(score, stability, goes_on):
    def says(number):
        whole = logits(block(), block(), block())
        return [Said(whole) if number == 5 else Said(whole, score, stability)]

    found = carrier(Scripted(says), 9).carried(5, POINT)
    assert sorted(found) == (list(range(9)) if goes_on else [4, 5, 6])


def test_the_likeliest_hypothesis_that_is_stable_is_taken():
    small = block(10, 10, 20, 20)
    says = [Said(logits(block(), block(), block()), 0.9, 0.3), Said(logits(NOTHING, small, NOTHING), 0.6, 0.9)]
    found = carrier(Scripted(lambda number: says)).carried(5, POINT)
    assert list(found) == [5] and np.array_equal(found[5], small)


def test_nothing_is_found_where_the_prompted_slice_has_no_hypothesis_to_keep():
    assert carrier(Scripted(lambda number: [Said(logits(block(), block(), block()), 0.4)])).carried(5, POINT) == {}


def test_what_two_triples_say_of_a_slice_unites():
    """Slice 4 by the triple of 5 (left half) and by its own (right half); slice 3 by 4's alone."""
    left, right = block(10, 10, 30, 18), block(10, 18, 30, 26)
    says = {5: [Said(logits(left, block(), NOTHING))], 4: [Said(logits(right, right, NOTHING))]}
    found = carrier(Scripted(lambda number: says.get(number, []))).carried(5, POINT)
    assert sorted(found) == [3, 4, 5]
    assert np.array_equal(found[4], left | right) and np.array_equal(found[3], right)


# ---- by a model of one slice


class Single:
    """Predicts what is bright in a slice, or what a function says of it; its predicted IoU is that of no training."""

    name = "single"

    def __init__(self, says=None, *, boxes: bool = True, certainty: float = 5.0) -> None:
        self.says, self.certainty, self.asked = says, certainty, []
        self.capabilities = Capabilities(prompts=("points", "box") if boxes else ("points",))

    def encode(self, views):
        return [Embedding((view.grey_hw,), view.grey_hw.shape) for view in views]

    def decode(self, embedding, prompts):
        (grey,) = embedding.features
        self.asked.append((int(grey[0, 0]), prompts))
        mask = grey > 127 if self.says is None else self.says(int(grey[0, 0]))
        found = np.where(mask, self.certainty, -self.certainty).astype(np.float32)
        return Prediction(found, 0.1, found)


def single_carrier(model: Single, count: int = 12) -> Carrier:
    slices = [np.full(SIZE, number, np.uint8) for number in range(count)]
    return Carrier(model.encode, hypotheses_of(model), lambda index: ModelView(slices[index]), count)


def test_a_model_of_one_slice_goes_from_slice_to_slice_by_the_box_of_the_mask_before():
    """Columns 10 to 26, rows 10 to 30, of slices 3 to 8; 2 and 9 are predicted, and nothing is there."""
    model = Single(lambda number: block() if 3 <= number <= 8 else NOTHING)
    found = single_carrier(model).carried(5, POINT)
    assert sorted(found) == [3, 4, 5, 6, 7, 8]
    assert all(np.array_equal(mask, block()) for mask in found.values())
    assert [number for number, _ in model.asked] == [5, 4, 3, 2, 6, 7, 8, 9]
    assert model.asked[0][1] == POINT
    assert {one[1].box.xyxy for one in model.asked[1:]} == {(10 - 0.8, 10 - 1, 26 + 0.8, 30 + 1)}


def test_of_one_slice_a_mask_of_fifty_pixels_ends_it_and_is_kept_only_where_it_was_prompted():
    small = block(10, 10, 15, 20)
    assert list(single_carrier(Single(lambda number: small)).carried(5, POINT)) == [5]
    found = single_carrier(Single(lambda number: block() if number == 5 else small)).carried(5, POINT)
    assert list(found) == [5]


def test_of_one_slice_what_is_not_stable_ends_it():
    """Logits of 0.5 are above 0, and none is above 1."""
    assert single_carrier(Single(lambda number: block(), certainty=0.5)).carried(5, POINT) == {}


def test_a_model_of_one_slice_finds_a_ball_in_an_oblique_mirrored_volume():
    volume = oblique()
    ball = ball_kji(volume)
    volume.array_kji[ball] = 1000
    number, x, y = axial_plane(volume).ijk_to_nxy((24, 22, 4))
    prompts = PromptSet((PointPrompt((float(x), float(y))),))
    labels = propagate_volume(Single(), volume, round(float(number)), prompts, Options(modality="CT"))
    opened_away = ball & (labels == 0)
    assert not labels[~ball].any() and opened_away.sum() <= 0.05 * ball.sum()
    assert labels[4].any() and labels[3].any() and labels[5].any()


def test_a_model_that_takes_no_boxes_is_refused():
    with pytest.raises(ModelError, match="single takes no boxes, by which an object goes from slice to slice"):
        propagate_volume(Single(boxes=False), oblique(), 3, POINT)


# ---- masks and boxes


def test_opening_takes_off_what_is_narrower_than_the_square():
    """320 pixels: side 8; a thread of one pixel goes. 70 pixels: side 3; an arm of 2 goes. 30: side 1, all stays."""
    thread = block()
    thread[15, 26:40] = True
    assert np.array_equal(opened(thread), block())
    arm = block(10, 10, 20, 16)
    arm[12:14, 16:21] = True
    assert np.array_equal(opened(arm), block(10, 10, 20, 16))
    small = block(0, 0, 1, 30)
    assert np.array_equal(opened(small), small)
    assert not opened(block(0, 0, 1, 45)).any()


def test_a_box_grows_by_a_twentieth_on_all_sides_and_ends_with_the_slice():
    assert grown_box(block(10, 10, 30, 20)).xyxy == (9.5, 9, 20.5, 31)
    assert grown_box(np.ones(SIZE, bool)).xyxy == (0, 0, 50, 40)


# ---- in volumes


def oblique(size_kji=(9, 40, 50)) -> Volume:
    """Slices 5 mm apart, pixels of 0.7 x 1.4 mm, turned by 20 degrees, stored from superior to inferior, mirrored."""
    angle = np.deg2rad(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    ijk_to_ras = np.eye(4)
    ijk_to_ras[:3, :3] = turn @ np.diag([0.7, 1.4, -5.0])
    ijk_to_ras[:3, 3] = (30, -20, 100)
    return Volume(np.zeros(size_kji, np.int16), ijk_to_ras, "oblique")


def ball_kji(volume: Volume, middle_ijk=(24, 22, 4), radius_mm=14.0) -> np.ndarray:
    k, j, i = np.indices(volume.size_kji)
    places = np.stack([i, j, k], -1) - np.array(middle_ijk)
    return np.linalg.norm(places * (0.7, 1.4, 5.0), axis=-1) <= radius_mm


class Bright(Scripted):
    """Predicts what is bright in all three slices, wherever the prompt is."""

    def __init__(self) -> None:
        super().__init__(None)

    def encode(self, views):
        return [Embedding((view.stack(3),), view.grey_hw.shape) for view in views]

    def predict_triple(self, embedding, prompts):
        prompts.check_inside(embedding.size_hw)
        return [Said(logits(*(embedding.features[0] > 127)))]


def test_a_ball_in_an_oblique_mirrored_volume_lies_where_it_was():
    volume = oblique()
    ball = ball_kji(volume)
    volume.array_kji[ball] = 1000
    plane = axial_plane(volume)
    assert plane.size_nhw[0] == 9
    number, x, y = plane.ijk_to_nxy((24, 22, 4))
    labels = propagate_volume(
        Bright(), volume, round(float(number)), PromptSet((PointPrompt((float(x), float(y))),)), Options(modality="CT")
    )
    assert labels.shape == volume.size_kji and labels.dtype == np.uint8
    opened_away = ball & (labels == 0)
    assert not (labels[~ball]).any() and opened_away.sum() <= 0.05 * ball.sum()
    assert labels[4].any() and labels[3].any() and labels[5].any()


def test_two_objects_get_a_label_each_and_the_earlier_one_wins():
    volume = oblique()
    volume.array_kji[ball_kji(volume)] = 1000
    box = PromptSet(box=BoxPrompt((5.0, 5.0, 40.0, 30.0)))
    labels = propagate_volume(Bright(), volume, 4, [box, box], Options(modality="CT"))
    assert np.unique(labels).tolist() == [0, 1]


@pytest.mark.parametrize(("number", "prompts"), [(9, POINT), (-1, POINT), (3, [])])
def test_slices_and_objects_that_are_not_there_are_refused(number, prompts):
    with pytest.raises(PromptError, match="expected 1 to 255 in a slice from 0 to 8"):
        propagate_volume(Bright(), oblique(), number, prompts)


def test_progress_is_told_and_a_stop_is_one():
    told = []
    carrier(Scripted(present(3, 8)), progress=lambda *one: told.append(one)).carried(5, POINT)
    assert told == [(3, 12), (4, 12), (4, 12), (5, 12), (6, 12), (6, 12)]
    stops = iter([False, True])
    with pytest.raises(CancelledError, match="Stopped after 3 of 12 slices"):
        carrier(Scripted(present(3, 8)), cancelled=lambda: next(stops)).carried(5, POINT)


def test_what_is_assumed_about_the_image_and_another_window_are_told(monkeypatch, caplog):
    monkeypatch.setattr(VolumeView, "why_another_window", lambda self, model, window: f"seen in {window.width:g}")
    volume = Volume(np.zeros((3, *SIZE), np.int16), np.eye(4), "scan", "CT")
    propagate_volume(Scripted(lambda number: []), volume, 1, POINT, Options(window="600/100"))
    assert "scan: seen in 600" in caplog.messages


def test_an_object_of_which_nothing_is_found_is_told(caplog):
    volume = Volume(np.zeros((3, *SIZE), np.int16), np.eye(4), "scan", "CT")

    def second_alone(number):
        return [Said(np.where(block(), 5.0, -5.0)[None].repeat(3, 0))] if len(model.asked) > 1 else []

    model = Scripted(second_alone)
    labels = propagate_volume(model, volume, 1, [POINT, POINT])
    told = [message for message in caplog.messages if "nothing of object" in message]
    assert len(told) == 1 and told[0].startswith("scan: nothing of object 1 was found in slice 1 that is likely")
    assert set(np.unique(labels)) == {0, 2}
