"""Which lung a segment is, by what people and programs call it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Literal

Side = Literal["right", "left", "both"]

_SIGNS = {"右": " right ", "左": " left ", "肺": " lung ", "双": " both ", "両": " both "}
_WORDS = {
    "right": "right r rt rechts rechte rechter rechtes rechten re droit droite derecho derecha destro destra dx "
    "direito direita dexter dextra dextrum prawe prawy prawa правое правыи правого",
    "left": "left l lt links linke linker linkes linken li gauche izquierdo izquierda sinistro sinistra sx esquerdo "
    "esquerda sinister sinistrum lewe lewy lewa левое левыи левого",
    "lung": "lung lungs lunge lungen lungenflugel lunga pulmo pulmones pulmon poumon poumons polmone polmoni pulmao "
    "pulmoes pluco pluca легкое легкие",
}
RIGHT, LEFT, _LUNG = (frozenset(_WORDS[what].split()) for what in ("right", "left", "lung"))
_LOBE = re.compile(r"lobe?s?|lobus|lob[oi]|lappen|(ober|mittel|unter)lappen|lingula")
_LOBE_PLACE = re.compile(
    r"upper|middle|lower|superior|inferior|medius|oberer?|mittlerer?|unterer?|(ober|mittel|unter)lappen|lingula"
)
_WHOLE_NAMES = {
    **dict.fromkeys(("rul", "rml", "rll"), ("right", "lung")),
    **dict.fromkeys(("lul", "lll"), ("left", "lung")),
    "rechterlong": ("right", "lung"),
    "linkerlong": ("left", "lung"),
}
_OTHER = re.compile(  # in or beside the lungs, or lobes of something else
    r"nodul|lesion|lasion|tumou?r|cancer|carcinom|mass(es)?$|vessel|gefass|arter|vein|veno|vena|trache|airway|bronch"
    r"|fissur|opaci|ggo$|consolid|konsolid|infiltr|infect|emphys|effusion|erguss|thorax|metast|cyst|embol|wall|pleura"
    r"|ventric|atri|liver|leber|hepat|thyroid|schilddr|brain|frontal|temporal|parietal|occipit|prostat|thym|breast"
)


def side_of_name(name: str) -> Side | None:
    """Which lung a name means: 'Right lung', 'lung_l', 'LungR', 'rechte Lunge', 'lung_upper_lobe_left', 'RUL', '右肺'.

    A name of nothing but a side means a lung. 'both' is lung of no side that is said; None is anything else, also what
    is only in or beside the lungs, such as a nodule.
    """
    words = [part for word in words_of(name) for part in _WHOLE_NAMES.get(word) or _taken_apart(word)]
    if any(_OTHER.match(word) for word in words):
        return None
    right, left = (not side.isdisjoint(words) for side in (RIGHT, LEFT))
    is_side_only = bool(words) and (RIGHT | LEFT).issuperset(words)
    is_lobe = any(_LOBE.fullmatch(word) for word in words) and any(_LOBE_PLACE.fullmatch(word) for word in words)
    if not (is_side_only or is_lobe or not _LUNG.isdisjoint(words)):
        return None
    return "both" if right == left else "right" if right else "left"


def words_of(name: str) -> Iterator[str]:
    """Lower-case words without accents and digits; camel case is taken apart."""
    for sign, word in _SIGNS.items():
        name = name.replace(sign, word)
    plain = "".join(one for one in unicodedata.normalize("NFKD", name) if not unicodedata.combining(one))
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", plain)
    return (word for word in re.findall(r"[^\W\d_]+", plain.casefold()))


def _taken_apart(word: str) -> tuple[str, ...]:
    """A side and the lung that it is joined to, as in 'llung'."""
    if word in _LUNG:
        return (word,)
    for lung in ("lung", "lungs"):
        if word.endswith(lung) and word[: -len(lung)] in RIGHT | LEFT:
            return word[: -len(lung)], lung
        if word.startswith(lung) and word[len(lung) :] in RIGHT | LEFT:
            return lung, word[len(lung) :]
    return (word,)
