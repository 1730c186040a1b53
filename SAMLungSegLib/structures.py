"""What there is to segment: structures with their names, codes, colours and side, and the label sets they make up.

Nothing else in the library knows an organ by a number of its own: reading, writing, evaluation and models take a label
set, and a new structure is a row here.

SNOMED CT codes are those of DICOM's context groups, as 3D Slicer's *General Anatomy* terminology has them. Colours
follow it, too, but for the second of a pair, which is lighter, so that pictures distinguish the two.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from SAMLungSegLib.errors import SettingsError

Side = Literal["right", "left"]
Extent = Literal["visible", "whole"]  # of a lung on an X-ray, without or with what heart and diaphragm hide
EXTENTS: tuple[Extent, ...] = get_args(Extent)
EXTENT_MASKS: dict[Extent, str] = {  # what a mask of it holds, for scores
    "visible": "the visible lung fields, without what heart and diaphragm hide",
    "whole": "whole lungs, with what heart and diaphragm hide",
}
ExtentChoice = Literal["visible", "whole", "both"]  # the last: visible fields, and what is hidden as structures beside
EXTENT_CHOICES: tuple[ExtentChoice, ...] = get_args(ExtentChoice)
Code = tuple[str, str]  # of a coding scheme, and its meaning

_SIDES: dict[Side, Code] = {"right": ("24028007", "Right"), "left": ("7771000", "Left")}
_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
_CATEGORY = "SCT^123037004^Anatomical Structure"
_NO_REGION = "Anatomic codes - DICOM master list~^^~^^"
_GOLDEN_SHARE = (5**0.5 - 1) / 2  # of the colour circle, which keeps neighbours apart
_SNOMED, _OWN_SCHEME = "SCT", "99SAMLUNGSEG"  # DICOM: private schemes begin with 99


@dataclass(frozen=True)
class Structure:
    """Something that labels can stand for.

    Attributes:
        key: what code, cards and tables call it: 'right_lung'.
        name: as shown to people: 'right lung'.
        code: without the side, and its meaning.
        colour: red, green, blue, 0 to 255.
        side: the patient's, of one of a pair.
        side_in_code: whether the code says the side already.
        other_codes: that mean the same in files, of SNOMED CT and of its predecessor SRT, without the side.
        sided_codes: likewise, that say the side already.
        synonyms: names without the side that files use as well; those that `name` and `code` give need not be listed.
        part_of: key of the structure of another set that this one is a part of.
        scheme: of the code: SNOMED CT, or this program's own for what that lacks.
    """

    key: str
    name: str
    code: Code
    colour: tuple[int, int, int]
    side: Side | None = None
    side_in_code: bool = False
    other_codes: tuple[str, ...] = ()
    sided_codes: tuple[str, ...] = ()
    synonyms: tuple[str, ...] = ()
    part_of: str | None = None
    scheme: str = _SNOMED

    @property
    def side_code(self) -> Code | None:
        """SNOMED CT's for the side that `code` does not say; None where there is none to say."""
        return _SIDES[self.side] if self.side and not self.side_in_code else None

    @property
    def terminology(self) -> str:
        """Slicer's entry: context, category, type, modifier, then an empty anatomic region."""
        modifier = "SCT^" + "^".join(self.side_code) if self.side_code else "^^"
        return f"{_CONTEXT}~{_CATEGORY}~{self.scheme}^{'^'.join(self.code)}~{modifier}~{_NO_REGION}"


@dataclass(frozen=True)
class LabelSet:
    """Structures by the value that they have in labelmaps: the first is 1, the next 2, and so on.

    Attributes:
        name: what commands call it: 'lungs'.
        structures: in the order of their labels.
    """

    name: str
    structures: tuple[Structure, ...]

    def __iter__(self) -> Iterator[tuple[int, Structure]]:
        """Label and structure, ascending."""
        return iter(enumerate(self.structures, start=1))

    def __len__(self) -> int:
        return len(self.structures)

    @property
    def labels(self) -> tuple[int, ...]:
        """All label values, ascending."""
        return tuple(range(1, len(self.structures) + 1))

    @property
    def keys(self) -> tuple[str, ...]:
        """The structures' keys in the order of their labels."""
        return tuple(structure.key for structure in self.structures)

    def label_of(self, key: str) -> int:
        """The label of the structure called `key`.

        Raises:
            SettingsError: the set does not have it.
        """
        if key not in self.keys:
            raise SettingsError(f"Label set {self.name} has no structure '{key}'; it has {', '.join(self.keys)}.")
        return self.keys.index(key) + 1

    def structure_of(self, label: int) -> Structure:
        """The structure whose label is `label`.

        Raises:
            SettingsError: the set does not have it.
        """
        if label not in self.labels:
            raise SettingsError(f"Label {label} is not one of label set {self.name}, which has 1 to {len(self)}.")
        return self.structures[label - 1]


