"""The zero-shot study: its cases, what it refuses, how it goes on, its report."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
from cohorts import DarkIsLung, use_dark_is_lung
from montgomery import montgomery
from tiny_sams import tiny_sam

from SAMLungSegLib.batch.journal import Journal
from SAMLungSegLib.batch.settings import BatchError
from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import IntensityError, OutputError, SettingsError, VolumeError
from SAMLungSegLib.metrics import dice, jaccard
from SAMLungSegLib.models.capabilities import COMPACT, MEDSAM, SAM
from SAMLungSegLib.models.choice import ModelChoice
from SAMLungSegLib.models.sam.medsam import MedSamModel
from SAMLungSegLib.models.sam.model import SamModel
from SAMLungSegLib.prompts.reference import ABLATION_STEPS, gutierrez2024_prompts
from SAMLungSegLib.studies.predictions import with_more_negatives
from SAMLungSegLib.studies.report import Picture, Table, write_study_report
from SAMLungSegLib.studies.zero_shot import study
from SAMLungSegLib.studies.zero_shot.study import ZeroShotSettings, run_zero_shot
from SAMLungSegLib.training.data.cases import Windowing, study_cases
from SAMLungSegLib.training.data.splits import split_of

SIZE_HW = (48, 64)
QUICK = ("--ablation-slices", "0", "--negatives", "0")


def chest(seed=0, size_hw=SIZE_HW):
    """Grey picture with two dark lungs and a dark blob between them, and the mask of the lungs."""
    rng = np.random.default_rng(seed)
    grey = rng.integers(150, 220, size_hw).astype(np.uint8)
    mask = np.zeros(size_hw, bool)
    height = 20 + int(rng.integers(0, 10))
    mask[8 : 8 + height, 8:22] = mask[8 : 8 + height, 40:54] = True
    grey[mask] -= 120
    grey[12:17, 28:34] -= 120
    return grey, mask


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))


def write_set(folder, names):
    """A folder with images/ and masks/ of pictures."""
    for seed, name in enumerate(names):
        grey, mask = chest(seed)
        write(folder / "images" / f"{name}.png", grey)
        write(folder / "masks" / f"{name}.png", mask.astype(np.uint8) * 255)
    return folder


def write_volume(folder, name="scan", slices=5, direction=(1, 1, 1)):
    """A CT whose inner slices have lung, stored along the given directions; labels 1 and 2."""
    pairs = [chest(number) for number in range(slices)]
    hu = np.stack([grey.astype(np.int16) * 5 - 1000 for grey, _ in pairs])
    labels = np.stack([np.where(mask, np.where(np.arange(SIZE_HW[1]) < 32, 1, 2), 0) for _, mask in pairs])
    labels[0] = labels[-1] = 0
    flip = tuple(slice(None, None, sign) for sign in reversed(direction))
    for kind, array in (("images", hu), ("masks", labels.astype(np.uint8))):
        image = sitk.GetImageFromArray(np.ascontiguousarray(array[flip]))
        image.SetDirection(np.diag(direction).astype(float).ravel().tolist())
        image.SetOrigin([0.0 if sign > 0 else float(n - 1) for sign, n in zip(direction, image.GetSize(), strict=True)])
        path = folder / kind / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image, str(path))
    return folder


def settings(**options):
    return ZeroShotSettings(**{"model": ModelChoice("sam-vit-b", keeps_embeddings=False), **options})


@pytest.fixture
def sam(monkeypatch):
    """A small SAM with random weights in the place of any model."""
    model = SamModel(tiny_sam(), name="tiny")
    monkeypatch.setattr(ModelChoice, "load", lambda self, device="auto": model)
    return model


@pytest.fixture
def data(tmp_path):
    write_set(tmp_path / "data" / "cxr_one", ["a", "b", "c"])
    write_volume(tmp_path / "data" / "ct_two")
    return tmp_path / "data"


# cases


def test_folders_with_images_and_masks_are_sets_and_their_names_tell_the_modality(data):
    cases = study_cases(data)
    assert [case.id for case in cases] == ["ct_two/scan", "cxr_one/a", "cxr_one/b", "cxr_one/c"]
    assert [case.modality for case in cases] == ["CT", "XRAY", "XRAY", "XRAY"]
    assert [case.id for case in study_cases(data / "cxr_one")] == ["cxr_one/a", "cxr_one/b", "cxr_one/c"]


def test_images_and_masks_may_lie_side_by_side(tmp_path):
    grey, mask = chest()
    write(tmp_path / "flat" / "case7.png", grey)
    write(tmp_path / "flat" / "case7_mask.png", mask.astype(np.uint8))
    (case,) = study_cases(tmp_path / "flat")
    assert (case.id, case.mask.name, case.modality) == ("flat/case7", "case7_mask.png", None)


def test_a_merged_mask_is_split_by_position_and_a_single_lung_is_not(tmp_path):
    write_set(tmp_path / "set", ["a"])
    _, mask = chest()
    case = study_cases(tmp_path / "set")[0]
    greys, labels = case.read()
    np.testing.assert_array_equal(greys[0], chest()[0])
    np.testing.assert_array_equal(labels[0] > 0, mask)
    assert set(np.unique(labels[0][:, :32])) == {0, 1}
    assert set(np.unique(labels[0][:, 32:])) == {0, 2}
    mask[:, 32:] = False
    write(case.mask, mask.astype(np.uint8) * 255)
    assert set(np.unique(case.read()[1][0])) == {0, 1}


@pytest.mark.parametrize("direction", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
def test_slices_are_displayed_alike_however_the_volume_is_stored(tmp_path, direction):
    case = study_cases(write_volume(tmp_path / "ct", direction=direction))[0]
    greys, labels = case.read()
    assert len(greys) == len(labels) == 5
    for number in (1, 2, 3):
        grey, mask = chest(number)
        np.testing.assert_array_equal(labels[number] > 0, mask)
        assert labels[number][10, 10] == 1
        assert labels[number][10, 45] == 2
        hu = grey.astype(int) * 5 - 1000
        assert np.abs(greys[number] - np.clip((hu + 1350) / 1500 * 255, 0, 255)).max() <= 0.5
    assert not labels[0].any()


def test_the_papers_window_stretches_each_slice_between_its_own_extremes():
    hu = np.array([[[-3000, -1400], [-1000, 3000]], [[-1000, -900], [-800, -600]]], np.int16)
    grey = Windowing.parse("paper").apply(hu, "CT")
    assert grey[0].tolist() == [[0, 0], [round(400 / 1500 * 255), 255]]
    assert grey[1].tolist() == [[0, round(100 / 400 * 255)], [round(200 / 400 * 255), 255]]
    np.testing.assert_array_equal(Windowing.parse("paper").apply((hu + 1024).clip(0), "CT")[1], grey[1])
    windowed = np.array([[[16, 100], [30, 240]]], np.uint8)
    assert Windowing.parse("paper").apply(windowed, "CT").tolist() == [[[0, 96], [16, 255]]]


def test_the_window_follows_the_family_unless_it_is_said():
    assert Windowing.parse("auto", SAM) == Windowing.parse("paper", COMPACT)
    assert Windowing.parse("auto", COMPACT) == Windowing.parse("auto", MEDSAM) == Windowing()
    assert Windowing.parse("1400/-500", SAM).window.level == -500
    with pytest.raises(IntensityError, match="'auto' and 'paper'"):
        Windowing.parse("dark")


def test_what_is_no_data_is_refused(tmp_path):
    with pytest.raises(VolumeError, match="not a folder"):
        study_cases(tmp_path / "absent")
    with pytest.raises(VolumeError, match="images' and 'masks'"):
        study_cases(tmp_path)
    write_set(tmp_path / "set", ["a", "b"])
    (tmp_path / "set" / "masks" / "b.png").unlink()
    with pytest.raises(VolumeError, match=r"image .*b\.png"):
        study_cases(tmp_path / "set")


# the study


def test_every_slice_with_lung_is_measured_as_asking_the_model_measures_it(data, tmp_path, sam):
    result = run_zero_shot(data, tmp_path / "out", settings(mode="paper"))
    table = result.per_slice
    assert len(table) == 3 + 5
    assert table["empty"].sum() == 2
    cases = {case.id: case for case in study_cases(data)}
    for row in table[~table["empty"]].itertuples():
        greys, labels = cases[row.volume].read(Windowing.parse("paper"))
        embedding = sam.encode([greys[row.slice]])[0]
        prediction = sam.decode(embedding, gutierrez2024_prompts(labels[row.slice], "paper")).logits > 0
        reference = labels[row.slice] > 0
        assert row.dice == dice(reference, prediction)
        assert row.jaccard == jaccard(reference, prediction)
        assert (row.reference_voxels, row.prediction_voxels) == (reference.sum(), prediction.sum())
    last = result.ablation[result.ablation["step"] == ABLATION_STEPS[-1]]
    assert last["dice"].tolist() == table.loc[~table["empty"], "dice"].tolist()
    assert len(result.ablation) == 4 * 6


class Stopping(DarkIsLung):
    """Stops as Ctrl-C does when it is about to see one slice too many."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left, self.encoded = after, 0

    def encode(self, views):
        if self.encoded >= self.left:
            raise KeyboardInterrupt
        self.encoded += len(views)
        return super().encode(views)


