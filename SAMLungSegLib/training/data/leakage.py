"""Which images a model learned from, told by its card, so that no study tests on them.

A card is the JSON file beside weights, of the same stem. What counts in it:

- `data`, rows with a `set` each. Of a set that was split by the names of its images, or by patient, the test part was
  not seen.
- `held_out_sets`, sets that the weights never saw. Where there are any, the test parts of the other sets were seen.
- `images`, lists of names, of which 'training' and 'validation' were seen.
- `base`, the model that a tuned decoder belongs to, with `base_file` and `base_sha256`: its card counts as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SAMLungSegLib.documents import DocumentError, read_json
from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models.registry import bundled_file, model_spec
from SAMLungSegLib.training.data.cases import StudyCase
from SAMLungSegLib.training.data.splits import SPLIT_SETS, WHOLE_SETS, split_in_set
from SAMLungSegLib.volume import image_name

_SEEN_LISTS = ("training", "validation")
# What the files of the public sets are called, so that they are known in folders of any name.
_NAMES_OF_SETS = {
    "cxr_montgomery": re.compile(r"MCUCXR_\d{4}_[01]"),
    "cxr_shenzhen": re.compile(r"CHNCXR_\d{4}_[01]"),
    "ct_kmader": re.compile(r"ID_\d{4}_Z_\d{4}"),
}


@dataclass(frozen=True)
class SeenImages:
    """What weights learned from.

    Attributes:
        model: name of the model, for messages.
        whole_sets: of which all images were seen.
        split_sets: of which the images of the test part were not seen.
        names: of single images that were seen.
        is_known: whether cards tell it, of the base as well where there is one.
    """

    model: str
    whole_sets: frozenset[str] = frozenset()
    split_sets: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    is_known: bool = False

    def include(self, case: StudyCase) -> bool:
        """Whether a case was used for training or for choosing among trainings."""
        set_name = set_of(case)
        names = {case.name, case.id, image_name(case.image)}  # longer where several sets have the same file names
        if set_name in self.whole_sets or not names.isdisjoint(self.names):
            return True
        return set_name in self.split_sets and _part_of(case) != "test"

    def were_chosen_by(self, case: StudyCase) -> bool:
        """Whether a case was not learned from, but used for choosing among trainings."""
        return set_of(case) in self.split_sets and _part_of(case) == "validation"


def _part_of(case: StudyCase) -> str:
    """The part of its set that a case belongs to; where that goes by patient and nobody says whose it is, 'train'."""
    set_name = set_of(case)
    is_told = bool(case.patient) or set_name not in WHOLE_SETS
    return split_in_set(set_name, case.name, case.patient) if is_told else "train"


def set_of(case: StudyCase) -> str:
    """The public set that a case belongs to by its name, else its subset."""
    return next((name for name, pattern in _NAMES_OF_SETS.items() if pattern.match(case.name)), case.subset)


def seen_images(name: str, weights: Path | None = None) -> SeenImages:
    """What the model `name` of the registry, or the user's `weights` for it, learned from.

    Raises:
        ModelError: there is no such model, or a card cannot be read.
    """
    own = _bundled_card(name) if weights is None else _read_card(weights.with_suffix(".json"))
    cards = [own]
    if weights is not None and isinstance(own.get("base"), str):
        cards.append(_card_of_base(own, weights.parent))
    whole, split = set(), set()
    for card in cards:
        held_out = set(card.get("held_out_sets", ()))
        for set_name in {row["set"] for row in card.get("data", ()) if "set" in row} - held_out:
            (split if set_name in (*SPLIT_SETS, *WHOLE_SETS) and not held_out else whole).add(set_name)
    lists = [card["images"] for card in cards if isinstance(card.get("images"), dict)]
    return SeenImages(
        name if weights is None else f"{name} with {weights.name}",
        frozenset(whole),
        frozenset(split),
        frozenset(image for one in lists for part in _SEEN_LISTS for image in one.get(part, ())),
        is_known=all(cards),
    )


def _card_of_base(card: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The card of the registry's weights, or of the user's beside the tuned decoder; empty if there is none."""
    spec = model_spec(card["base"])
    if card.get("base_sha256", spec.sha256) in (spec.sha256, *spec.extends_sha256):
        return _bundled_card(spec.name)
    return _read_card((folder / str(card.get("base_file", ""))).with_suffix(".json"))


def without_seen(cases: Sequence[StudyCase], seen: SeenImages) -> list[StudyCase]:
    """The cases that a model may be tested on.

    Raises:
        ModelError: there is none.
    """
    kept = [case for case in cases if not seen.include(case)]
    if cases and not kept:
        raise ModelError(_refusal(cases, seen))
    return kept


def chosen_by(cases: Sequence[StudyCase], seen: SeenImages) -> list[StudyCase]:
    """The cases that a training was chosen by, of the public sets that the model learned from.

    Raises:
        ModelError: there is none.
    """
    kept = [case for case in cases if seen.were_chosen_by(case)]
    if not kept:
        raise ModelError(
            f"The card of {seen.model} names none of these {len(cases)} images as chosen by; give a public set that it "
            "learned from, or measure on the test part."
        )
    return kept


def check_unseen(cases: Sequence[StudyCase], seen: SeenImages) -> None:
    """Refuse a model that has learned from any of the cases that it is to be tested on.

    Raises:
        ModelError: it has.
    """
    included = [case for case in cases if seen.include(case)]
    if included:
        raise ModelError(_refusal(included, seen))


def _refusal(included: Sequence[StudyCase], seen: SeenImages) -> str:
    sets = ", ".join(sorted({set_of(case) for case in included}))
    return (
        f"{seen.model} has learned from {len(included)} of the images, of {sets}, such as {included[0].name}, so that "
        "results on them would say nothing; give --weights that were trained without them (their card says "
        '"held_out_sets"), or other images.'
    )


def _bundled_card(name: str) -> dict[str, Any]:
    """Empty for weights that come without a card."""
    spec = model_spec(name)
    return _read_card(bundled_file(spec.file_name).with_suffix(".json")) if spec.is_bundled else {}


def _read_card(path: Path) -> dict[str, Any]:
    """Empty if there is no such file."""
    if not path.is_file():
        return {}
    try:
        card = read_json(path)
    except DocumentError as error:
        raise ModelError(f"The card {path} of the weights cannot be read ({error}); repair or remove it.") from error
    if not isinstance(card, dict):
        raise ModelError(f"The card {path} of the weights is no JSON object; repair or remove it.")
    return card
