"""`samlungseg segment`: images in, labelmaps out."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from SAMLungSegLib.cli.choices import (
    add_cache_choice,
    add_image_choices,
    add_lung_choices,
    add_model_choices,
    given_path,
    model_choice_of,
    options_of,
)
from SAMLungSegLib.cli.messages import say_failure
from SAMLungSegLib.cli.numbers import StatisticsTable
from SAMLungSegLib.cli.results import describe, draw_overlay, overlay_path, segment_with_bar
from SAMLungSegLib.errors import OutputError, PromptError, SAMLungSegError, SettingsError, VolumeError
from SAMLungSegLib.files import check_name_fits, check_writable, check_written, real_path, writable_folder
from SAMLungSegLib.results import FORMATS, check_format, default_format, result_path

if TYPE_CHECKING:
    from SAMLungSegLib.models.choice import ModelChoice
    from SAMLungSegLib.pipeline import Options, VolumeBox, VolumePoint
    from SAMLungSegLib.provenance import Provenance

logger = logging.getLogger(__name__)

# What a provenance record decides, and what these are where they are not given.
_OF_A_RECORD = {
    "modality": "auto",
    "window": "lung",
    "lungs": "both",
    "extent": "visible",
    "point": [],
    "box": [],
    "threshold": 0.5,
    "every": 1,
    "model": "lung-compact",
    "input_size": None,
    "no_cache": False,
}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "segment",
        help="write right and left lung of CT volumes and chest X-rays",
        description="For each INPUT writes <name>_lungs.<format> on the input's own grid: 1 = right, 2 = left lung, "
        "and <name>_lungs.json, which says how it was made and how large and dense the lungs are.",
    )
    parser.add_argument("inputs", nargs="*", type=given_path, metavar="INPUT", help="image file or DICOM folder")
    parser.add_argument(
        "--replay",
        type=given_path,
        metavar="FILE",
        help="make a result again from its .seg.nrrd or .json; INPUT and --weights where these have moved",
    )
    parser.add_argument("-o", "--output", type=given_path, required=True, metavar="DIR", help="folder to write into")
    parser.add_argument("--format", choices=FORMATS, help="default: png for PNG, JPEG and TIFF input, else seg.nrrd")
    parser.add_argument(
        "--series", metavar="UID", help="DICOM series, where a folder holds several; its beginning suffices"
    )
    add_image_choices(parser)
    parser.add_argument(
        "--point",
        action="append",
        default=[],
        metavar="I,J[,K],+|-",
        help="click at a voxel, + for lung and - for not lung; may be repeated",
    )
    parser.add_argument(
        "--box",
        action="append",
        default=[],
        metavar="I0,J0[,K0],I1,J1[,K1]",
        help="box between two voxels; may be repeated, one per lung",
    )
    add_lung_choices(parser)
    add_model_choices(parser)
    add_cache_choice(parser)
    parser.add_argument("--overlay", action="store_true", help="also write a picture <name>_lungs_overlay.png")
    parser.add_argument(
        "--statistics",
        type=given_path,
        metavar="FILE.csv",
        help="also write the numbers of all images as one table: volumes, densities, shares, mass, height, thirds",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist already")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.replay is not None:
        return _replay(arguments)
    if not arguments.inputs:
        raise VolumeError("No INPUT was given; give an image file or a DICOM folder, or --replay FILE.")
    points = [parse_point(text) for text in arguments.point]
    options = options_of(arguments, points, [parse_box(text) for text in arguments.box])
    if len(arguments.inputs) > 1 and (options.points or options.boxes):
        raise PromptError("Points and boxes are voxels of one image; give one INPUT with them.")
    choice = model_choice_of(arguments)
    check_writable(arguments.output)
    table = StatisticsTable.of(arguments)
    failures, written = 0, []
    for path, targets in _targets(arguments).items():
        try:
            written += _segment_one(path, targets, options, choice, arguments, table)
        except BrokenPipeError:
            raise
        except Exception as error:  # whatever is wrong with one image must not cost those after it
            failures += 1
            say_failure(error, path)
    check_written([*written, *table.files])
    return 2 if failures else 0


def _replay(arguments: argparse.Namespace) -> int:
    """Make a result again, of the same image with the same weights."""
    from SAMLungSegLib.provenance import read_provenance

    record = read_provenance(arguments.replay)
    given = [name for name, usual in _OF_A_RECORD.items() if getattr(arguments, name) != usual]
    given = [name for name in given if name not in arguments.from_file]
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise SettingsError(f"{arguments.replay} says itself how it was made; leave out {options}.")
    if len(arguments.inputs) > 1:
        raise SettingsError(
            f"--replay makes one result again, and {len(arguments.inputs)} INPUTs were given; give one."
        )
    choice = replace(record.model, weights=arguments.weights or record.model.weights)
    record.check_model(choice)
    if not arguments.inputs and not record.image:
        raise VolumeError(f"{arguments.replay} does not say of which image it was made; give the image as INPUT.")
    arguments.inputs = arguments.inputs or [Path(record.image)]
    arguments.series = arguments.series or record.series
    ((path, targets),) = _targets(arguments).items()
    check_writable(arguments.output)
    table = StatisticsTable.of(arguments)
    written = _segment_one(path, targets, record.options, choice, arguments, table, record)
    check_written([*written, *table.files])
    return 0


def _segment_one(
    path: Path,
    targets: Sequence[Path] | Exception,
    options: Options,
    choice: ModelChoice,
    arguments: argparse.Namespace,
    table: StatisticsTable,
    made_by: Provenance | None = None,
) -> Sequence[Path]:
    """Write the results of one image; their paths. What `_targets` has against them is raised."""
    from SAMLungSegLib.provenance import save
    from SAMLungSegLib.volume import read_volume

    if isinstance(targets, Exception):
        raise targets
    target, series = targets[0], arguments.series
    volume = read_volume(path, series=series)
    if made_by is not None:
        made_by.check_image(volume)
    check_format(volume, arguments.format or default_format(path))
    model = choice.load(arguments.device)
    if made_by is not None:
        then, now = (made_by.engine, made_by.device), (model.engine, model.device.type)
        if then != now:
            logger.warning("Made by %s on %s, replayed by %s on %s: single voxels may differ.", *then, *now)
    segmentation = replace(segment_with_bar(volume, model, options), image=path, series=series)
    writable_folder(target.parent)
    save(segmentation.labelmap_kji, volume, target, segmentation.provenance(), segmentation.statistics())
    table.add(path, segmentation)
    print(f"{target}  {describe(segmentation)}")
    if arguments.overlay:
        print(draw_overlay(segmentation, target.parent))
    return targets


def _targets(arguments: argparse.Namespace) -> dict[Path, Sequence[Path] | Exception]:
    """Paths of the results by input path, the labelmap first; or what is wrong with them."""
    from SAMLungSegLib.volume.formats import pair_header

    targets: dict[Path, Sequence[Path] | Exception] = {}
    owners: dict[Path, list[Path]] = {}
    for path in dict.fromkeys(map(pair_header, arguments.inputs)):
        try:
            targets[path] = _results_of(path, arguments)
        except (SAMLungSegError, OSError, ValueError) as error:
            targets[path] = error
            continue
        for file in targets[path]:
            owners.setdefault(file, []).append(path)
    inputs = {real_path(path) for path in arguments.inputs}
    for file, (first, *others) in owners.items():
        for path in (first, *others) if others else ():
            targets[path] = OutputError(
                f"{first} and {' and '.join(map(str, others))} would both be written to {file}; use two folders."
            )
        if real_path(file) in inputs:
            targets[first] = OutputError(f"The result of {first} would replace the input {file}; use another folder.")
    return targets


def _results_of(path: Path, arguments: argparse.Namespace) -> Sequence[Path]:
    """Labelmap, provenance record and picture of an image.

    Raises:
        OutputError: one is there already, or has a name that no file can have.
    """
    from SAMLungSegLib.provenance import provenance_path
    from SAMLungSegLib.volume import image_name

    target = result_path(path, arguments.output, arguments.format)
    overlay = [overlay_path(arguments.output, image_name(path))] if arguments.overlay else []
    files = (target, provenance_path(target), *overlay)
    for file in files:
        check_name_fits(file)
        if file.exists() and not arguments.overwrite:
            raise OutputError(f"{file} exists already; add --overwrite to replace it, or use another folder.")
    return files


def parse_point(text: str) -> VolumePoint:
    """'I,J,+' or 'I,J,K,-' to a `VolumePoint`.

    Raises:
        PromptError: the text is not of that form.
    """
    from SAMLungSegLib.pipeline import VolumePoint

    *numbers, sign = (part.strip() for part in text.split(","))
    if sign not in {"+", "-"} or len(numbers) not in {2, 3}:
        raise PromptError(f"Point '{text}' is not I,J,K,+ or I,J,K,- (an X-ray needs no K); for example 120,200,45,+.")
    return VolumePoint(_voxel(numbers, text), positive=sign == "+")


def parse_box(text: str) -> VolumeBox:
    """'I0,J0,I1,J1' or 'I0,J0,K0,I1,J1,K1' to a `VolumeBox`.

    Raises:
        PromptError: the text is not of that form.
    """
    from SAMLungSegLib.pipeline import VolumeBox

    numbers = text.split(",")
    if len(numbers) not in {4, 6}:
        raise PromptError(f"Box '{text}' is not I0,J0,I1,J1 (X-ray) or I0,J0,K0,I1,J1,K1 (volume).")
    half = len(numbers) // 2
    return VolumeBox(_voxel(numbers[:half], text), _voxel(numbers[half:], text))


def _voxel(numbers: Sequence[str], text: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in numbers)
    except ValueError as error:
        raise PromptError(f"'{text}' holds something that is not a number; give voxel indices.") from error