def test_an_interrupted_study_goes_on_and_gives_the_same_numbers(data, tmp_path, monkeypatch):
    use_dark_is_lung(monkeypatch)
    whole = run_zero_shot(data, tmp_path / "whole", settings())
    for after in (0, 3, 1):
        model = Stopping(after)
        monkeypatch.setattr(ModelChoice, "load", lambda self, device="auto", model=model: model)
        with pytest.raises(KeyboardInterrupt):
            run_zero_shot(data, tmp_path / "parts", settings())
        assert not (tmp_path / "parts" / "report.html").exists()
    with (tmp_path / "parts" / "journal.jsonl").open("a", encoding="utf-8") as journal:
        journal.write('{"event": "done", "id": "cxr_one/c", "row": {"sli')  # the machine stopped in the middle
    last = Stopping(100)
    monkeypatch.setattr(ModelChoice, "load", lambda self, device="auto": last)
    parts = run_zero_shot(data, tmp_path / "parts", settings())
    pd.testing.assert_frame_equal(parts.per_slice, whole.per_slice)
    pd.testing.assert_frame_equal(parts.ablation, whole.ablation)
    assert last.encoded == 2, "what was done was not done again"
    assert run_zero_shot(data, tmp_path / "parts", settings()).per_slice.equals(whole.per_slice)


