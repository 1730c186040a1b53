"""Tables, pictures and the readable summary of an evaluation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from small_lungs import lungs, ras_matrix, shifted_evaluation, volume

from SAMLungSegLib.errors import GeometryError
from SAMLungSegLib.evaluation import (
    box_plot,
    draw_overlay,
    evaluate,
    readable_metrics,
    readable_slice_means,
    readable_summary,
    summarise,
    table_markdown,
    with_images,
    write_report,
)
from SAMLungSegLib.volume import Volume

REPORT = ["per_slice.csv", "per_volume.csv", "summary.csv", "summary.md", "box_plot.png", "worst_slices.png"]


def test_a_report_holds_tables_and_pictures_and_nothing_else(tmp_path):
    one = shifted_evaluation()
    image = volume((lungs() == 0) * np.int16(1000) - np.int16(900), name="image")
    written = write_report([one], tmp_path / "report", images={"case": image})
    assert [path.name for path in written] == REPORT
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == sorted(REPORT)
    per_slice = pd.read_csv(tmp_path / "report" / "per_slice.csv")
    assert per_slice["dice"].to_numpy() == pytest.approx(one.per_slice["dice"].to_numpy(), abs=1e-5, nan_ok=True)
    assert len(pd.read_csv(tmp_path / "report" / "summary.csv")) == len(summarise([one]))


def test_the_readable_summary_names_scores_notes_and_definitions(tmp_path):
    write_report([shifted_evaluation()], tmp_path)
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "1 volume, 5 slices." in text
    assert "1 of 5 slices have no lung in either labelmap: left out. (all)" in text
    assert f"{2 * 57 / (60 + 59):.4f}" in text
    assert "tolerance (2 mm)" in text
    assert "| 0.5 " in text  # 60 voxels of 8 mm3 are 0.48 ml


def shifted_by(rows: int, name: str):
    """The right lung's first rows are missing in slice 2 of the small lungs, 3 voxels each."""
    predicted = lungs()
    predicted[2, 2 : 2 + rows, 1:4] = 0
    return evaluate(volume(predicted), volume(lungs()), name=name)


def test_means_have_intervals_over_volumes_and_over_patients():
    evaluations = [shifted_by(rows, name) for rows, name in ((0, "a"), (4, "b"))]
    found = summarise(evaluations).set_index(["scope", "structure", "metric"])
    for scope, least in (("whole volumes", 24 / 36), ("volume means", 2 / 3)):
        mean = found.loc[(scope, "right lung", "sensitivity")]
        assert (mean["mean_low"], mean["mean_high"]) == pytest.approx((least, 1))
    slices = found.loc[("slices", "right lung", "sensitivity")]  # drawn with their volumes: 3 of 3 or 2 of 3 slices
    assert (slices["mean_low"], slices["mean_high"]) == pytest.approx((2 / 3, 1))
    of_one = summarise(evaluations, patients={"a": "p", "b": "p"})
    assert of_one["mean_low"].isna().all()


def test_the_readable_summary_has_intervals_where_there_are_several_volumes():
    evaluations = [shifted_by(rows, name) for rows, name in ((0, "a"), (4, "b"))]
    several = readable_summary(summarise(evaluations), "whole volumes").set_index(["Structure", "Metric"])
    assert several.loc[("right lung", "Sensitivity"), "95 % interval of the mean"] == "0.6667 to 1.0000"
    alone = readable_summary(summarise(evaluations[:1]), "whole volumes")
    assert set(alone["95 % interval of the mean"]) == {"-"}


def test_a_report_over_an_old_one_replaces_it(tmp_path):
    (tmp_path / "summary.md").write_text("old")
    write_report([shifted_evaluation()], tmp_path)
    assert "old" not in (tmp_path / "summary.md").read_text(encoding="utf-8").split()


