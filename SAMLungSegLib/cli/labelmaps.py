"""What the subcommands about labelmaps share: which files belong together, whose they are, what labels stand for."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from SAMLungSegLib.cli.choices import given_path, whole_number_from
from SAMLungSegLib.errors import SettingsError, VolumeError
from SAMLungSegLib.structures import LABEL_SETS, label_set

if TYPE_CHECKING:
    from SAMLungSegLib.evaluation import Pairing, Unpaired
    from SAMLungSegLib.evaluation.intervals import Bootstrap


def add_label_options(parser: argparse.ArgumentParser) -> None:
    """--reference-right and the like, --structures and --tolerance-mm."""
    for role in ("reference", "prediction"):
        for side in ("right", "left"):
            help_text = f"{role} labels of the {side} lung; default: {1 if side == 'right' else 2}"
            parser.add_argument(f"--{role}-{side}", type=_labels, metavar="L[,L]", help=help_text)
    parser.add_argument(
        "--structures",
        default="lungs",
        choices=[*LABEL_SETS],
        help="what the labels stand for; default: lungs, 1 = right, 2 = left",
    )
    parser.add_argument("--tolerance-mm", type=float, default=2.0, metavar="MM", help="tolerance of the surface Dice")


def _labels(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a list of labels; give whole numbers with commas between them, such as 10,11"
        ) from error


def label_options(arguments: argparse.Namespace) -> dict[str, object]:
    """What `add_label_options` was given, as arguments of `evaluate`.

    Raises:
        SettingsError: the labels of one side only, labels that cannot be, or a tolerance that is no length.
    """
    from SAMLungSegLib.evaluation import check_tolerance

    check_tolerance(arguments.tolerance_mm)
    return {
        "tolerance_mm": arguments.tolerance_mm,
        "reference_labels": _side_labels(arguments, "reference"),
        "prediction_labels": _side_labels(arguments, "prediction"),
        "label_set": label_set(arguments.structures),
    }


def add_patient_options(parser: argparse.ArgumentParser) -> None:
    """--cases, --patient, --resamples and --seed."""
    parser.add_argument(
        "--cases",
        type=given_path,
        metavar="FILE",
        help="CSV that says the patient of each case; default: each is of another",
    )
    parser.add_argument(
        "--patient", metavar="COLUMN", help="of --cases; cases of a patient are drawn together; no default"
    )
    parser.add_argument(
        "--resamples", type=whole_number_from(100), default=2000, metavar="N", help="of the bootstrap of intervals"
    )
    parser.add_argument(
        "--seed", type=whole_number_from(0), default=0, metavar="N", help="of the bootstrap; default: 0"
    )


def patients_of(arguments: argparse.Namespace, cases: list[str]) -> dict[str, str]:
    """The patient of each case; none where no table was given.

    Raises:
        SettingsError: one of --cases and --patient without the other, or the table lacks something.
    """
    from SAMLungSegLib.evaluation.patients import read_patients

    if (arguments.cases is None) != (arguments.patient is None):
        raise SettingsError("Give both --cases FILE and --patient COLUMN, or neither.")
    return {} if arguments.cases is None else read_patients(arguments.cases, arguments.patient, cases)


def bootstrap_of(arguments: argparse.Namespace) -> Bootstrap:
    """How `add_patient_options` wants intervals."""
    from SAMLungSegLib.evaluation.intervals import Bootstrap

    return Bootstrap(arguments.resamples, arguments.seed)


def _side_labels(arguments: argparse.Namespace, role: str) -> dict[str, tuple[int, ...]] | None:
    from SAMLungSegLib.evaluation import check_labels

    labels = {side: getattr(arguments, f"{role}_{side}") for side in ("right", "left")}
    if all(values is None for values in labels.values()):
        return None
    if None in labels.values():
        raise SettingsError(f"Give both --{role}-right and --{role}-left, or neither.")
    check_labels(labels)
    return labels


def paired_labelmaps(prediction: Path, reference: Path) -> Pairing:
    """Which labelmaps belong together.

    Raises:
        VolumeError: none do.
    """
    from SAMLungSegLib.batch.labelmaps import is_run, pair_labelmaps
    from SAMLungSegLib.evaluation import match_files

    for path in (prediction, reference):
        if not path.exists():
            raise VolumeError(f"{path} does not exist; give a labelmap or a folder of labelmaps.")
    if is_run(prediction) and not is_run(reference):
        return pair_labelmaps(prediction, reference.absolute())
    are_folders = prediction.is_dir() and reference.is_dir()
    return match_files(labelmap_files(prediction), labelmap_files(reference), by_name_only=are_folders)


class SharedCase(NamedTuple):
    """A case that several methods, or readers, have: the labelmap of each, in their order, and the reference's."""

    name: str
    labelmaps: tuple[Path, ...]
    reference: Path


def shared_cases(pairings: Mapping[str, Pairing]) -> tuple[list[SharedCase], list[Unpaired]]:
    """Cases that all have, and the files that are left out.

    Args:
        pairings: of each method, by name, with the same references.
    Raises:
        VolumeError: they have no case in common.
    """
    from SAMLungSegLib.evaluation import Unpaired

    found = [{pair.reference: pair for pair in pairing.pairs} for pairing in pairings.values()]
    shared = [reference for reference in found[0] if all(reference in pairs for pairs in found)]
    if not shared:
        raise VolumeError(f"{' and '.join(pairings)} have no case in common; give labelmaps of the same cases.")
    cases = [
        SharedCase(found[0][reference].name, tuple(pairs[reference].prediction for pairs in found), reference)
        for reference in shared
    ]
    left_out = {one.path: one for pairing in pairings.values() for one in (*pairing.unpaired, *pairing.clashing)}
    for pairs in found:
        for reference in pairs.keys() - {*shared}:
            lacking = " and ".join(
                name for name, others in zip(pairings, found, strict=True) if reference not in others
            )
            one = pairs[reference]
            left_out[one.prediction] = Unpaired(one.name, one.prediction, f"{lacking} has no such case")
            left_out.pop(reference, None)
    return cases, sorted(left_out.values())


def labelmap_files(path: Path) -> list[Path]:
    """The file, or the labelmaps in the folder, which may be of a batch."""
    from SAMLungSegLib.batch.labelmaps import is_run, labelmaps_of

    if not path.is_dir():
        return [path]
    files = list(labelmaps_of(path).values()) if is_run(path) else image_files(path)
    if not files:
        raise VolumeError(f"Folder {path} holds no image; give a labelmap or a folder of labelmaps.")
    return files


def image_files(folder: Path) -> list[Path]:
    """Images of a folder, without hidden ones and the overlays that `segment` and `demo` draw."""
    from SAMLungSegLib.volume.folders import images_in

    return [path for path in images_in(folder) if not path.name.endswith("_overlay.png")]
