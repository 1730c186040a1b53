"""`samlungseg propagate`: objects that are prompted in one slice, through their volume."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SAMLungSegLib import __version__
from SAMLungSegLib.cli.choices import (
    add_cache_choice,
    add_image_choices,
    add_model_choices,
    given_path,
    model_choice_of,
)
from SAMLungSegLib.cli.results import check_targets
from SAMLungSegLib.cli.segment import parse_box, parse_point
from SAMLungSegLib.errors import PromptError
from SAMLungSegLib.files import (
    check_writable,
    check_written,
    writable_folder,
    write_csv,
    write_text,
)
from SAMLungSegLib.results import check_format, default_format

if TYPE_CHECKING:  # the command line starts at once: what is heavy is imported where it is used
    import numpy as np
    import pandas as pd

    from SAMLungSegLib.models.base import PromptableModel
    from SAMLungSegLib.pipeline import Options
    from SAMLungSegLib.prompts.volume import VolumePrompts
    from SAMLungSegLib.structures import LabelSet
    from SAMLungSegLib.volume import Volume

FORMATS = ("seg.nrrd", "nrrd", "nii.gz", "png")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "propagate",
        help="carry objects that are shown in one slice through their volume",
        description="Writes <name>_objects.seg.nrrd (.png for pictures), a segment for each object on the input's own "
        "grid, <name>_objects.csv, how large each is and in which slices, and <name>_objects.json, how it was made. "
        "The box round the mask of a slice prompts the next one, both ways, until the mask ends.",
    )
    parser.add_argument("input", type=given_path, metavar="INPUT", help="image file or DICOM folder")
    parser.add_argument("-o", "--output", type=given_path, required=True, metavar="DIR", help="folder to write into")
    parser.add_argument(
        "--object",
        action="append",
        required=True,
        metavar="'NAME PROMPT ...'",
        help="with its prompts in one slice: points I,J[,K],+|- or a box I0,J0[,K0],I1,J1[,K1], in voxels, such as "
        "'left kidney 210,180,42,+ 220,190,42,-'; may be repeated",
    )
    parser.add_argument("--format", choices=FORMATS, help="default: png for PNG, JPEG and TIFF input, else seg.nrrd")
    parser.add_argument(
        "--series", metavar="UID", help="DICOM series, where a folder holds several; its beginning suffices"
    )
    add_image_choices(parser)
    add_model_choices(parser)
    add_cache_choice(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist already")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from SAMLungSegLib.pipeline import Options
    from SAMLungSegLib.structures import named_structures
    from SAMLungSegLib.volume import read_volume, write_labelmap

    objects = [parse_object(text) for text in arguments.object]
    names = named_structures([name for name, _ in objects])
    options = Options(modality=None if arguments.modality == "auto" else arguments.modality, window=arguments.window)
    check_writable(arguments.output)
    labelmap, table, record = targets = _targets(arguments)
    volume = read_volume(arguments.input, series=arguments.series)
    check_format(volume, arguments.format or default_format(arguments.input))
    model = model_choice_of(arguments).load(arguments.device)
    found = _found(volume, model, [prompts for _, prompts in objects], options)
    sizes = sizes_of(found, volume, names)
    writable_folder(arguments.output)
    write_labelmap(found, volume, labelmap, label_set=names)
    write_csv(sizes, table)
    write_text(json.dumps(_record(arguments, model, names), indent=2) + "\n", record)
    check_written(targets)
    for path in targets:
        print(path)
    for row in sizes.itertuples():
        where = f"slices {row.first_slice} to {row.last_slice}" if row.slices > 1 else f"slice {row.first_slice}"
        size = f"{row.volume_ml:.1f} ml" if row.volume_ml == row.volume_ml else f"{row.voxels} voxels"
        print(f"{row.object}: {f'{size}, {where}' if row.voxels else 'nothing was found'}")
    return 0


def parse_object(text: str) -> tuple[str, VolumePrompts]:
    """'NAME PROMPT ...' to the name and its prompts.

    Raises:
        PromptError: the text is not of that form.
    """
    from SAMLungSegLib.prompts.volume import VolumePrompts

    words = text.split()
    name = " ".join(word for word in words if "," not in word)
    given = [word for word in words if "," in word]
    points = tuple(parse_point(word) for word in given if word[-1] in "+-")
    boxes = tuple(parse_box(word) for word in given if word[-1] not in "+-")
    if not name or not given:
        raise PromptError(
            f"Object '{text}' is not a name and its prompts; give, for example, 'liver 120,80,42,+' or "
            "'liver 60,40,42,200,160,42'."
        )
    return name, VolumePrompts(points, boxes)


def sizes_of(labelmap_kji: np.ndarray, volume: Volume, names: LabelSet) -> pd.DataFrame:
    """A row for each object: label, object, voxels, volume_ml (NaN where distances are not known) and slices."""
    import numpy as np
    import pandas as pd

    from SAMLungSegLib.volume import axial_plane

    shown = axial_plane(volume).to_display(labelmap_kji)
    rows = []
    for label, one in names:
        held = np.flatnonzero((shown == label).any((1, 2)))
        voxels = int((labelmap_kji == label).sum())
        ml = voxels * volume.voxel_ml if volume.has_physical_spacing and 1 not in volume.size_kji else float("nan")
        first, last = (int(held[0]), int(held[-1])) if held.size else (-1, -1)
        rows.append((label, one.name, voxels, ml, len(held), first, last))
    columns = ["label", "object", "voxels", "volume_ml", "slices", "first_slice", "last_slice"]
    return pd.DataFrame(rows, columns=columns)


def _record(arguments: argparse.Namespace, model: PromptableModel, names: LabelSet) -> dict[str, Any]:
    """How it was made."""
    from SAMLungSegLib.models.choice import origin_of

    origin = origin_of(model)
    return {
        "version": __version__,
        "image": str(arguments.input.absolute()),
        "series": arguments.series,
        "modality": arguments.modality,
        "window": str(arguments.window),
        "objects": [{"label": label, "key": one.key, "given": arguments.object[label - 1]} for label, one in names],
        "model": arguments.model,
        "weights": str(arguments.weights.absolute()) if arguments.weights else None,
        "weights_sha256": dict(origin.weights_sha256) if origin else None,
        "input_size": arguments.input_size,
        "device": str(model.device),
    }


def _targets(arguments: argparse.Namespace) -> tuple[Path, Path, Path]:
    """Labelmap, table and record.

    Raises:
        OutputError: see `check_targets`.
    """
    from SAMLungSegLib.volume import image_name

    stem = f"{image_name(arguments.input)}_objects"
    extension = arguments.format or default_format(arguments.input)
    targets = tuple(arguments.output / f"{stem}.{ending}" for ending in (extension, "csv", "json"))
    check_targets(targets, arguments.input, overwrite=arguments.overwrite)
    return targets


def _found(volume: Volume, model: PromptableModel, prompts: Sequence[VolumePrompts], options: Options) -> np.ndarray:
    from tqdm import tqdm

    from SAMLungSegLib.pipeline.propagation import propagate_objects

    with tqdm(desc=volume.name, unit="slice", disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.n = done
            bar.refresh()

        return propagate_objects(model, volume, prompts, options, progress=show)
