"""`samlungseg evaluate`: labelmaps against references, as tables, plots and overlays."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from SAMLungSegLib.cli.choices import given_path
from SAMLungSegLib.cli.messages import once_with_count, say_failure
from SAMLungSegLib.errors import SettingsError, VolumeError
from SAMLungSegLib.files import check_writable, writable_folder
from SAMLungSegLib.structures import LABEL_SETS, label_set

if TYPE_CHECKING:  # as in the other subcommands: nothing heavy before it is needed
    from SAMLungSegLib.evaluation import Evaluation, Pair, Pairing, Unpaired


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="Dice, Jaccard and surface distances against references",
        description="Compares labelmaps (1 = right, 2 = left lung) with references, per slice and per volume. "
        "PREDICTION and REFERENCE are two files, or two folders whose files are paired by name; PREDICTION may be the "
        "output folder of 'samlungseg batch'. Files without a partner are named and left out.",
    )
    parser.add_argument(
        "prediction",
        type=given_path,
        metavar="PREDICTION",
        help="labelmap, or folder of labelmaps or of a 'samlungseg batch'",
    )
    parser.add_argument("reference", type=given_path, metavar="REFERENCE", help="labelmap, or folder of labelmaps")
    parser.add_argument(
        "-o",
        "--output",
        type=given_path,
        metavar="DIR",
        help="also write CSV, Markdown and pictures here; default: print only",
    )
    parser.add_argument("--image", type=given_path, help="image or folder of images behind the worst slices; needs -o")
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
    parser.set_defaults(run=run, is_about_many=True)


def _labels(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a list of labels; give whole numbers with commas between them, such as 10,11"
        ) from error


def run(arguments: argparse.Namespace) -> int:
    from SAMLungSegLib.evaluation import Unpaired, check_tolerance

    check_tolerance(arguments.tolerance_mm)
    options = {
        "tolerance_mm": arguments.tolerance_mm,
        "reference_labels": _side_labels(arguments, "reference"),
        "prediction_labels": _side_labels(arguments, "prediction"),
        "label_set": label_set(arguments.structures),
    }
    pairing = _paired(arguments.prediction, arguments.reference)
    images = _images(arguments, pairing.pairs)
    if arguments.output is not None:
        check_writable(arguments.output)
    if pairing.unpaired:
        print(f"samlungseg: {pairing.unpaired_text()}. The others are measured.", file=sys.stderr)
    if pairing.clashing:
        print(f"samlungseg: {pairing.clashing_text()}.", file=sys.stderr)
    evaluations, failed = _evaluated(pairing.pairs, options)
    if evaluations:
        not_measured = [
            *pairing.unpaired,
            *pairing.clashing,
            *(Unpaired(one.name, one.prediction, text) for one, text in failed.items()),
        ]
        _show(evaluations, images, arguments.output, not_measured)
    return 2 if failed or pairing.clashing else 0


def _paired(prediction: Path, reference: Path) -> Pairing:
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
    return match_files(_files(prediction), _files(reference), by_name_only=are_folders)


def _evaluated(pairs: Sequence[Pair], options: dict[str, object]) -> tuple[list[Evaluation], dict[Pair, str]]:
    """Evaluations of all pairs that can be evaluated; the reason, also said on one line, of each other one."""
    from tqdm import tqdm

    from SAMLungSegLib.evaluation import evaluate
    from SAMLungSegLib.volume import read_volume

    evaluations, failed = [], {}
    for pair in tqdm(pairs, desc="evaluating", unit="pair", disable=None):
        try:
            volumes = read_volume(pair.prediction), read_volume(pair.reference)
            evaluations.append(evaluate(*volumes, **options, name=pair.name))
        except Exception as error:  # whatever is wrong with one pair must not cost those after it
            failed[pair] = str(error)
            say_failure(error, pair.prediction)
    return evaluations, failed


def _show(
    evaluations: list[Evaluation], images: dict[str, Path], folder: Path | None, not_measured: Sequence[Unpaired]
) -> None:
    """Print the scores, and write the report where a folder is given."""
    from SAMLungSegLib.evaluation import with_images, write_report

    if images:
        evaluations = with_images(evaluations, images)
    print_summary(evaluations)
    if folder is not None:
        for path in write_report(evaluations, writable_folder(folder), not_measured=not_measured):
            print(path)


def print_summary(evaluations: list[Evaluation]) -> None:
    """Print the scores of one pair, or their summary over slices and over whole volumes; then the notes."""
    from SAMLungSegLib.evaluation import table_markdown

    for heading, table in _one_pair(*evaluations) if len(evaluations) == 1 else _many_pairs(evaluations):
        print(f"{heading}\n\n{table_markdown(table)}")
    for line in once_with_count((one.name, note) for one in evaluations for note in one.notes):
        print(line)


def _one_pair(one: Evaluation) -> list[tuple[str, object]]:
    from SAMLungSegLib.evaluation import readable_metrics, readable_slice_means, summarise

    tables = [(f"{one.name}, whole volume", readable_metrics(one.per_volume))]
    if one.per_slice["slice"].nunique() > 1:
        tables.append((f"{one.name}, mean ± SD over slices", readable_slice_means(summarise([one]))))
    return tables


def _many_pairs(evaluations: list[Evaluation]) -> list[tuple[str, object]]:
    from SAMLungSegLib.evaluation import readable_summary, summarise

    summary = summarise(evaluations)
    return [(scope.capitalize(), readable_summary(summary, scope)) for scope in ("slices", "whole volumes")]


def _files(path: Path) -> list[Path]:
    """The file, or the labelmaps in the folder, which may be of a batch."""
    from SAMLungSegLib.batch.labelmaps import is_run, labelmaps_of

    if not path.is_dir():
        return [path]
    files = list(labelmaps_of(path).values()) if is_run(path) else _image_files(path)
    if not files:
        raise VolumeError(f"Folder {path} holds no image; give a labelmap or a folder of labelmaps.")
    return files


def _image_files(folder: Path) -> list[Path]:
    """Image files of a folder, without hidden ones and the overlays that `segment` and `demo` draw."""
    from SAMLungSegLib.volume import is_image_path

    return sorted(
        child
        for child in folder.iterdir()
        if child.is_file() and is_image_path(child) and not child.name.startswith(".")
        if not child.name.endswith("_overlay.png")
    )


def _side_labels(arguments: argparse.Namespace, role: str) -> dict[str, tuple[int, ...]] | None:
    from SAMLungSegLib.evaluation import check_labels

    labels = {side: getattr(arguments, f"{role}_{side}") for side in ("right", "left")}
    if all(values is None for values in labels.values()):
        return None
    if None in labels.values():
        raise SettingsError(f"Give both --{role}-right and --{role}-left, or neither.")
    check_labels(labels)
    return labels


def _images(arguments: argparse.Namespace, pairs: Sequence[Pair]) -> dict[str, Path]:
    """Images by the name of the pair they belong to."""
    from SAMLungSegLib.evaluation import case_name

    path = arguments.image
    if path is None:
        return {}
    if arguments.output is None:
        raise SettingsError("--image is for the pictures of a report; say where to write it with -o.")
    if not path.exists():
        raise VolumeError(f"{path} does not exist; give the image, or the folder of images, to draw the slices on.")
    files = _image_files(path) if path.is_dir() else [path]
    # Of 'case.nrrd' and 'case_mask.nrrd' the shortest name is the image's.
    by_case = {case_name(file): file for file in sorted(files, key=lambda file: len(file.name), reverse=True)}
    cases = {pair.name: case_name(pair.reference) for pair in pairs}
    found = {name: by_case[case] for name, case in cases.items() if case in by_case}
    if len(pairs) == 1:
        return found or dict.fromkeys(cases, path)  # any file, or a DICOM folder
    if not found:
        raise VolumeError(f"{path} holds no image named as a pair, such as '{next(iter(cases.values()))}'.")
    return found
