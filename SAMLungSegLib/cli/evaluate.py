"""`samlungseg evaluate`: labelmaps against references, as tables, plots and overlays."""

from __future__ import annotations

import argparse
from pathlib import Path

from SAMLungSegLib.errors import PromptError, VolumeError


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="Dice, Jaccard and surface distances against references",
        description="Compares labelmaps (1 = right, 2 = left lung) with references, per slice and per volume. "
        "PREDICTION and REFERENCE are two files, or two folders whose files are paired by name.",
    )
    parser.add_argument("prediction", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="also write CSV, Markdown and pictures")
    parser.add_argument("--image", type=Path, help="image, or folder of images, to draw the worst slices on")
    parser.add_argument("--reference-right", type=_labels, metavar="L[,L]", help="reference labels of the right lung")
    parser.add_argument("--reference-left", type=_labels, metavar="L[,L]", help="reference labels of the left lung")
    parser.add_argument("--tolerance-mm", type=float, default=2.0, help="tolerance of the surface Dice")
    parser.set_defaults(run=run)


def _labels(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def run(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from SAMLungSegLib.evaluation import evaluate, pair_files, write_report
    from SAMLungSegLib.volume import read_volume

    if arguments.tolerance_mm <= 0:
        raise PromptError(f"Tolerance {arguments.tolerance_mm:g} mm is not positive; 2 mm is usual.")
    pairs = pair_files(_files(arguments.prediction), _files(arguments.reference))
    evaluations = [
        evaluate(
            read_volume(prediction),
            read_volume(reference),
            tolerance_mm=arguments.tolerance_mm,
            reference_labels=_reference_labels(arguments),
        )
        for prediction, reference in tqdm(pairs, desc="evaluating", unit="pair", disable=None)
    ]
    print_summary(evaluations)
    if arguments.output is not None:
        images = _images(arguments.image, evaluations) if arguments.image else None
        for path in write_report(evaluations, arguments.output, images):
            print(path)
    return 0


def print_summary(evaluations: list) -> None:
    """Print the summary over slices and over whole volumes, and what was left out."""
    from SAMLungSegLib.evaluation import readable_summary, summarise, table_markdown

    summary = summarise(evaluations)
    for scope in ("slices", "whole volumes"):
        print(f"\n{scope.capitalize()}\n")
        print(table_markdown(readable_summary(summary, scope)))
    for one in evaluations:
        for note in one.notes:
            print(f"{one.name}: {note}")


def _files(path: Path) -> list[Path]:
    from SAMLungSegLib.volume import is_image_path

    if not path.is_dir():
        return [path]
    files = sorted(child for child in path.iterdir() if child.is_file() and is_image_path(child))
    if not files:
        raise VolumeError(f"Folder {path} holds no image; give a labelmap or a folder of labelmaps.")
    return files


def _reference_labels(arguments: argparse.Namespace) -> dict[str, tuple[int, ...]] | None:
    if arguments.reference_right is None and arguments.reference_left is None:
        return None
    if arguments.reference_right is None or arguments.reference_left is None:
        raise PromptError("Give both --reference-right and --reference-left, or neither.")
    return {"right": arguments.reference_right, "left": arguments.reference_left}


def _images(path: Path, evaluations: list) -> dict[str, Path]:
    """Images by the case they belong to."""
    from SAMLungSegLib.evaluation import case_name

    names = [one.name for one in evaluations]
    if len(names) == 1:
        return {names[0]: path}
    by_case = {case_name(file): file for file in _files(path)}
    return {name: by_case[case_name(name)] for name in names if case_name(name) in by_case}
