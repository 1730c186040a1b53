"""Two methods compared: tables with values known beforehand, units, patients, and the report."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from small_lungs import lungs, ras_matrix, row, volume

from SAMLungSegLib.documents import DocumentError
from SAMLungSegLib.errors import SettingsError, VolumeError
from SAMLungSegLib.evaluation import Unpaired, evaluate
from SAMLungSegLib.evaluation.comparison import ComparedCase, Comparison, compare
from SAMLungSegLib.evaluation.comparison_report import p_text, readable_differences, write_comparison
from SAMLungSegLib.evaluation.intervals import Bootstrap
from SAMLungSegLib.evaluation.latex import escaped, table_latex
from SAMLungSegLib.evaluation.patients import read_patients

PICTURE = {"has_physical_spacing": False, "matrix": np.diag([-1.0, -1, 1, 1])}


def missing(voxels: int) -> np.ndarray:
    """The small lungs without the first voxels of the right one, which has 36."""
    labelmap = lungs()
    places = np.argwhere(labelmap == 1)[:voxels]
    labelmap[tuple(places.T)] = 0
    return labelmap


def case(name: str, a: int, b: int, patient: str | None = None, matrix: np.ndarray | None = None) -> ComparedCase:
    """Of which A misses `a` voxels of the right lung, and B `b`."""
    reference = volume(lungs(), matrix)
    of_a, of_b = (evaluate(volume(missing(one), matrix), reference, name=name) for one in (a, b))
    return ComparedCase(of_a, of_b, patient or name)


def compared(**options) -> Comparison:
    """Of four cases; A misses 0, 1, 2 and 3 voxels, B two more."""
    return compare([case(f"case{number}", number, number + 2) for number in range(4)], **options)


def test_differences_are_paired_by_case():
    sensitivity = row(compared().differences, structure="right lung", metric="sensitivity")
    assert (sensitivity["n"], sensitivity["patients"], sensitivity["undefined"]) == (4, 4, 0)
    assert sensitivity["a_mean"] == pytest.approx(34.5 / 36)
    assert sensitivity["b_mean"] == pytest.approx(32.5 / 36)
    ends = [sensitivity[f"difference_{end}"] for end in ("low", "mean", "median", "high")]
    assert ends == pytest.approx([2 / 36] * 4)
    assert sensitivity["a_low"] < sensitivity["a_mean"] < sensitivity["a_high"]


def test_the_p_value_is_that_of_scipy():
    cases = [case(f"case{number}", number % 3, number) for number in range(8)]
    tested = row(compare(cases).differences, structure="right lung", metric="relative_volume_error")
    assert tested["p_value"] == pytest.approx(stats.wilcoxon([0, 0, 0, 3, 3, 3, 6, 6]).pvalue)


def test_methods_that_agree_have_no_p_value():
    assert np.isnan(row(compared().differences, structure="left lung", metric="dice")["p_value"])


def test_agreement_is_between_each_method_and_the_reference_and_between_both():
    voxel_ml = 8 / 1000
    table = compared().agreement.query("structure == 'right lung'").set_index(["first", "second"])
    assert table["unit"].eq("ml").all()
    assert table["bias"].to_dict() == pytest.approx(
        {("a", "reference"): -1.5 * voxel_ml, ("b", "reference"): -3.5 * voxel_ml, ("a", "b"): 2 * voxel_ml}
    )
    of_a = table.loc[("a", "reference")]
    sd = voxel_ml * np.std([0, 1, 2, 3], ddof=1)
    assert of_a["upper"] == pytest.approx(-1.5 * voxel_ml + 1.96 * sd)
    half = stats.t.ppf(0.975, 3) * sd / 2
    assert (of_a["bias_low"], of_a["bias_high"]) == pytest.approx((-1.5 * voxel_ml - half, -1.5 * voxel_ml + half))
    between = table.loc[("a", "b")]
    assert (between["lower"], between["upper"]) == pytest.approx((2 * voxel_ml, 2 * voxel_ml))


def test_oblique_volumes_have_the_same_numbers():
    turn = np.deg2rad(30)
    oblique = ras_matrix(origin=(-40, 12, 7))
    oblique[:3, :3] = [[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]] @ oblique[:3, :3]
    straight = compare([case("one", 1, 4), case("two", 2, 3)])
    turned = compare([case("one", 1, 4, matrix=oblique), case("two", 2, 3, matrix=oblique)])
    pd.testing.assert_frame_equal(straight.sizes, turned.sizes)
    pd.testing.assert_frame_equal(straight.differences, turned.differences)


def test_pictures_are_measured_in_pixels_and_never_in_millimetres():
    reference = volume(lungs()[2:3], **PICTURE)
    of_a = evaluate(volume(lungs()[2:3], **PICTURE), reference)
    found = compare([ComparedCase(of_a, of_a, "p")])
    assert found.sizes["unit"].eq("px").all()
    assert row(found.sizes, structure="right lung")["reference"] == 12
    assert not [name for name in found.differences["metric"] if name.endswith(("_mm", "_ml")) or name == "surface_dice"]
    assert {"assd_px", "hausdorff_95_px", "relative_volume_error"} <= {*found.differences["metric"]}
    assert not re.search(r"\[m[ml]\]", readable_differences(found).to_string())


def test_one_slice_with_a_spacing_has_an_area():
    one = evaluate(volume(lungs()[2:3]), volume(lungs()[2:3]))
    found = row(compare([ComparedCase(one, one, "p")]).sizes, structure="right lung")
    assert (found["unit"], found["reference"]) == ("cm2", pytest.approx(12 * 2 / 100))


def test_patients_with_several_cases_are_drawn_as_a_whole():
    cases = [case("p1", 0, 4, "p"), case("p2", 0, 4, "p"), case("q1", 0, 1, "q"), case("q2", 0, 1, "q")]
    found = compare(cases)
    sensitivity = row(found.differences, structure="right lung", metric="sensitivity")
    assert found.is_clustered
    assert (sensitivity["n"], sensitivity["patients"]) == (4, 2)
    assert (sensitivity["difference_low"], sensitivity["difference_high"]) == pytest.approx((1 / 36, 4 / 36))
    apart = compare([ComparedCase(one.a, one.b, one.a.name) for one in cases])
    assert apart.agreement["patients"].eq(4).all() and not apart.is_clustered


def test_a_structure_that_one_method_lacks_is_undefined_in_distance_and_counted():
    reference = volume(lungs())
    lost = evaluate(volume(np.where(lungs() == 2, 2, 0).astype(np.uint8)), reference, name="case")
    found = compare([ComparedCase(evaluate(reference, reference), lost, "p")]).differences
    assert row(found, structure="right lung", metric="assd_mm")["undefined"] == 1
    assert row(found, structure="right lung", metric="dice")["difference_mean"] == 1


def test_only_structures_that_both_methods_tell_apart_are_compared():
    touching = lungs() > 0
    touching[2, 3, 4:6] = True
    of_a = evaluate(volume(lungs()), volume(lungs()))
    of_b = evaluate(volume(touching.astype(np.uint8)), volume(lungs()))
    found = compare([ComparedCase(of_a, of_b, "p")])
    assert set(found.scores["structure"]) == {"both lungs"}
    assert any("do not tell the same structures apart" in note for _, note in found.notes)
    assert any(note.startswith("B: The prediction has one lung label") for _, note in found.notes)


def test_without_cases_there_is_nothing_to_compare():
    with pytest.raises(VolumeError, match="give one at least"):
        compare([])


def test_a_report_has_tables_plots_and_a_page(tmp_path):
    found = compared(names=("U-Net_2", "50 % & more"), bootstrap=Bootstrap(resamples=500, seed=7))
    left_out = [Unpaired("z", tmp_path / "z.nrrd", "there is no reference of its name")]
    written = {path.name for path in write_comparison(found, tmp_path / "report", not_measured=left_out)}
    tables = {"cases.csv", "sizes.csv", "differences.csv", "agreement.csv", "not_measured.csv", "tables.tex"}
    plots = {f"bland_altman_{name}.png" for name in ("right_lung", "left_lung", "both_lungs")}
    assert written == tables | plots | {"report.md"} == {path.name for path in (tmp_path / "report").iterdir()}
    page = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "4 cases." in page and "500 resamples, seed 7" in page and "z.nrrd" in page
    assert all(f"({plot})" in page for plot in plots)
    latex = (tmp_path / "report" / "tables.tex").read_text(encoding="utf-8")
    assert r"U-Net\_2 and 50 \% \& more on 4 cases" in latex
    read = pd.read_csv(tmp_path / "report" / "differences.csv")
    assert read["difference_mean"].to_numpy() == pytest.approx(found.differences["difference_mean"], abs=1e-5)


def test_a_report_keeps_no_plots_of_an_earlier_one(tmp_path):
    (tmp_path / "bland_altman_of_mine.txt").write_text("kept")
    (tmp_path / "bland_altman_left_lower_lobe.png").write_bytes(b"of lobes")
    written = write_comparison(compared(), tmp_path)
    plots = {path.name for path in written if path.suffix == ".png"}
    assert {path.name for path in tmp_path.glob("bland_altman_*")} == {*plots, "bland_altman_of_mine.txt"}


def test_latex_keeps_what_it_would_take_for_commands():
    assert escaped(r"a_b & 5 % \ -1.2 to -3, x-1") == r"a\_b \& 5 \% \textbackslash{} $-$1.2 to $-$3, x-1"
    assert escaped("< 0.001") == "$<$ 0.001"
    table = table_latex(pd.DataFrame({"Name": ["a"], "n": [3]}), "Two", "tab:two")
    assert r"\begin{tabular}{lr}" in table and r"a & 3 \\" in table


def test_p_values_are_said_as_journals_want_them():
    assert [p_text(value) for value in (0.0004, 0.0456, 1.0, np.nan)] == ["< 0.001", "0.046", "1.000", "-"]


def test_patients_are_found_by_case_names_without_endings(tmp_path):
    table = tmp_path / "cases.csv"
    table.write_text("sex;case;who\nf;a1_lungs.nii.gz;p\nm;a2;p\nf;b1_mask;q\n", encoding="utf-8-sig")
    assert read_patients(table, "who", ["a1_mask", "a2", "b1"]) == {"a1_mask": "p", "a2": "p", "b1": "q"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,who\na,p\n", r"no patient of 1 case\(s\): b"),
        ("case,who\na,p\nb,\n", r"no patient of 1 case\(s\): b"),
        ("case,who\na,p\na,q\nb,q\n", "gives case a two patients, p and q"),
        ("case,sex\na,f\nb,m\n", "no column 'who'; it has case, sex"),
        ("case,who\n", "no rows"),
    ],
)
def test_a_table_of_patients_that_lacks_something_is_refused(tmp_path, text, message):
    (tmp_path / "cases.csv").write_text(text)
    with pytest.raises(SettingsError, match=message):
        read_patients(tmp_path / "cases.csv", "who", ["a", "b"])


def test_a_table_of_patients_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DocumentError, match="cannot be read"):
        read_patients(tmp_path / "none.csv", "who", ["a"])
