"""Accepted slices of volumes become images and masks to tune on; a tuning tells its epochs and can be stopped."""

from __future__ import annotations

import numpy as np
import pytest
from tuning_sets import chest

from SAMLungSegLib.errors import CancelledError
from SAMLungSegLib.interaction.locks import numbers_with_lung
from SAMLungSegLib.models.choice import BaseCheckpoint
from SAMLungSegLib.training import TuneOptions, TuningConfig, tune
from SAMLungSegLib.training.data.accepted import AcceptedSlices, write_cases
from SAMLungSegLib.training.data.splits import split_cases
from SAMLungSegLib.training.trainer import Watch
from SAMLungSegLib.volume import Volume, axial_plane, read_volume

OBLIQUE = np.array([[-0.96, 0.28, 0, 40], [-0.28, -0.96, 0, -9], [0, 0, 5, 7], [0, 0, 0, 1]])
UPSIDE_DOWN = OBLIQUE @ np.diag([1, 1, -1, 1])


def accepted(ijk_to_ras=OBLIQUE, count=10, numbers=(2, 5), axes=(0, 1, 2), first_seed=0) -> AcceptedSlices:
    """A stack of chests of 96 x 80 pixels; the right lung is that at the image's left."""
    pictures = [chest(first_seed + number) for number in range(count)]
    grey = np.stack([one for one, _mask in pictures]).astype(np.int16) * 5 - 900
    labels = np.stack([mask * np.where(np.arange(80) < 40, 1, 2) for _one, mask in pictures]).astype(np.uint8)
    matrix = ijk_to_ras.copy()
    columns = [ijk_to_ras[:, 2 - axis] for axis in axes]
    matrix[:, :3] = np.stack(columns[::-1], axis=1)
    volume = Volume(np.ascontiguousarray(grey.transpose(axes)), matrix, "stack", "CT")
    return AcceptedSlices(volume, np.ascontiguousarray(labels.transpose(axes)), numbers)


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
@pytest.mark.parametrize("ijk_to_ras", [OBLIQUE, UPSIDE_DOWN])
def test_a_slice_has_its_voxels_and_its_place_however_the_volume_is_stored(tmp_path, ijk_to_ras, axes):
    one = accepted(ijk_to_ras, axes=axes)
    cases = write_cases([one], tmp_path)
    plane = axial_plane(one.volume)
    assert [case.name for case in cases] == ["volume001_slice0002", "volume001_slice0005"]
    for case, number in zip(cases, (2, 5), strict=True):
        image, mask = read_volume(case.image), read_volume(case.mask)
        assert np.array_equal(
            axial_plane(image).to_display(image.array_kji)[0], plane.to_display(one.volume.array_kji)[number]
        )
        assert np.array_equal(
            axial_plane(mask).to_display(mask.array_kji)[0], plane.to_display(one.labelmap_kji)[number]
        )
        middle = (0, 40, 48)
        expected = plane.nxy_to_ras((number, *middle[1:]))
        assert np.allclose(axial_plane(image).nxy_to_ras(middle), expected, atol=1e-4)
        assert case.modality == "CT"


def test_slices_without_lung_and_hidden_parts_are_left_out(tmp_path):
    one = accepted(numbers=(2, 3, 4))
    one.labelmap_kji[3] = 0
    one.labelmap_kji[4][one.labelmap_kji[4] == 2] = 4
    assert numbers_with_lung(one.labelmap_kji, one.numbers, axial_plane(one.volume)) == (2, 4)
    cases = write_cases([one], tmp_path)
    assert [case.name[-4:] for case in cases] == ["0002", "0004"]
    assert set(np.unique(read_volume(cases[1].mask).array_kji)) == {0, 1}


def test_the_slices_of_a_volume_stay_together_where_there_are_eight_volumes(tmp_path):
    eight = [accepted(count=4, numbers=(1, 2), first_seed=4 * seed) for seed in range(8)]
    split = split_cases(write_cases(eight, tmp_path / "eight"))
    parts = [{name[:9] for name in part} for part in (split.training, split.validation, split.held_out)]
    assert sum(map(len, parts)) == 8
    cases = write_cases([accepted(numbers=range(8))], tmp_path / "one")
    assert len(split_cases(cases).held_out) == 3


def test_a_tuning_tells_its_epochs_and_stops_when_it_is_told_to(tmp_path):
    cases = write_cases([accepted(numbers=range(8))], tmp_path / "slices")
    base, told = BaseCheckpoint(), []
    options = TuneOptions("none", TuningConfig(epochs=2, patience=0))
    result = tune(base.load("cpu"), base, cases, tmp_path / "out", options, Watch(lambda *one: told.append(one)))
    assert told == [(1, 2), (2, 2)]
    assert len(result.table) == 3
    for stop_at in (1, 10):  # while the eight slices are encoded, and in the second epoch
        asked = iter(range(100))
        watch = Watch(cancelled=lambda stop_at=stop_at, asked=asked: next(asked) >= stop_at)
        with pytest.raises(CancelledError, match="stopped"):
            tune(base.load("cpu"), base, cases, tmp_path / f"stopped{stop_at}", options, watch)
        assert not list((tmp_path / f"stopped{stop_at}").glob("*.safetensors"))