def test_other_settings_are_refused_and_may_start_anew(data, tmp_path, monkeypatch):
    use_dark_is_lung(monkeypatch)
    run_zero_shot(data, tmp_path / "out", settings())
    with pytest.raises(OutputError, match="mode was improved and is now paper"):
        run_zero_shot(data, tmp_path / "out", settings(mode="paper"))
    run_zero_shot(data, tmp_path / "out", settings(mode="paper"), overwrite=True)
    with pytest.raises(OutputError, match="mode was paper and is now improved"):
        run_zero_shot(data, tmp_path / "out", settings())


def test_nothing_is_thrown_away_while_another_run_is_writing(data, tmp_path, monkeypatch):
    use_dark_is_lung(monkeypatch)
    run_zero_shot(data, tmp_path / "out", settings())
    before = (tmp_path / "out" / "journal.jsonl").read_bytes()
    with Journal(tmp_path / "out"), pytest.raises(BatchError, match="Another run"):
        run_zero_shot(data, tmp_path / "out", settings(), overwrite=True)
    assert (tmp_path / "out" / "journal.jsonl").read_bytes().startswith(before)


def test_a_changed_image_is_measured_again_and_more_images_are_added(data, tmp_path, monkeypatch):
    use_dark_is_lung(monkeypatch)
    first = run_zero_shot(data, tmp_path / "out", settings(limit=1))
    assert list(first.cases) == ["ct_two/scan", "cxr_one/a"]
    write(data / "cxr_one" / "images" / "a.png", 255 - chest()[0])
    second = run_zero_shot(data, tmp_path / "out", settings(limit=2)).per_slice.set_index("volume")
    assert set(second.index) == {"ct_two/scan", "cxr_one/a", "cxr_one/b"}
    assert second.loc["cxr_one/a", "dice"] == 0
    assert second.loc["cxr_one/b", "dice"] > 0.5


