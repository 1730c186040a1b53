"""A run over a cohort: what it writes, and how it ends when something is wrong."""

from __future__ import annotations

import errno
import json
import logging
import os

import numpy as np
import pandas as pd
import pytest
from cohorts import DarkIsLung, chest_hu, chest_picture, segmented, use_dark_is_lung, write_broken, write_image

from SAMLungSegLib.batch import BatchError, Settings, run
from SAMLungSegLib.cardiothoracic import cardiothoracic_ratio
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.choice import ModelChoice
from SAMLungSegLib.volume import read_volume

pytestmark = pytest.mark.usefixtures("dark_is_lung")


# ---- what is written


def test_every_case_gets_labelmap_recipe_and_picture(cohort, tmp_path):
    result = run(cohort, tmp_path / "out")
    assert (result.cases, result.done, result.failed, result.processed) == (5, 5, (), 5)
    for row in result.rows:
        assert all((tmp_path / "out" / row[kind]).is_file() for kind in ("segmentation", "recipe", "overlay"))
    assert result.rows[0]["segmentation"] == "segmentations/cts__ct000_lungs.seg.nrrd"
    assert result.rows[2]["segmentation"] == "segmentations/xrays__0__x000_lungs.png"
    labels = read_volume(tmp_path / "out" / result.rows[0]["segmentation"]).array_kji
    lung, middle = chest_hu() == -850, 32
    assert np.array_equal(labels[..., :middle] == 1, lung[..., :middle])
    assert np.array_equal(labels[..., middle:] == 2, lung[..., middle:])


def test_sizes_are_in_ml_where_the_image_has_a_size(cohort, tmp_path):
    table = run(cohort, tmp_path / "out").table().set_index("id")
    lung = chest_hu()[:, :, :32] == -850
    assert table.loc["cts__ct000", "right_ml"] == pytest.approx(lung.sum() * 6 * 6 * 40 / 1000)
    assert np.isnan(table.loc["xrays__0__x000", "right_ml"])
    assert table.loc["xrays__0__x000", "right_voxels"] == (chest_picture(0)[:, :32] < 100).sum()


def test_a_ct_has_densities_and_mass_of_both_lungs_and_an_xray_none(cohort, tmp_path):
    result = run(cohort, tmp_path / "out")
    table = result.table().set_index("id")
    ct, xray = table.loc["cts__ct000"], table.loc["xrays__0__x000"]
    assert (ct["mean_hu"], ct["perc15_hu"], ct["laa950_percent"], ct["haa_percent"]) == (-850, -850, 0, 0)
    assert ct["mass_g"] == pytest.approx((ct["right_ml"] + ct["left_ml"]) * 0.15)
    assert xray[["mean_hu", "laa950_percent", "mass_g", "right_cm2"]].isna().all()
    beside = json.loads((tmp_path / "out" / ct["recipe"]).read_text())["statistics"]["rows"]
    assert [row["part"] for row in beside if row["structure"] == "left_lung"][1:] == [
        *("upper_third", "middle_third", "lower_third")
    ]
    page = (tmp_path / "out" / "summary.html").read_text()
    assert "<th>Mean [HU]</th>" in page and '<td class="number">-850</td>' in page and "cm²" not in page


def test_xrays_have_a_cardiothoracic_ratio_and_ct_none(cohort, tmp_path):
    table = run(cohort, tmp_path / "out").table().set_index("id")
    written = read_volume(tmp_path / "out" / table.loc["xrays__0__x000", "segmentation"])
    assert table.loc["xrays__0__x000", "cardiothoracic_ratio"] == cardiothoracic_ratio(written).ratio
    assert np.isnan(table.loc["cts__ct000", "cardiothoracic_ratio"])