LUNGS = LabelSet(
    "lungs",
    (
        Structure(
            "right_lung",
            "right lung",
            ("39607008", "Lung"),
            (197, 165, 145),
            "right",
            other_codes=("T-28000",),
            sided_codes=("3341006", "T-28100"),
        ),
        Structure(
            "left_lung",
            "left lung",
            ("39607008", "Lung"),
            (145, 178, 197),
            "left",
            other_codes=("T-28000",),
            sided_codes=("44029006", "T-28500"),
        ),
    ),
)
RIGHT_LUNG, LEFT_LUNG = LUNGS.labels

_HIDDEN: Code = ("HIDDEN_LUNG", "Part of lung behind heart and diaphragm")
HIDDEN_LUNGS = LabelSet(  # on an X-ray
    "hidden-lungs",
    (
        Structure(
            "right_hidden_lung",
            "right hidden lung",
            _HIDDEN,
            (128, 98, 80),
            "right",
            synonyms=("retrocardiac lung",),
            part_of="right_lung",
            scheme=_OWN_SCHEME,
        ),
        Structure(
            "left_hidden_lung",
            "left hidden lung",
            _HIDDEN,
            (80, 110, 128),
            "left",
            synonyms=("retrocardiac lung",),
            part_of="left_lung",
            scheme=_OWN_SCHEME,
        ),
    ),
)
WHOLE_LUNGS = LabelSet("whole-lungs", tuple(replace(one, name=f"{one.name} (whole)") for _, one in LUNGS))
LUNGS_WITH_HIDDEN = LabelSet("lungs-with-hidden", (*LUNGS.structures, *HIDDEN_LUNGS.structures))

LOBES = LabelSet(
    "lobes",
    (
        Structure(
            "left_upper_lobe",
            "left upper lobe",
            ("45653009", "Upper lobe of lung"),
            (177, 122, 101),
            "left",
            other_codes=("T-28820",),
            sided_codes=("44714003", "T-28600"),
            synonyms=("LUL", "superior lobe", "Oberlappen"),
            part_of="left_lung",
        ),
        Structure(
            "left_lower_lobe",
            "left lower lobe",
            ("90572001", "Lower lobe of lung"),
            (111, 184, 210),
            "left",
            other_codes=("T-28830",),
            sided_codes=("41224006", "T-28700"),
            synonyms=("LLL", "inferior lobe", "Unterlappen"),
            part_of="left_lung",
        ),
        Structure(
            "right_upper_lobe",
            "right upper lobe",
            ("45653009", "Upper lobe of lung"),
            (172, 138, 115),
            "right",
            other_codes=("T-28820",),
            sided_codes=("42400003", "T-28200"),
            synonyms=("RUL", "superior lobe", "Oberlappen"),
            part_of="right_lung",
        ),
        Structure(
            "right_middle_lobe",
            "right middle lobe",
            ("72481006", "Middle lobe of right lung"),
            (202, 164, 140),
            "right",
            side_in_code=True,
            sided_codes=("T-28300",),
            synonyms=("RML", "Mittellappen"),
            part_of="right_lung",
        ),
        Structure(
            "right_lower_lobe",
            "right lower lobe",
            ("90572001", "Lower lobe of lung"),
            (224, 186, 162),
            "right",
            other_codes=("T-28830",),
            sided_codes=("266005", "T-28400"),
            synonyms=("RLL", "inferior lobe", "Unterlappen"),
            part_of="right_lung",
        ),
    ),
)