def test_a_failed_write_keeps_the_old_file_and_leaves_no_rest(tmp_path, monkeypatch):
    target = tmp_path / "plot.png"
    target.write_bytes(b"old")
    monkeypatch.setattr(Figure, "savefig", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        box_plot(target, shifted_evaluation().per_slice)
    assert [path.name for path in tmp_path.iterdir()] == ["plot.png"]
    assert target.read_bytes() == b"old"


def drawn_images(image: Volume | Path, **fields) -> tuple[list[bool], str]:
    """Whether each worst slice has an image behind it, and the last note."""
    (one,) = with_images([replace(shifted_evaluation(), **fields)], {"case": image})
    return [each.image_hw is not None for each in one.worst], one.notes[-1]


def test_an_image_on_the_references_grid_is_drawn_however_it_is_stored():
    image = np.zeros((5, 8, 10), np.int16)
    image[3, 2, 4] = 500
    sagittal = Volume(np.ascontiguousarray(image.transpose(2, 1, 0)), ras_matrix()[:, [2, 1, 0, 3]], "image")
    for one in (volume(image), sagittal):
        (result,) = with_images([shifted_evaluation()], {"case": one})
        (third,) = (each for each in result.worst if each.number == 3)
        assert np.unravel_index(third.image_hw.argmax(), third.image_hw.shape) == (2, 4)
        assert result.notes == shifted_evaluation().notes


@pytest.mark.parametrize(
    "image",
    [
        volume(np.zeros((5, 4, 4), np.int16), name="other"),
        volume(np.zeros((5, 8, 10), np.int16), ras_matrix(origin=(0, 30, 0)), name="other"),
    ],
    ids=["size", "place"],
)
def test_an_image_on_another_grid_is_left_out_with_a_note(tmp_path, image):
    drawn, note = drawn_images(image)
    assert not any(drawn)
    assert note == "Image other is not on the grid of case; drawn without it."
    write_report([shifted_evaluation()], tmp_path, images={"case": image})
    assert note in (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert (tmp_path / "worst_slices.png").is_file()


def test_places_are_not_compared_where_there_are_no_millimetres():
    elsewhere = volume(np.zeros((5, 8, 10), np.int16), ras_matrix(origin=(0, 30, 0)))
    assert all(drawn_images(elsewhere, has_physical_spacing=False)[0])


def test_an_image_that_cannot_be_read_does_not_cost_the_measurements(tmp_path):
    drawn, note = drawn_images(tmp_path / "nowhere.nrrd")
    assert not any(drawn)
    assert note.startswith("Drawn without its image: ") and "nowhere.nrrd" in note


def test_a_case_without_image_among_others_is_noted():
    other = replace(shifted_evaluation(), name="other", worst=())
    one, _ = with_images([shifted_evaluation(), other], {"other": volume(np.zeros((5, 8, 10), np.int16))})
    assert one.notes[-1] == "No image was given for its slices: drawn without one."


def test_an_earlier_picture_of_worst_slices_goes_with_its_tables(tmp_path):
    write_report([shifted_evaluation()], tmp_path)
    nothing = volume(np.zeros((3, 4, 5), np.uint8))
    write_report([evaluate(nothing, nothing)], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(REPORT[:-1])


def test_a_report_of_volumes_without_lung_has_no_worst_slices(tmp_path):
    nothing = volume(np.zeros((3, 4, 5), np.uint8))
    written = write_report([evaluate(nothing, nothing)], tmp_path)
    assert [path.name for path in written] == REPORT[:-1]


def test_an_overlay_shows_each_lung_in_its_colour(tmp_path):
    labelmap = np.zeros((60, 60), np.uint8)
    labelmap[20:40, 5:25], labelmap[20:40, 35:55] = 1, 2
    draw_overlay(tmp_path / "overlay.png", np.full((60, 60), 90, np.uint8), labelmap, title="one")
    picture = (imread(tmp_path / "overlay.png")[:, :, :3] * 255).round().astype(int)
    half = picture.shape[1] // 2
    blue, orange = (np.abs(picture - colour).sum(axis=2) < 12 for colour in ([0x56, 0xB4, 0xE9], [0xE6, 0x9F, 0x00]))
    slice_rows = slice(0, int(0.8 * picture.shape[0]))  # the legend is below
    assert blue[slice_rows, :half].any()
    assert not blue[slice_rows, half:].any()
    assert orange[slice_rows, half:].any()
    assert not orange[slice_rows, :half].any()


def test_an_overlay_of_arrays_that_do_not_fit_is_refused():
    with pytest.raises(GeometryError, match="different shapes"):
        draw_overlay("x.png", np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8))


def test_tables_in_markdown_align_numbers_right_and_escape_bars():
    table = pd.DataFrame({"name": ["a|b", "c"], "dice": [0.5, np.nan], "n": [3, 10]})
    assert table_markdown(table, decimals=2) == (
        "| name | dice |   n |\n"
        "| ---- | ---: | --: |\n"
        "| a\\|b | 0.50 |   3 |\n"
        "| c    |    - |  10 |\n"
    )  # fmt: skip


def test_readable_rows_have_decimals_that_fit_the_unit():
    readable = readable_summary(summarise([shifted_evaluation()]), "whole volumes").set_index(["Structure", "Metric"])
    assert readable.loc[("left lung", "HD95 [mm]"), "Range"] == "0.00 to 0.00"
    assert readable.loc[("left lung", "Dice"), "Mean ± SD"] == "1.0000"


def test_one_case_is_shown_with_its_metrics_side_by_side():
    one = shifted_evaluation()
    whole = readable_metrics(one.per_volume).set_index("Structure")
    assert whole.loc["both lungs", "Dice"] == f"{2 * 57 / (60 + 59):.4f}"
    assert whole.loc["left lung", "HD95 [mm]"] == "0.00"
    means = readable_slice_means(summarise([one])).set_index("Structure")
    values = [0, 1, 1, 18 / 21]
    assert means.loc["right lung", "Slices"] == 4
    assert means.loc["right lung", "Dice"] == f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"
    # Slice 0 has no right lung in the reference: no sensitivity there.
    assert means.loc["right lung", "Sensitivity"] == f"{11 / 12:.4f} ± {np.std([1, 1, 0.75], ddof=1):.4f} (n = 3)"
