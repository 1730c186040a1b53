"""`samlungseg evaluate`: labelmaps against references, as tables, plots and overlays."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from SAMLungSegLib.cli.choices import given_path
from SAMLungSegLib.cli.labelmaps import (
    add_label_options,
    add_patient_options,
    bootstrap_of,
    image_files,
    label_options,
    paired_labelmaps,
    patients_of,
)
from SAMLungSegLib.cli.messages import once_with_count, say_failure
from SAMLungSegLib.errors import SettingsError, VolumeError
from SAMLungSegLib.files import check_writable, writable_folder

if TYPE_CHECKING:  # as in the other subcommands: nothing heavy before it is needed
    from SAMLungSegLib.evaluation import Evaluation, Pair, Unpaired


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
    add_patient_options(parser)
    add_label_options(parser)
    parser.set_defaults(run=run, is_about_many=True)


def run(arguments: argparse.Namespace) -> int:
    from SAMLungSegLib.evaluation import Unpaired

    options = label_options(arguments)
    pairing = paired_labelmaps(arguments.prediction, arguments.reference)
    images = _images(arguments, pairing.pairs)
    intervals = {
        "patients": patients_of(arguments, [pair.name for pair in pairing.pairs]),
        "bootstrap": bootstrap_of(arguments),
    }
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
        _show(evaluations, images, intervals, arguments.output, not_measured)
    return 2 if failed or pairing.clashing else 0


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
    evaluations: list[Evaluation],
    images: dict[str, Path],
    intervals: dict[str, object],
    folder: Path | None,
    not_measured: Sequence[Unpaired],
) -> None:
    """Print the scores, and write the report where a folder is given."""
    from SAMLungSegLib.evaluation import with_images, write_report

    if images:
        evaluations = with_images(evaluations, images)
    print_summary(evaluations, intervals)
    if folder is not None:
        for path in write_report(evaluations, writable_folder(folder), not_measured=not_measured, **intervals):
            print(path)


def print_summary(evaluations: list[Evaluation], intervals: dict[str, object]) -> None:
    """Print the scores of one pair, or their summary over slices and over whole volumes; then the notes."""
    from SAMLungSegLib.evaluation import table_markdown

    tables = _one_pair(*evaluations) if len(evaluations) == 1 else _many_pairs(evaluations, intervals)
    for heading, table in tables:
        print(f"{heading}\n\n{table_markdown(table)}")
    for line in once_with_count((one.name, note) for one in evaluations for note in one.notes):
        print(line)


def _one_pair(one: Evaluation) -> list[tuple[str, object]]:
    from SAMLungSegLib.evaluation import readable_metrics, readable_slice_means, summarise

    tables = [(f"{one.name}, whole volume", readable_metrics(one.per_volume))]
    if one.per_slice["slice"].nunique() > 1:
        tables.append((f"{one.name}, mean ± SD over slices", readable_slice_means(summarise([one]))))
    return tables


def _many_pairs(evaluations: list[Evaluation], intervals: dict[str, object]) -> list[tuple[str, object]]:
    from SAMLungSegLib.evaluation import readable_summary, summarise

    summary = summarise(evaluations, **intervals)
    return [(scope.capitalize(), readable_summary(summary, scope)) for scope in ("slices", "whole volumes")]


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
    files = image_files(path) if path.is_dir() else [path]
    # Of 'case.nrrd' and 'case_mask.nrrd' the shortest name is the image's.
    by_case = {case_name(file): file for file in sorted(files, key=lambda file: len(file.name), reverse=True)}
    cases = {pair.name: case_name(pair.reference) for pair in pairs}
    found = {name: by_case[case] for name, case in cases.items() if case in by_case}
    if len(pairs) == 1:
        return found or dict.fromkeys(cases, path)  # any file, or a DICOM folder
    if not found:
        raise VolumeError(f"{path} holds no image named as a pair, such as '{next(iter(cases.values()))}'.")
    return found
