"""`samlungseg automatic`: masks of everything in a slice, predicted from a grid of points."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from SAMLungSegLib.cli.choices import (
    add_cache_choice,
    add_image_choices,
    add_model_choices,
    given_path,
    model_choice_of,
)
from SAMLungSegLib.cli.results import check_targets
from SAMLungSegLib.files import check_writable, check_written, writable_folder
from SAMLungSegLib.results import default_format

if TYPE_CHECKING:  # the command line starts at once: what is heavy is imported where it is used
    from SAMLungSegLib.automatic import AutomaticSettings, VolumeMasks
    from SAMLungSegLib.models.base import PromptableModel
    from SAMLungSegLib.pipeline import Options
    from SAMLungSegLib.volume import Volume

ALL = "all"
_SETTINGS = {  # the last are the defaults of SAM and of lung-compact
    "points_per_side": (int, "N", "of the grid of points", 32, 8),
    "iou": (float, "0..1", "keep masks with a predicted intersection over union above this", 0.88, 0.5),
    "stability": (float, "0..1", "least overlap of the mask cut a little higher and a little lower", 0.95, 0.8),
    "nms": (float, "0..1", "drop one of two masks whose boxes overlap more than this", 0.7, 0.7),
    "crop_layers": (int, "N", "predict again on 2^n x 2^n crops of the slice, for n up to this", 0, 0),
    "min_area_px": (int, "PIXELS", "fill holes and drop parts smaller than this", 100, 100),
    "max_share": (float, "0..1", "drop masks that cover this share of the slice or more", 0.95, 0.95),
}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "automatic",
        help="write masks of everything in a slice",
        description="Writes <name>_masks.nrrd (.png for pictures), a labelmap of numbered masks on the input's own "
        "grid, <name>_masks.csv, what is known of each, and <name>_masks_overlay.png.",
    )
    parser.add_argument("input", type=given_path, metavar="INPUT", help="image file or DICOM folder")
    parser.add_argument("-o", "--output", type=given_path, required=True, metavar="DIR", help="folder to write into")
    parser.add_argument(
        "--series", metavar="UID", help="DICOM series, where a folder holds several; its beginning suffices"
    )
    parser.add_argument(
        "--slice",
        type=_slice,
        metavar="K",
        help="slice from 0 at the inferior end, or 'all'; default: the middle one",
    )
    add_image_choices(parser)
    for name, (kind, metavar, text, of_sam, of_compact) in _SETTINGS.items():
        flag = f"--{name.removesuffix('_px').replace('_', '-')}"
        usual = f"{of_sam}" if of_sam == of_compact else f"{of_sam} for SAM, {of_compact} for lung-compact"
        parser.add_argument(flag, dest=name, type=kind, metavar=metavar, help=f"{text}; default: {usual}")
    add_model_choices(parser)
    add_cache_choice(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist already")
    parser.set_defaults(run=run)


def _slice(text: str) -> int | str:
    if text == ALL:
        return ALL
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no slice; give a whole number from 0 on, or 'all'") from None


def run(arguments: argparse.Namespace) -> int:
    from SAMLungSegLib.pipeline import Options
    from SAMLungSegLib.volume import read_volume

    options = Options(modality=None if arguments.modality == "auto" else arguments.modality, window=arguments.window)
    settings = _settings_of(arguments)
    check_writable(arguments.output)
    labelmap, table, overlay = targets = _targets(arguments)
    volume = read_volume(arguments.input, series=arguments.series)
    found = _found(volume, model_choice_of(arguments).load(arguments.device), settings, options, arguments.slice)
    _write(found, labelmap, table, overlay)
    check_written(targets)
    for path in targets:
        print(path)
    count = len(found.table)
    print(f"{volume.name}: {count or 'no'} {'mask' if count == 1 else 'masks'} in {_slices_title(found)}")
    return 0


def _settings_of(arguments: argparse.Namespace) -> AutomaticSettings:
    """The model's own, but for those that were given."""
    from SAMLungSegLib.automatic import default_settings

    given = {name: value for name in _SETTINGS if (value := getattr(arguments, name)) is not None}
    return replace(default_settings(arguments.model), **given)


def _targets(arguments: argparse.Namespace) -> tuple[Path, Path, Path]:
    """Labelmap, table and picture.

    Raises:
        OutputError: see `check_targets`.
    """
    from SAMLungSegLib.volume import image_name

    extension = "png" if default_format(arguments.input) == "png" else "nrrd"
    stem = f"{image_name(arguments.input)}_masks"
    targets = tuple(arguments.output / f"{stem}{ending}" for ending in (f".{extension}", ".csv", "_overlay.png"))
    check_targets(targets, arguments.input, overwrite=arguments.overwrite)
    return targets


def _found(
    volume: Volume, model: PromptableModel, settings: AutomaticSettings, options: Options, chosen: int | str | None
) -> VolumeMasks:
    from tqdm import tqdm

    from SAMLungSegLib.automatic import volume_masks
    from SAMLungSegLib.volume import axial_plane

    slices = None if chosen is None else [chosen]
    if chosen == ALL:
        slices = range(axial_plane(volume).size_nhw[0])
    with tqdm(desc=volume.name, unit="point", disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return volume_masks(volume, model, settings, options, slices=slices, progress=show)


def _write(found: VolumeMasks, labelmap: Path, table: Path, overlay: Path) -> None:
    import numpy as np

    from SAMLungSegLib.automatic import mask_sheet
    from SAMLungSegLib.files import write_csv
    from SAMLungSegLib.volume import write_labelmap

    writable_folder(labelmap.parent)
    write_labelmap(found.labelmap_kji, found.volume, labelmap, dtype=np.uint16)
    write_csv(found.table, table)
    mask_sheet(found, overlay)


def _slices_title(found: VolumeMasks) -> str:
    if len(found.slices) == 1:
        return "the slice" if found.plane.size_nhw[0] == 1 else f"slice {found.slices[0]}"
    return f"{len(found.slices)} slices"