ABDOMEN = LabelSet(  # the thirteen organs of the Beyond the Cranial Vault challenge, doi:10.7303/syn3193805
    "abdomen",
    (
        Structure("spleen", "spleen", ("78961009", "Spleen"), (157, 108, 162), other_codes=("T-C3000",)),
        Structure(
            "right_kidney",
            "right kidney",
            ("64033007", "Kidney"),
            (185, 102, 83),
            "right",
            other_codes=("T-71000",),
            sided_codes=("9846003",),
            synonyms=("kidneys",),
        ),
        Structure(
            "left_kidney",
            "left kidney",
            ("64033007", "Kidney"),
            (208, 132, 113),
            "left",
            other_codes=("T-71000",),
            sided_codes=("18639004",),
            synonyms=("kidneys",),
        ),
        Structure(
            "gallbladder",
            "gallbladder",
            ("28231008", "Gallbladder"),
            (139, 150, 98),
            other_codes=("T-63000",),
            synonyms=("gall bladder",),
        ),
        Structure("oesophagus", "oesophagus", ("32849002", "Esophagus"), (211, 171, 143), other_codes=("T-56000",)),
        Structure("liver", "liver", ("10200004", "Liver"), (221, 130, 101), other_codes=("T-62000",)),
        Structure("stomach", "stomach", ("69695003", "Stomach"), (216, 132, 105), other_codes=("T-57000",)),
        Structure("aorta", "aorta", ("15825003", "Aorta"), (224, 97, 76), other_codes=("T-42000",)),
        Structure(
            "inferior_vena_cava",
            "inferior vena cava",
            ("64131007", "Inferior vena cava"),
            (0, 151, 206),
            other_codes=("T-48710",),
            synonyms=("postcava", "IVC"),
        ),
        Structure(
            "portal_and_splenic_vein",
            "portal and splenic vein",
            ("110765007", "Portal vein and splenic vein"),
            (0, 131, 186),
            synonyms=("portal and splenic veins",),
        ),
        Structure("pancreas", "pancreas", ("15776009", "Pancreas"), (249, 180, 111), other_codes=("T-65000",)),
        Structure(
            "right_adrenal_gland",
            "right adrenal gland",
            ("23451007", "Adrenal gland"),
            (249, 186, 150),
            "right",
            other_codes=("T-B3000",),
            sided_codes=("29392005",),
            synonyms=("adrenal", "adrenals", "adrenal glands", "suprarenal gland"),
        ),
        Structure(
            "left_adrenal_gland",
            "left adrenal gland",
            ("23451007", "Adrenal gland"),
            (255, 211, 182),
            "left",
            other_codes=("T-B3000",),
            sided_codes=("38360002",),
            synonyms=("adrenal", "adrenals", "adrenal glands", "suprarenal gland"),
        ),
    ),
)

LABEL_SETS: dict[str, LabelSet] = {one.name: one for one in (LUNGS, LOBES, ABDOMEN, HIDDEN_LUNGS)}


def label_set(name: str) -> LabelSet:
    """The label set called `name`.

    Raises:
        SettingsError: there is none; the message lists those there are.
    """
    if name not in LABEL_SETS:
        raise SettingsError(f"There is no label set '{name}'; choose one of {', '.join(LABEL_SETS)}.")
    return LABEL_SETS[name]


def named_structures(names: Sequence[str]) -> LabelSet:
    """The structures of some names, in their order: those of the label sets where they have one called so.

    Others have a code of this program's own and a colour by their place.

    Args:
        names: as people or tables call them: 'left kidney', 'left_kidney'.
    Raises:
        SettingsError: there is none, or one is given twice.
    """
    known = {key: one for some in LABEL_SETS.values() for one in some.structures for key in (one.key, _key(one.name))}
    keys = [_key(name) for name in names]
    if not keys or len({*keys}) < len(keys):
        raise SettingsError(f"Objects are called {', '.join(names) or 'nothing'}; give each a name of its own.")
    return LabelSet("objects", tuple(known.get(key) or _unknown(key, place) for place, key in enumerate(keys)))


def _key(name: str) -> str:
    return re.sub(r"\W+", "_", name.lower()).strip("_")


def _unknown(key: str, place: int) -> Structure:
    red, green, blue = (round(255 * one) for one in colorsys.hsv_to_rgb(place * _GOLDEN_SHARE % 1, 0.6, 0.9))
    name = key.replace("_", " ")
    return Structure(key, name, (key, name), (red, green, blue), scheme=_OWN_SCHEME)


def lungs_of_extent(extent: ExtentChoice | None) -> LabelSet:
    """What the labels of lungs on an X-ray stand for; None where that is not said, and on CT, which has one extent."""
    return {"whole": WHOLE_LUNGS, "both": LUNGS_WITH_HIDDEN}.get(extent or "visible", LUNGS)