def test_the_steps_may_be_compared_on_some_slices_only(data, tmp_path, monkeypatch):
    use_dark_is_lung(monkeypatch)
    ablation = run_zero_shot(data, tmp_path / "some", settings(ablation_slices=2)).ablation
    assert len(ablation) == 2 * 4
    none = run_zero_shot(data, tmp_path / "none", settings(ablation_slices=0))
    assert none.ablation.empty
    assert not none.per_slice["dice"].isna().all()


def test_an_image_that_cannot_be_used_is_told_and_the_others_are_measured(data, tmp_path, monkeypatch, capsys):
    use_dark_is_lung(monkeypatch)
    write(data / "cxr_one" / "masks" / "b.png", np.ones((5, 5), np.uint8))
    arguments = ["study", "zero-shot", str(data), "-o", str(tmp_path / "out"), *QUICK]
    assert main(arguments) == 2
    assert "cxr_one/b: " in capsys.readouterr().err
    assert "cxr_one/b" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    write(data / "cxr_one" / "masks" / "b.png", chest(1)[1].astype(np.uint8))
    assert main(arguments) == 0


def test_nothing_to_measure_is_told(tmp_path, monkeypatch):
    use_dark_is_lung(monkeypatch)
    write_set(tmp_path / "set", ["a"])
    write(tmp_path / "set" / "masks" / "a.png", np.zeros(SIZE_HW, np.uint8))
    with pytest.raises(VolumeError, match="None of the 1 slices"):
        run_zero_shot(tmp_path / "set", tmp_path / "out", settings())
    with pytest.raises(SettingsError, match="limit of 0"):
        settings(limit=0)
    with pytest.raises(SettingsError, match="improved, paper"):
        settings(mode="other")


def test_training_images_are_left_out_unless_they_are_asked_for(tmp_path, monkeypatch, capsys):
    use_dark_is_lung(monkeypatch)
    data = write_set(tmp_path / "cxr_montgomery", montgomery())
    assert main(["study", "zero-shot", str(data), "-o", str(tmp_path / "out"), *QUICK]) == 0
    assert "2 images are left out" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "out" / "per_slice.csv")) == 1
    arguments = ["--include-training-images", "-o", str(tmp_path / "all")]
    assert main(["study", "zero-shot", str(data), *arguments]) == 0
    report = (tmp_path / "all" / "report.md").read_text(encoding="utf-8")
    tables = [part for part in report.split("## ")[1:] if "| cxr_montgomery" in part or "ours:" in part]
    assert len(tables) >= 4
    assert all("2 of 3 images are such that the model has learned from" in part for part in tables)


def test_more_negatives_go_into_the_middle_of_the_largest_region_wrongly_taken():
    class MinusNegatives(DarkIsLung):
        def decode(self, embedding, prompts):
            prediction = super().decode(embedding, prompts)
            for point in prompts.points:
                if not point.positive:
                    x, y = (int(place) for place in point.xy)
                    prediction.logits[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5] = -4
            return prediction

    grey, mask = chest()
    model = MinusNegatives()
    embedding = model.encode([grey])[0]
    prompts = gutierrez2024_prompts(mask.astype(np.uint8))
    answers = list(with_more_negatives(model, embedding, prompts, mask, most=5))
    assert len(answers) == 2, "one negative removes all that was wrong"
    (added,) = answers[1][0].points[len(prompts.points) :]
    assert not added.positive
    assert 28 <= added.xy[0] < 34
    assert 12 <= added.xy[1] < 17
    assert dice(mask, answers[1][1]) > dice(mask, answers[0][1])


