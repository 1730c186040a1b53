"""Label sets: what labels stand for."""

from __future__ import annotations

import pytest

from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.structures import (
    ABDOMEN,
    LABEL_SETS,
    LEFT_LUNG,
    LOBES,
    LUNGS,
    RIGHT_LUNG,
    label_set,
    named_structures,
)
from SAMLungSegLib.volume.colours import label_colours


def test_right_lung_is_1_and_left_lung_is_2():
    assert (RIGHT_LUNG, LEFT_LUNG) == (1, 2) == LUNGS.labels
    assert LUNGS.keys == ("right_lung", "left_lung")
    assert [structure.side for _label, structure in LUNGS] == ["right", "left"]


@pytest.mark.parametrize("one", LABEL_SETS.values(), ids=LABEL_SETS)
def test_structures_of_a_set_differ_in_key_name_colour_and_code(one):
    structures = one.structures
    for of in (lambda s: s.key, lambda s: s.name, lambda s: s.colour, lambda s: s.terminology):
        assert len({of(structure) for structure in structures}) == len(structures)


@pytest.mark.parametrize("one", LABEL_SETS.values(), ids=LABEL_SETS)
def test_names_and_sides_agree(one):
    for _label, structure in one:
        assert structure.key == structure.name.replace(" ", "_")
        assert structure.side == next((side for side in ("right", "left") if structure.name.startswith(side)), None)


def test_there_are_five_lobes_and_thirteen_organs():
    assert (len(LOBES), len(ABDOMEN)) == (5, 13)
    assert ABDOMEN.structure_of(6).name == "liver"
    assert ABDOMEN.label_of("left_adrenal_gland") == 13


def test_terminology_is_slicers_entry():
    middle = "~SCT^72481006^Middle lobe of right lung~^^~"
    assert middle in LOBES.structure_of(LOBES.label_of("right_middle_lobe")).terminology
    assert "~SCT^64033007^Kidney~SCT^7771000^Left~" in ABDOMEN.structure_of(3).terminology
    for one in LABEL_SETS.values():
        for _label, structure in one:
            parts = structure.terminology.split("~")
            assert len(parts) == 7 and all(len(part.split("^")) == 3 for part in (*parts[1:4], *parts[5:]))


def test_the_palette_shows_a_sets_own_colours_and_none_twice():
    colours = label_colours(ABDOMEN)
    assert tuple(colours[6]) == (221, 130, 101)
    assert len({tuple(colour) for colour in colours}) == 256


def test_what_a_set_does_not_have_is_refused_in_words():
    with pytest.raises(SettingsError, match="choose one of lungs, lobes, abdomen"):
        label_set("bones")
    with pytest.raises(SettingsError, match="it has right_lung, left_lung"):
        LUNGS.label_of("liver")
    with pytest.raises(SettingsError, match="has 1 to 2"):
        LUNGS.structure_of(3)


def test_objects_are_known_by_name_or_key_and_others_get_a_code_of_our_own():
    names = named_structures(["Left kidney", "liver", "Thing (2)", "other"])
    assert names.keys == ("left_kidney", "liver", "thing_2", "other")
    assert names.structure_of(1) is ABDOMEN.structure_of(ABDOMEN.label_of("left_kidney"))
    assert names.structure_of(3).terminology.split("~")[2] == "99SAMLUNGSEG^thing_2^thing 2"
    assert len({one.colour for _, one in names}) == 4


@pytest.mark.parametrize("given", [[], ["liver", "Liver"], ["a b", "a_b"]])
def test_objects_without_a_name_of_their_own_are_refused(given):
    with pytest.raises(SettingsError, match="give each a name of its own"):
        named_structures(given)
