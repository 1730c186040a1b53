"""Which structures of the label sets a segment of a file is: by the code of its terminology first, then by its name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import NamedTuple

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.structures import LABEL_SETS, LUNGS, Side, Structure
from SAMLungSegLib.volume.lungnames import LEFT, RIGHT, side_of_name, words_of

Code = tuple[str, str]  # value and meaning

_SIDE_CODES: dict[str, Side] = {"24028007": "right", "G-A100": "right", "7771000": "left", "G-A101": "left"}
_FILLERS = frozenset(("and", "both", "of", "the"))
_TYPE, _MODIFIER = 2, 3  # their places in Slicer's entry


class Terminology(NamedTuple):
    """What a segment is by codes: the type's, and the modifier's, which says the side or is empty."""

    type: Code
    modifier: Code = ("", "")

    @classmethod
    def of_entry(cls, entry: str) -> Terminology | None:
        """Of Slicer's 'context~category~type~modifier~...', each 'scheme^code^meaning'; None where that is not said."""
        parts = [part.split("^") for part in entry.split("~")]
        if len(parts) <= _MODIFIER or any(len(part) != 3 for part in parts[_TYPE : _MODIFIER + 1]):
            return None
        (_, code, meaning), (_, modifier, side) = parts[_TYPE : _MODIFIER + 1]
        return cls((code, meaning), (modifier, side))


def known_structures(name: str, terminology: Terminology | None, source: object) -> dict[str, str]:
    """What a segment is, by the name of each label set that has it; empty where neither code nor name is known.

    A lobe is also its lung. The name counts where the code is not known, and says the side where the code does not.

    Args:
        name: of the segment.
        terminology: of the segment; None where it has none.
        source: the file, for messages.
    Returns:
        The structure's key, or the set's own name for something of it that is not said more precisely, such as a kidney
        without a side.
    Raises:
        VolumeError: the name says another side than the terminology.
    """
    named = _named(name)
    coded = _coded(terminology, _sides_in(name)) if terminology else {}
    sides = _sides()
    for label_set, key in coded.items():
        if {sides.get(key), sides.get(named.get(label_set, ""))} == {"right", "left"}:
            raise VolumeError(
                f"{source}: segment '{name}' is the {key.replace('_', ' ')} by its terminology; give it one name in "
                "Slicer, and save it."
            )
    return coded or named


def _named(name: str) -> dict[str, str]:
    words = frozenset(words_of(name)) - RIGHT - LEFT - _FILLERS
    found = _found(lambda structure: words in _names(structure), _sides_in(name))
    lung = side_of_name(name)
    if lung is not None:
        found[LUNGS.name] = LUNGS.name if lung == "both" else f"{lung}_lung"
    return found


def _coded(terminology: Terminology, sides_of_name: Collection[Side]) -> dict[str, str]:
    (code, meaning), (modifier, side) = terminology
    sides = [_SIDE_CODES[modifier]] if modifier in _SIDE_CODES else _sides_in(side) or sides_of_name
    return (
        _found(lambda one: code in one.sided_codes or (one.side_in_code and code == one.code[0]), ())
        or _found(lambda one: code in (one.code[0], *one.other_codes), sides)
        or _named(f"{meaning} {' '.join(sides)}")
    )


def _found(is_it: Callable[[Structure], bool], sides: Collection[Side]) -> dict[str, str]:
    """The structure of each set that `is_it`, of one of the sides where any is said."""
    found: dict[str, str] = {}
    for label_set in LABEL_SETS.values():
        chosen = [one for _, one in label_set if is_it(one) and (not sides or one.side is None or one.side in sides)]
        if not chosen:
            continue
        found[label_set.name] = _one_of([one.key for one in chosen], label_set.name)
        wholes = [one.part_of for one in chosen if one.part_of]
        if wholes:
            whole_set = next(one.name for one in LABEL_SETS.values() if wholes[0] in one.keys)
            found[whole_set] = _one_of(wholes, whole_set)
    return found


def _one_of(keys: Sequence[str], otherwise: str) -> str:
    return keys[0] if len({*keys}) == 1 else otherwise


@cache
def _names(structure: Structure) -> frozenset[frozenset[str]]:
    """The words of each of its names, without the side."""
    names = (structure.name, structure.code[1], *structure.synonyms)
    return frozenset(frozenset(words_of(name)) - RIGHT - LEFT - _FILLERS for name in names)


def _sides_in(name: str) -> list[Side]:
    words = frozenset(words_of(name))
    return [side for side, those in (("right", RIGHT), ("left", LEFT)) if those & words]


@cache
def _sides() -> dict[str, Side | None]:
    """By key; what is not said precisely has none."""
    return {one.key: one.side for label_set in LABEL_SETS.values() for _, one in label_set}
