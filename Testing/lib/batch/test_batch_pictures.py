"""Pictures of a finished run that are missing or asked for later: drawn of what is stored, without the model."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from cohorts import chest_hu, chest_picture, segmented, write_image, write_series

from SAMLungSegLib.batch import Settings, estimate, preview, run
from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.choice import ModelChoice
from SAMLungSegLib.pipeline import Options
from SAMLungSegLib.volume import read_volume

FULL = Settings(overlays="full")


@pytest.fixture
def no_model(monkeypatch, dark_is_lung):
    """Call it, and from then on no model can be had, and the one that is loaded refuses."""

    def refuse(*given, **named):
        raise ModelError("not here")

    def forbid():
        monkeypatch.setattr(ModelChoice, "load", refuse)
        monkeypatch.setattr(dark_is_lung, "encode", refuse)
        monkeypatch.setattr(dark_is_lung, "decode", refuse)

    return forbid


def pictures(output) -> dict[str, bytes]:
    """Of a run, by their place."""
    return {
        path.relative_to(output).as_posix(): path.read_bytes() for path in sorted((output / "overlays").rglob("*.png"))
    }


def write_oblique(path):
    """A CT that is oblique, anisotropic and stored from head to feet."""
    image = sitk.GetImageFromArray(chest_hu(3, slices=6)[::-1])
    image.SetSpacing((6, 5, 30))
    turn = np.deg2rad(12)
    across, down = [np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0]
    image.SetDirection(np.array([across, down, [0, 0, -1]]).T.ravel().tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


@pytest.mark.parametrize("before", ["none", "small"])
def test_large_pictures_of_a_finished_run_are_drawn_without_the_model_and_show_the_same(
    cohort, tmp_path, no_model, before
):
    write_oblique(cohort / "oblique.nrrd")
    at_once = run(cohort, tmp_path / "at once", FULL)
    first = run(cohort, tmp_path / "out", Settings(overlays=before))
    masks = {row["id"]: (tmp_path / "out" / row["segmentation"]).read_bytes() for row in first.rows}
    no_model()
    later = run(cohort, tmp_path / "out", FULL)
    assert (later.done, later.processed) == (6, 6) and len(segmented(tmp_path / "out")) == 6
    assert len(pictures(tmp_path / "out")) == 12
    assert pictures(tmp_path / "out") == pictures(tmp_path / "at once")
    assert masks == {row["id"]: (tmp_path / "out" / row["segmentation"]).read_bytes() for row in later.rows}
    for now, then, whole in zip(later.rows, first.rows, at_once.rows, strict=True):
        assert now == {**then, "overlay": whole["overlay"], "full_overlay": whole["full_overlay"]}
    page = (tmp_path / "out" / "summary.html").read_text()
    assert '<a href="overlays/full/oblique.png"><img src="overlays/oblique.png"' in page
    assert run(cohort, tmp_path / "out", FULL).processed == 0
    assert run(cohort, tmp_path / "out").processed == 0


@pytest.mark.parametrize(
    ("format", "lungs"), [("seg.nrrd", "left"), ("nrrd", "both"), ("nii.gz", "both"), ("dcm", "both"), ("dcm", "left")]
)
def test_masks_of_each_format_are_drawn_as_they_are(tmp_path, no_model, format, lungs):
    settings = Settings(Options(lungs=lungs), format=format)
    write_series(tmp_path / "in" / "series", 5)
    run(tmp_path / "in", tmp_path / "at once", Settings(settings.options, format=format, overlays="full"))
    run(tmp_path / "in", tmp_path / "out", settings)
    no_model()
    again = run(tmp_path / "in", tmp_path / "out", Settings(settings.options, format=format, overlays="full"))
    assert again.failed == () and pictures(tmp_path / "out") == pictures(tmp_path / "at once")


@pytest.mark.usefixtures("dark_is_lung")
def test_contours_that_cannot_be_read_apart_from_their_images_are_made_again(tmp_path):
    write_series(tmp_path / "in" / "series", 5)
    run(tmp_path / "in", tmp_path / "out", Settings(format="rtstruct.dcm"))
    again = run(tmp_path / "in", tmp_path / "out", Settings(format="rtstruct.dcm", overlays="full"))
    assert again.failed == () and segmented(tmp_path / "out") == ["series", "series"]


def test_prompts_are_drawn_as_they_were_given(tmp_path, no_model):
    write_image(tmp_path / "in" / "ct.nrrd", chest_hu(slices=12), (6, 6, 14))
    box = {"first_ijk": [4, 4, 2], "last_ijk": [30, 44, 9]}
    listed = [
        {"image": str(tmp_path / "in" / "ct.nrrd"), "prompts": {"points": [{"ijk": [16, 24, 7]}], "boxes": [box]}}
    ]
    (tmp_path / "list.json").write_text(json.dumps(listed))
    run(tmp_path / "list.json", tmp_path / "at once", FULL)
    run(tmp_path / "list.json", tmp_path / "out")
    run(tmp_path / "in", tmp_path / "without", FULL)
    no_model()
    run(tmp_path / "list.json", tmp_path / "out", FULL)
    assert pictures(tmp_path / "out") == pictures(tmp_path / "at once") != pictures(tmp_path / "without")


@pytest.mark.usefixtures("dark_is_lung")
@pytest.mark.parametrize("kind", ["segmentation", "recipe"])
@pytest.mark.parametrize("what", ["changed", "removed", "corrupted"])
def test_where_a_mask_or_its_record_is_not_as_it_was_written_the_case_is_segmented_again(cohort, tmp_path, what, kind):
    row = run(cohort, tmp_path / "out").rows[0]
    path, before = tmp_path / "out" / row[kind], read_volume(tmp_path / "out" / row["segmentation"]).array_kji
    if what == "removed":
        path.unlink()
    elif what == "corrupted":
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "segmentation":
        mask = sitk.ReadImage(str(path))
        mask[10, 10, 1] = 2 if mask[10, 10, 1] != 2 else 1
        sitk.WriteImage(mask, str(path))
    else:
        path.write_text('{"schema": "samlungseg-recipe/1"}')
    assert run(cohort, tmp_path / "out", FULL).done == 5
    assert segmented(tmp_path / "out")[5:] == [row["id"]]
    assert np.array_equal(read_volume(tmp_path / "out" / row["segmentation"]).array_kji, before)
    assert len(pictures(tmp_path / "out")) == 10


@pytest.mark.usefixtures("dark_is_lung")
def test_a_changed_image_is_segmented_again_whatever_pictures_are_missing(cohort, tmp_path):
    run(cohort, tmp_path / "out")
    write_image(cohort / "xrays" / "0" / "x000.png", chest_picture(7))
    run(cohort, tmp_path / "out", FULL)
    assert segmented(tmp_path / "out")[5:] == ["xrays__0__x000"]


def test_a_picture_that_was_deleted_is_drawn_again_and_one_nobody_wants_is_forgotten(cohort, tmp_path, no_model):
    run(cohort, tmp_path / "out", FULL)
    before = pictures(tmp_path / "out")
    no_model()
    (tmp_path / "out" / "overlays" / "xrays__0__x000.png").unlink()
    assert run(cohort, tmp_path / "out", FULL).processed == 1 and pictures(tmp_path / "out") == before
    (tmp_path / "out" / "overlays" / "full" / "xrays__0__x000.png").unlink()
    row = run(cohort, tmp_path / "out").rows[2]
    assert "full_overlay" not in row and row["overlay"] == "overlays/xrays__0__x000.png"
    assert run(cohort, tmp_path / "out").processed == 0


def test_drawing_can_be_cancelled_and_goes_on_later(cohort, tmp_path, no_model):
    run(cohort, tmp_path / "out")
    no_model()
    polls = []
    stopped = run(cohort, tmp_path / "out", FULL, cancelled=lambda: polls.append(1) or len(polls) > 2)
    assert not stopped.is_complete and stopped.processed == 2
    rest = run(cohort, tmp_path / "out", FULL)
    assert rest.is_complete and rest.processed == 3


def test_a_preview_counts_what_is_only_drawn_and_takes_it_for_no_segmenting(cohort, tmp_path, no_model, capsys):
    run(cohort, tmp_path / "out")
    no_model()
    plan = preview(cohort, tmp_path / "out", FULL)
    assert (len(plan.tasks), plan.drawn, plan.touched) == (5, 5, 0)
    assert estimate(plan.tasks, ()).slices == 0
    assert main(["batch", str(cohort), "-o", str(tmp_path / "out"), "--overlays", "full", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "5 cases to do, 0 done already" in told and "5 of them only get the pictures that are missing." in told
    assert "slices, about" not in told and not (tmp_path / "out" / "overlays" / "full").exists()


def test_workers_draw_without_the_model_too(cohort, tmp_path, no_model, monkeypatch):
    from SAMLungSegLib.batch import executors

    run(cohort, tmp_path / "out")
    no_model()
    monkeypatch.setattr(executors, "_own_device", lambda settings: settings.device)
    plan = preview(cohort, tmp_path / "out", FULL)
    entries = [executors._process_here(task) for task in plan.tasks]
    assert all((tmp_path / "out" / entry.files["full_overlay"]).is_file() for entry in entries)