def test_the_table_is_the_same_as_csv_and_parquet(cohort, tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    write_broken(cohort / "broken", "text")
    table = run(cohort, tmp_path / "out").table()
    for stored in (pd.read_csv(tmp_path / "out/table.csv"), pd.read_parquet(tmp_path / "out/table.parquet")):
        assert list(stored) == list(table) and list(stored["id"]) == list(table["id"])
        assert np.allclose(stored["score"], table["score"], rtol=1e-5, equal_nan=True)
        assert stored["reason"].notna().sum() == 1


def test_without_pyarrow_there_is_a_csv_and_a_word_about_it(cohort, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("SAMLungSegLib.batch.table.find_spec", lambda name: None)
    files = [path.name for path in run(cohort, tmp_path / "out").files]
    assert files == ["table.csv", "summary.html"]
    assert "pip install 'samlungseg[parquet]'" in caplog.text


def test_references_give_metrics(cohort, tmp_path):
    for seed in range(3):
        labels = (chest_picture(seed) < 100) * np.repeat([1, 2], 32).astype(np.uint8)
        write_image(tmp_path / "masks" / f"x{seed:03}_mask.png", labels)
    table = run(cohort, tmp_path / "out", reference=tmp_path / "masks").table().set_index("id")
    assert list(table.loc["xrays__1__x001", ["dice_right", "dice_left", "dice_both"]]) == [1, 1, 1]
    assert np.isnan(table.loc["cts__ct000", "dice_both"])


def test_a_broken_reference_costs_the_metrics_only(cohort, tmp_path):
    write_image(tmp_path / "masks" / "x000.png", (chest_picture(0) < 100).astype(np.uint8))
    (tmp_path / "masks" / "x001.png").write_text("no image")
    table = run(cohort, tmp_path / "out", reference=tmp_path / "masks").table().set_index("id")
    assert table.loc["xrays__1__x001", "state"] == "done"
    assert table.loc["xrays__1__x001", "notes"].startswith("No metrics: ")


def test_prompts_of_a_list_decide_their_case(tmp_path):
    write_image(tmp_path / "x.png", chest_picture())
    boxes = {"boxes": [{"first_ijk": [2, 2], "last_ijk": [30, 45]}]}
    images = [{"image": "x.png", "id": name, "prompts": prompts} for name, prompts in (("all", {}), ("box", boxes))]
    (tmp_path / "list.json").write_text(json.dumps(images))
    table = run(tmp_path / "list.json", tmp_path / "out").table().set_index("id")
    voxels = table["right_voxels"] + table["left_voxels"]
    assert voxels["all"] == (chest_picture() < 100).sum()
    assert voxels["box"] == (chest_picture()[:, :31] < 100).sum()
    recipe = json.loads((tmp_path / "out" / "segmentations" / "box_lungs.json").read_text())
    assert recipe["options"]["boxes"] == [{"first_ijk": [2, 2], "last_ijk": [30, 45]}]


def test_the_report_shows_the_doubtful_ones_first_and_escapes_names(tmp_path):
    write_image(tmp_path / "in" / "good.png", chest_picture())
    picture = np.where(np.arange(64) % 2, 190, 180).astype(np.uint8)[None].repeat(48, axis=0)
    picture[20:26, 12:18] = picture[20:26, 46:52] = 30
    write_image(tmp_path / "in" / "<b>tiny & co.png", picture)
    (tmp_path / "in" / "text.png").write_text("no <i>image</i>")
    run(tmp_path / "in", tmp_path / "out")
    page = (tmp_path / "out" / "summary.html").read_text()
    assert page.index("b_tiny_co") < page.index(">good<")
    assert "lungs too small or too large" in page and "text.png is damaged" in page and "<svg" in page
    assert "<b>" not in page and "<i>" not in page
    assert 'src="overlays/good.png"' in page


# ---- how it ends when something is wrong


def test_a_defect_of_ours_costs_one_case(cohort, tmp_path, dark_is_lung, monkeypatch):
    decode = dark_is_lung.decode
    corrupted = chest_picture(1)

    def fail_once(embedding, prompts):
        if np.array_equal(embedding.features[0], corrupted):
            raise IndexError("beyond")
        return decode(embedding, prompts)

    monkeypatch.setattr(dark_is_lung, "decode", fail_once)
    result = run(cohort, tmp_path / "out")
    assert [(row["id"], row["reason"]) for row in result.failed] == [
        ("xrays__1__x001", "unexpected IndexError: beyond")
    ]
    assert result.done == 4


def test_a_model_that_cannot_be_loaded_stops_the_run_at_once(cohort, tmp_path, monkeypatch):
    def refuse(self, device="auto"):
        raise ModelError("not here")

    monkeypatch.setattr(ModelChoice, "load", refuse)
    with pytest.raises(ModelError, match="not here"):
        run(cohort, tmp_path / "out")
    assert segmented(tmp_path / "out") == []


def test_a_full_disk_stops_the_run_and_the_next_one_goes_on(cohort, tmp_path, monkeypatch):
    folder, fsync, is_full = tmp_path / "out" / "segmentations", os.fsync, []

    def flush(number: int) -> None:
        if len(list(folder.glob("*"))) > 4:  # the third case is being written
            is_full.append(True)
        if is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(number)

    monkeypatch.setattr(os, "fsync", flush)
    with pytest.raises(BatchError, match="make room, and give the same command again"):
        run(cohort, tmp_path / "out")
    assert len(list((tmp_path / "out" / "segmentations").iterdir())) == 4  # two labelmaps, two recipes
    monkeypatch.undo()
    use_dark_is_lung(monkeypatch)
    result = run(cohort, tmp_path / "out")
    assert (result.done, result.failed, result.processed) == (5, (), 3)


def test_a_labelmap_that_its_format_cannot_hold_is_that_cases_fault(cohort, tmp_path):
    result = run(cohort, tmp_path / "out", Settings(format="png"))
    assert result.done == 3
    assert all("PNG holds one slice" in row["reason"] for row in result.failed)


def test_cancelling_keeps_what_is_finished(cohort, tmp_path):
    asked = []

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) > 6  # the four slices of the CT, two of the series

    result = run(cohort, tmp_path / "out", cancelled=cancelled)
    assert (result.done, result.cases) == (1, 5) and not result.is_complete
    assert (tmp_path / "out" / "summary.html").is_file()
    assert run(cohort, tmp_path / "out").processed == 4


def test_an_interruption_writes_what_was_answered_and_the_table(cohort, tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(cohort, tmp_path / "out", progress=interrupt)
    done = len(pd.read_csv(tmp_path / "out" / "table.csv"))
    assert 1 <= done <= 3
    assert run(cohort, tmp_path / "out").processed == 5 - done


def test_progress_counts_what_was_done_before(cohort, tmp_path):
    run(cohort, tmp_path / "out")
    write_image(cohort / "new.png", chest_picture(9))
    seen = []
    run(cohort, tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(6, 6)]


def test_warnings_of_the_library_go_to_the_row_of_their_case(tmp_path):
    voxels = chest_hu().astype(np.float32)
    voxels[0, 0, 0] = np.nan
    write_image(tmp_path / "in" / "nan.nrrd", voxels)
    write_image(tmp_path / "in" / "well.nrrd", chest_hu())
    rows = {row["id"]: row for row in run(tmp_path / "in", tmp_path / "out").rows}
    assert "1 of 12288 voxels are NaN" in rows["nan"]["notes"]
    assert rows["well"]["notes"] == ""


# ---- graphics memory


@pytest.mark.parametrize(("failures", "device"), [(1, "cuda"), (2, "cpu")])
def test_a_full_graphics_memory_is_released_before_the_cpu_is_taken(tmp_path, monkeypatch, failures, device):
    calls = iter([*[False] * failures, *[True] * 10])

    class Card(DarkIsLung):
        def encode(self, views):
            if self.device.type == "cuda" and not next(calls):
                raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
            return super().encode(views)

    models = {"auto": Card(device="cuda"), "cpu": Card(device="cpu")}
    monkeypatch.setattr(ModelChoice, "load", lambda self, device="auto": models[device])
    for name in ("first.png", "second.png"):
        write_image(tmp_path / "in" / name, chest_picture())
    rows = run(tmp_path / "in", tmp_path / "out").rows
    assert [row["state"] for row in rows] == ["done", "done"]
    assert device in rows[0]["device"] and ("tried on the CPU" in rows[0]["notes"]) == (device == "cpu")
    assert "tried again" in rows[0]["notes"] and rows[1]["notes"] == ""


def test_memory_that_does_not_suffice_anywhere_fails_the_case(cohort, tmp_path, dark_is_lung, monkeypatch, caplog):
    def fail(slices):
        raise MemoryError

    monkeypatch.setattr(dark_is_lung, "encode", fail)
    with caplog.at_level(logging.ERROR):
        result = run(cohort / "cts", tmp_path / "out")
    assert "needs more memory" in result.failed[0]["reason"]