def test_more_negatives_go_elsewhere_where_the_model_does_not_heed_them():
    grey, mask = chest()
    model = DarkIsLung()
    prompts = gutierrez2024_prompts(mask.astype(np.uint8))
    answers = list(with_more_negatives(model, model.encode([grey])[0], prompts, mask, most=5))
    assert len(answers) == 6
    added = answers[-1][0].points[len(prompts.points) :]
    assert len({point.xy for point in added}) == 5


def test_the_report_has_everything_that_the_paper_reports(data, tmp_path, sam, capsys):
    out = tmp_path / "out"
    arguments = ["study", "zero-shot", str(data), "-o", str(out), "--model", "sam-vit-b", "--mode", "paper"]
    assert main([*arguments, "--negatives", "2"]) == 0
    printed = capsys.readouterr().out
    for name in ("summary.csv", "per_slice.csv", "per_volume.csv", "ablation.csv", "negatives.csv", "report.html"):
        assert str(out / name) in printed
        assert (out / name).stat().st_size > 0
    for name in ("box_plot", "best_and_worst", "ablation", "ablation_example", "negatives"):
        assert (out / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 5
    assert "http" not in page.replace("https://doi.org", "")
    for text in ("ours: all", "ours: cxr_one", "ours: ct_two", "published: lung CT", "published: chest X-ray", "94.95"):
        assert text in page
    assert "Model sam-vit-b" in page
    assert "2 slices have no lung" in page
    assert not list(out.rglob("*.partial"))


def test_a_model_that_takes_boxes_only_is_given_the_box(data, tmp_path, monkeypatch):
    model = MedSamModel(tiny_sam(), name="boxes")
    monkeypatch.setattr(ModelChoice, "load", lambda self, device="auto": model)
    out = tmp_path / "out"
    assert main(["study", "zero-shot", str(data), "-o", str(out), "--model", "medsam-vit-b", "--no-cache"]) == 0
    assert not (out / "ablation.csv").exists()
    assert "takes boxes only" in (out / "report.md").read_text(encoding="utf-8")


def test_a_report_shows_tables_with_their_numbers_and_escapes_text(tmp_path):
    table = Table("t", "Title <1>", pd.DataFrame({"a|b": ["x"], "n": [0.12345]}), "note & more", decimals=2)
    picture = tmp_path / "figures" / "p.png"
    picture.parent.mkdir()
    picture.write_bytes(b"picture")
    files = write_study_report(tmp_path, "Study", ["A paragraph.", table, Picture(picture, "Drawn")])
    assert {path.name for path in files} == {"report.html", "report.md", "t.csv", "p.png"}
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert "Title &lt;1&gt;" in page
    assert "note &amp; more" in page
    assert "0.12<" in page
    assert "![Drawn](figures/p.png)" in text
    assert pd.read_csv(tmp_path / "t.csv")["n"].tolist() == [0.12345]


@pytest.mark.slow
def test_the_bundled_model_is_studied_on_real_xrays_that_it_has_not_seen(shared_data, tmp_path):
    out = tmp_path / "out"
    assert main(["study", "zero-shot", str(shared_data / "cxr_montgomery"), "-o", str(out), "--limit", "4"]) == 0
    table = pd.read_csv(out / "per_slice.csv")
    assert len(table) == 4
    assert all(split_of(name.split("/")[1]) == "test" for name in table["volume"])
    assert table["dice"].min() > 0.93


def test_the_number_of_slices_asked_about_all_steps_is_spread_over_the_images():
    assert study._quotas(4, 2) == [0, 1, 0, 1]
    assert study._quotas(2, 5) == [2, 3]
    assert study._spread(list(range(10, 20)), 3) == [10, 13, 16]
