"""Which cases a cohort has, and what they are called."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from cohorts import REPORT, chest_picture, write_cohort, write_image, write_series, write_slice

from SAMLungSegLib.batch import BatchError, find_cases
from SAMLungSegLib.pipeline import VolumeBox, VolumePoint


def ids(*inputs, **options) -> list[str]:
    return [case.id for case in find_cases(inputs, **options)]


def test_a_tree_is_looked_through_once_and_named_by_its_paths(tmp_path):
    write_cohort(tmp_path / "in", pictures=2, volumes=1, series=1)
    assert ids(tmp_path / "in") == ["cts__ct000", "dicom__patient0__series", "xrays__0__x000", "xrays__1__x001"]


def test_a_dicom_folder_itself_is_one_case(tmp_path):
    (case,) = find_cases([write_series(tmp_path / "patient 7")])
    assert (case.id, case.series, case.slices) == ("patient_7", None, 4)


def test_several_series_of_a_folder_are_told_apart_by_their_uid(tmp_path):
    write_series(tmp_path / "p", series="1.2.41")
    for number in range(3):
        write_slice(tmp_path / "p" / f"other{number}", np.zeros((4, 4)), number, "1.2.42")
    cases = find_cases([tmp_path])
    assert [(case.id, case.series) for case in cases] == [("p__41", "1.2.41"), ("p__42", "1.2.42")]


def test_a_series_in_several_folders_is_one_case(tmp_path):
    for half, places in enumerate([(0, 40), (80, 120)]):
        write_series(tmp_path / "disc" / f"DIR{half}", series="1.2.43", places_mm=places)
    (case,) = find_cases([tmp_path])
    assert (case.id, len(case.parts)) == ("disc__43", 4)


def test_xrays_of_one_series_are_a_case_each(tmp_path):
    for name in "ab":
        write_slice(tmp_path / f"{name}.dcm", chest_picture(), 0, "1.2.44", Modality="DX")
    assert ids(tmp_path) == ["a", "b"]


def test_dicom_without_a_picture_is_left_out(tmp_path):
    write_slice(tmp_path / "report.dcm", np.zeros((2, 2)), 0, "1.2.45", sop_class=REPORT, Modality="SR")
    write_image(tmp_path / "x.png", chest_picture())
    assert ids(tmp_path) == ["x"]


def test_names_that_would_be_one_file_get_a_mark_and_keep_it(tmp_path):
    for name in ("a b.png", "a_b.png", "A b.nrrd", "alone.png"):
        write_image(tmp_path / name, chest_picture())
    found = ids(tmp_path)
    assert len({one.casefold() for one in found}) == 4
    assert "alone" in found and sum(one.casefold().startswith("a_b-") for one in found) == 3
    write_image(tmp_path / "another.png", chest_picture())
    assert set(found) < set(ids(tmp_path))


@pytest.mark.parametrize("name", ["x" * 240, "ä" * 110, "..x", "a/../b?*<>|"])
def test_ids_are_safe_file_names(tmp_path, name):
    (tmp_path / "list.json").write_text(json.dumps([{"image": "x.png", "id": name}]))
    (found,) = ids(tmp_path / "list.json")
    assert (tmp_path / f"{found}_lungs.seg.nrrd").parent == tmp_path
    assert len(found.encode()) < 170 and found[0] != "."


def test_our_own_results_are_no_cases(tmp_path):
    for name in ("x.png", "x_lungs.png", "x_lungs_overlay.png", "theirs_lungs.png", "y.seg.nrrd"):
        write_image(tmp_path / name, chest_picture())
    (tmp_path / "x_lungs.json").write_text("{}")
    write_image(tmp_path / "earlier run" / "segmentations" / "z.png", chest_picture())
    (tmp_path / "earlier run" / "journal.jsonl").touch()
    assert ids(tmp_path) == ["theirs_lungs", "x"]


def test_folders_that_are_left_out_are_not_looked_at(tmp_path):
    write_image(tmp_path / "in" / "x.png", chest_picture())
    write_image(tmp_path / "in" / "out" / "y.png", chest_picture())
    assert ids(tmp_path / "in", without=[tmp_path / "in" / "out"]) == ["x"]


def test_a_pattern_takes_what_it_matches(tmp_path):
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/notes.txt"):
        write_image(tmp_path / name, chest_picture()) if name.endswith("png") else (tmp_path / name).touch()
    assert ids(f"{tmp_path}/*/1.png") == ["a__1", "b__1"]
    assert ids(f"{tmp_path}/**/*") == ["a__1", "a__2", "b__1"]


def test_what_is_given_twice_is_taken_once(tmp_path):
    path = write_image(tmp_path / "x.png", chest_picture())
    assert ids(tmp_path, path, f"{tmp_path}/*.png") == ["x"]


def test_rows_that_differ_in_id_or_reference_only_are_cases_of_their_own(tmp_path, caplog):
    write_image(tmp_path / "x.png", chest_picture())
    rows = ["x.png,,", "x.png,a,", "x.png,b,", "x.png,,one.png", "x.png,,two.png", "x.png,a2,one.png"]
    (tmp_path / "list.csv").write_text("\n".join(["image,id,reference", *rows, ""]))
    cases = find_cases([tmp_path / "list.csv"])
    assert len(cases) == len({case.id for case in cases}) == len(rows)
    assert sorted(case.reference.name for case in cases if case.reference) == ["one.png", "one.png", "two.png"]
    assert not caplog.records
    assert find_cases([tmp_path / "list.csv"]) == cases


def test_rows_that_are_the_same_count_once_and_that_is_said(tmp_path, caplog):
    write_image(tmp_path / "x.png", chest_picture())
    (tmp_path / "list.csv").write_text("image,reference\nx.png,one.png\nx.png,one.png\nx.png,two.png\n")
    assert len(find_cases([tmp_path / "list.csv"])) == 2
    assert "1 of 3 images were given more than once" in caplog.text


@pytest.mark.parametrize(
    "row",
    [
        {"image": "a\0b.png"},
        {"image": "\ud800.png"},
        {"image": ["x.png"]},
        {"image": {"a": 1}},
        {"image": "x" * 5000},
        {"image": "x.png", "id": ["a"], "reference": {"a": 1}, "series": [1]},
        {"image": "x.png", "prompts": {"points": 5}},
        {"image": "x.png", "prompts": [[[]]]},
        {"image": "x.png", "prompts": {"points": [{"ijk": [10**400, 0], "positive": True}]}},
        {"image": "x.png", "prompts": "/"},
        {"image": "x.png", "prompts": "[" * 100_000},
        {"image": "x.png", "prompts": "{" + '"a":{' * 100_000},
    ],
)
def test_a_row_that_makes_no_sense_costs_itself_only(tmp_path, row):
    write_image(tmp_path / "x.png", chest_picture())
    (tmp_path / "list.json").write_text(json.dumps([row, {"image": "x.png", "id": "good"}]))
    cases = find_cases([tmp_path / "list.json"])
    assert [case.problem for case in cases if case.id == "good"] == [None]
    assert len(cases) == 2


@pytest.mark.parametrize("text", ["[" * 200_000, '[{"image": 1e999}' * 3, "\x00", '{"a": [' * 50_000])
def test_a_list_that_cannot_be_read_is_refused_by_name(tmp_path, text):
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(BatchError, match=r"list\.json"):
        find_cases([tmp_path / "list.json"])


def test_a_table_gives_names_references_and_prompts(tmp_path):
    write_image(tmp_path / "scans" / "1.png", chest_picture())
    prompts = {"points": [{"ijk": [5, 6], "positive": False}], "boxes": [{"first_ijk": [1, 2], "last_ijk": [9, 8]}]}
    (tmp_path / "one.json").write_text(json.dumps({"options": prompts}))
    (tmp_path / "list.csv").write_text(
        "image,id,reference,prompts,age\nscans/1.png,first,masks/1.png,one.json,70\nscans/none.png,,,,71\n"
    )
    first, second = find_cases([tmp_path / "list.csv"])
    assert (first.id, first.reference) == ("first", tmp_path / "masks" / "1.png")
    assert first.points == (VolumePoint((5.0, 6.0), positive=False),)
    assert first.boxes == (VolumeBox((1.0, 2.0), (9.0, 8.0)),)
    assert second.id == "scans__none" and "No such file" in second.problem


def test_prompts_that_cannot_be_read_are_the_cases_problem_only(tmp_path):
    write_image(tmp_path / "x.png", chest_picture())
    (tmp_path / "list.json").write_text(json.dumps([{"image": "x.png", "prompts": {"points": [{"ijk": ["a", 1]}]}}]))
    (case,) = find_cases([tmp_path / "list.json"])
    assert "prompts" in case.problem


@pytest.mark.parametrize("text", ["", "path\nx.png\n", "image,id\nx.png,a\ny.png,a\n", "image\n\n,\n"])
def test_a_table_that_is_no_list_of_images_is_refused(tmp_path, text):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(BatchError, match=r"list\.csv"):
        find_cases([tmp_path / "list.csv"])


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(BatchError, match="holds no image"):
        find_cases([tmp_path])


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the administrator may look into every folder")
def test_a_folder_that_may_not_be_looked_into_is_told(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    write_image(tmp_path / "x.png", chest_picture())
    closed, _ = find_cases([tmp_path])
    assert "cannot be looked into" in closed.problem


def test_a_file_among_references_is_found_by_place_then_by_name(tmp_path):
    for name in ("a/1.png", "b/1.png", "c/2.png"):
        write_image(tmp_path / "in" / name, chest_picture())
    for name in ("a/1_mask.png", "b/1_mask.png", "elsewhere/2_lungs.png"):
        write_image(tmp_path / "masks" / name, chest_picture())
    found = {case.id: case.reference for case in find_cases([tmp_path / "in"], reference=tmp_path / "masks")}
    assert {name: path and path.relative_to(tmp_path / "masks") for name, path in found.items()} == {
        "a__1": Path("a/1_mask.png"),
        "b__1": Path("b/1_mask.png"),
        "c__2": Path("elsewhere/2_lungs.png"),
    }


def test_references_that_fit_no_case_are_refused(tmp_path):
    write_image(tmp_path / "in" / "x.png", chest_picture())
    write_image(tmp_path / "masks" / "y.png", chest_picture())
    write_image(tmp_path / "masks" / "z.png", chest_picture())
    with pytest.raises(BatchError, match="named like a case, such as x"):
        find_cases([tmp_path / "in"], reference=tmp_path / "masks")
