"""Errors are named by what went wrong."""

from __future__ import annotations

import pytest

from SAMLungSegLib import errors
from SAMLungSegLib.batch import Settings
from SAMLungSegLib.metrics import surface_dice
from SAMLungSegLib.pipeline import Options
from SAMLungSegLib.structures import label_set


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Options(threshold=1.5),
        lambda: Options(lungs="middle"),
        lambda: Options(every=0),
        lambda: Settings(format="bmp"),
        lambda: surface_dice([[True]], [[True]], (1, 1), -2),
        lambda: label_set("bones"),
    ],
    ids=["threshold", "lungs", "every", "format", "tolerance", "label set"],
)
def test_a_setting_that_is_not_possible_is_neither_a_prompt_nor_an_image(wrong):
    with pytest.raises(errors.SettingsError) as caught:
        wrong()
    assert type(caught.value).__mro__[1] is errors.SAMLungSegError


def test_there_is_one_error_for_what_was_cancelled_under_all_its_names():
    from SAMLungSegLib import pipeline
    from SAMLungSegLib.models import checkpoints, download

    names = (pipeline.CancelledError, checkpoints.DownloadCancelledError, download.DownloadCancelledError)
    assert set(names) == {errors.CancelledError}
    assert errors.CancelledError.__mro__[1] is errors.SAMLungSegError
