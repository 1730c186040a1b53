"""Which prediction belongs to which reference, by file name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from SAMLungSegLib.errors import VolumeError

# Endings people and programs give to masks; 'case7_lungs_mask' and 'case7-seg' are both about 'case7'.
_ROLE = re.compile(
    r"[ ._-]+(lungs?|masks?|seg|segmentations?|labels?|labelmaps?|predictions?|pred|references?|ref|truth|gt)$",
    re.IGNORECASE,
)
_EXTENSION = re.compile(r"(\.seg)?\.(nii\.gz|[a-z][a-z0-9]{1,4})$", re.IGNORECASE)


def pair_files(
    prediction_paths: Iterable[str | Path],
    reference_paths: Iterable[str | Path],
    *,
    roles: tuple[str, str] = ("prediction", "reference"),
) -> list[tuple[Path, Path]]:
    """Pair predictions with references.

    One prediction and one reference are a pair whatever their names. Otherwise names decide, without folder,
    extension and endings such as '_lungs', '_mask' or '_seg', and each file needs exactly one partner.

    Args:
        prediction_paths: labelmap files to judge.
        reference_paths: labelmap files to judge them by.
        roles: what messages call the files of each kind.
    Returns:
        (prediction, reference) in the order of the predictions.
    Raises:
        VolumeError: nothing was given, two files have the same name, or files are without a partner; they are listed.
    """
    predictions, references = [Path(p) for p in prediction_paths], [Path(p) for p in reference_paths]
    if not predictions or not references:
        raise VolumeError(
            f"Got {len(predictions)} {roles[0]}(s) and {len(references)} {roles[1]}(s); give at least one of each."
        )
    if len(predictions) == len(references) == 1:
        return [(predictions[0], references[0])]
    named_predictions, named_references = _by_case(predictions), _by_case(references)
    without = [
        *(f"{roles[0]} {path}" for case, path in named_predictions.items() if case not in named_references),
        *(f"{roles[1]} {path}" for case, path in named_references.items() if case not in named_predictions),
    ]
    if without:
        raise VolumeError(
            f"{len(without)} file(s) have no partner: {', '.join(without)}; name both files of a pair alike, "
            "as in case7_lungs.nrrd and case7_mask.nrrd."
        )
    return [(path, named_references[case]) for case, path in named_predictions.items()]


def case_name(path: str | Path) -> str:
    """A file's name without extension and without endings that say what kind of file it is."""
    name = _EXTENSION.sub("", Path(path).name)
    while (shorter := _ROLE.sub("", name)) != name:
        name = shorter
    return name


def _by_case(paths: Sequence[Path]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in paths:
        case = case_name(path)
        if case in named:
            raise VolumeError(f"{named[case]} and {path} have the same case name '{case}'; give one file a case.")
        named[case] = path
    return named
