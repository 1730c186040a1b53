"""Which prediction belongs to which reference, by file name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.volume import image_name

# Endings people and programs give to masks; 'case7_lungs_mask' and 'case7-seg' are both about 'case7'.
_ROLE = re.compile(
    r"[ ._-]+(lungs?|masks?|seg|segmentations?|labels?|labelmaps?|predictions?|pred|references?|ref|truth|gt)$",
    re.IGNORECASE,
)
_ADVICE = "name both files of a pair alike, as in case7_lungs.nrrd and case7_mask.nrrd"
_EXTENSION = re.compile(r"(\.seg|\.rtstruct)?\.(nii\.gz|[a-z][a-z0-9]{1,4})$", re.IGNORECASE)


_MOST_LISTED = 4


class Pair(NamedTuple):
    """A prediction and the reference that it is measured by; `name` is the case's in all tables."""

    name: str
    prediction: Path
    reference: Path


class Unpaired(NamedTuple):
    """A file that is not measured, of which case, and why."""

    name: str
    path: Path
    reason: str


@dataclass(frozen=True)
class Pairing:
    """Which prediction belongs to which reference, what has no partner, and what has the name of another file."""

    pairs: tuple[Pair, ...]
    unpaired: tuple[Unpaired, ...] = ()
    clashing: tuple[Unpaired, ...] = ()

    def unpaired_text(self) -> str:
        """'2 file(s) have no partner: a.nrrd, b.nrrd (there is no reference of its name)': the first few by reason."""
        return f"{len(self.unpaired)} file(s) have no partner: {_grouped(self.unpaired)}"

    def clashing_text(self) -> str:
        """As `unpaired_text`, of files with the same case name."""
        return f"{len(self.clashing)} file(s) are left out: {_grouped(self.clashing)}"


def _grouped(left_out: Sequence[Unpaired]) -> str:
    by_reason: dict[str, list[str]] = {}
    for one in left_out:
        by_reason.setdefault(one.reason, []).append(str(one.path))
    groups = [f"{_shortened(paths[:_MOST_LISTED], len(paths))} ({reason})" for reason, paths in by_reason.items()]
    return _shortened(groups[:_MOST_LISTED], len(groups))


def match_files(
    prediction_paths: Iterable[str | Path], reference_paths: Iterable[str | Path], *, by_name_only: bool = False
) -> Pairing:
    """Pair predictions with references as `pair_files` does; files without a partner, or
    of the same name as another one, are left out and listed.

    Args:
        prediction_paths: labelmap files to judge.
        reference_paths: labelmap files to judge them by.
        by_name_only: whether the names count also where there is one file each.
    Raises:
        VolumeError: nothing was given, or no file has a partner.
    """
    predictions, references = [Path(p) for p in prediction_paths], [Path(p) for p in reference_paths]
    _check_given(predictions, references)
    if len(predictions) == len(references) == 1 and not by_name_only:
        return Pairing((Pair(image_name(references[0]), predictions[0], references[0]),))
    of_prediction, of_reference, clashing = _without_clashes(predictions, references)
    pairs = tuple(
        Pair(image_name(of_reference[case]), path, of_reference[case])
        for case, path in of_prediction.items()
        if case in of_reference
    )
    unpaired = (
        *(
            Unpaired(case, path, "there is no reference of its name")
            for case, path in of_prediction.items()
            if case not in of_reference
        ),
        *(
            Unpaired(case, path, "there is no prediction of its name")
            for case, path in of_reference.items()
            if case not in of_prediction
        ),
    )
    pairing = Pairing(pairs, unpaired, clashing)
    if not pairs:
        told = [pairing.unpaired_text()] * bool(unpaired) + [pairing.clashing_text()] * bool(clashing)
        raise VolumeError(f"No prediction has the name of a reference. {'; '.join(told)}; {_ADVICE}.")
    return pairing


def pair_files(
    prediction_paths: Iterable[str | Path],
    reference_paths: Iterable[str | Path],
    *,
    roles: tuple[str, str] = ("prediction", "reference"),
) -> list[tuple[Path, Path]]:
    """Pair predictions with references, none of which may be without a partner.

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
    _check_given(predictions, references, roles)
    if len(predictions) == len(references) == 1:
        return [(predictions[0], references[0])]
    named_predictions, named_references = _by_case(predictions), _by_case(references)
    without = [
        *(f"{roles[0]} {path}" for case, path in named_predictions.items() if case not in named_references),
        *(f"{roles[1]} {path}" for case, path in named_references.items() if case not in named_predictions),
    ]
    if without:
        listed = _shortened(without[:_MOST_LISTED], len(without))
        raise VolumeError(f"{len(without)} file(s) have no partner: {listed}; {_ADVICE}.")
    return [(path, named_references[case]) for case, path in named_predictions.items()]


def _check_given(
    predictions: Sequence[Path], references: Sequence[Path], roles: tuple[str, str] = ("prediction", "reference")
) -> None:
    if not predictions or not references:
        raise VolumeError(
            f"Got {len(predictions)} {roles[0]}(s) and {len(references)} {roles[1]}(s); give at least one of each."
        )


def _shortened(listed: Sequence[str], total: int) -> str:
    rest = total - len(listed)
    return ", ".join(listed) + (f" and {rest} more" if rest else "")


def case_name(path: str | Path) -> str:
    """A file's name without extension and without endings that say what kind of file it is."""
    name = _EXTENSION.sub("", Path(path).name)
    while (shorter := _ROLE.sub("", name)) != name:
        name = shorter
    return name


def _without_clashes(
    predictions: Sequence[Path], references: Sequence[Path]
) -> tuple[dict[str, Path], dict[str, Path], tuple[Unpaired, ...]]:
    """Files by case, and those of cases that have several of a kind."""
    grouped: list[dict[str, list[Path]]] = [{}, {}]
    for cases, paths in zip(grouped, (predictions, references), strict=True):
        for path in paths:
            cases.setdefault(case_name(path), []).append(path)
    several = {case for cases in grouped for case, paths in cases.items() if len(paths) > 1}
    clashing = [
        Unpaired(case, path, f"several files have the same case name '{case}'; give one file a case")
        for cases in grouped
        for case, paths in cases.items()
        for path in paths
        if case in several
    ]
    of_prediction, of_reference = (
        {case: paths[0] for case, paths in cases.items() if case not in several} for cases in grouped
    )
    return of_prediction, of_reference, tuple(clashing)


def _by_case(paths: Sequence[Path]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in paths:
        case = case_name(path)
        if case in named:
            raise VolumeError(f"{named[case]} and {path} have the same case name '{case}'; give one file a case.")
        named[case] = path
    return named
