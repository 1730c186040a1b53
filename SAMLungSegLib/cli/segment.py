"""`samlungseg segment`: images in, labelmaps out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from SAMLungSegLib.errors import PromptError, SAMLungSegError, VolumeError

if TYPE_CHECKING:  # torch takes seconds to import: only once the arguments are known to be good
    from SAMLungSegLib.models.base import PromptableModel
    from SAMLungSegLib.pipeline import Options, Segmentation, VolumeBox, VolumePoint
    from SAMLungSegLib.volume import Volume

FORMATS = ("seg.nrrd", "nrrd", "nii.gz", "png")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "segment",
        help="write right and left lung of CT volumes and chest X-rays",
        description="For each INPUT writes <name>_lungs.<format> on the input's own grid: 1 = right, 2 = left lung.",
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="image file or DICOM folder")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder to write into")
    parser.add_argument("--format", choices=FORMATS, help="default: png for PNG, JPEG and TIFF input, else seg.nrrd")
    parser.add_argument("--series", help="DICOM series UID, where a folder holds several")
    parser.add_argument("--modality", choices=("auto", "ct", "xray"), default="auto")
    parser.add_argument("--window", default="lung", help="CT window: a preset, or WIDTH/LEVEL such as 1500/-600")
    parser.add_argument("--lungs", choices=("both", "right", "left"), default="both")
    parser.add_argument(
        "--point",
        dest="points",
        action="append",
        default=[],
        metavar="I,J[,K],+|-",
        help="click at a voxel, + for lung and - for not lung; may be repeated",
    )
    parser.add_argument(
        "--box",
        dest="boxes",
        action="append",
        default=[],
        metavar="I0,J0[,K0],I1,J1[,K1]",
        help="box between two voxels; may be repeated, one per lung",
    )
    parser.add_argument("--threshold", type=float, default=0.5, help="probability above which a pixel is lung")
    parser.add_argument("--model", default="lung-compact", help="see 'samlungseg models list'")
    parser.add_argument("--weights", type=Path, help="checkpoint of your own for that model")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--overlay", action="store_true", help="also write a picture <name>_lungs_overlay.png")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from SAMLungSegLib.intensity import parse_window
    from SAMLungSegLib.models import load_model
    from SAMLungSegLib.pipeline import Options

    options = Options(
        modality=None if arguments.modality == "auto" else arguments.modality.upper(),
        window=parse_window(arguments.window),
        points=tuple(parse_point(text) for text in arguments.points),
        boxes=tuple(parse_box(text) for text in arguments.boxes),
        threshold=arguments.threshold,
        lungs=arguments.lungs,
    )
    targets = _targets(arguments)
    model = load_model(arguments.model, weights=arguments.weights, device=arguments.device)
    failures = 0
    for path, target in targets.items():
        try:
            _segment_one(path, target, model, options, arguments)
        except SAMLungSegError as error:
            failures += 1
            print(f"samlungseg: {error}", file=sys.stderr)
    return 2 if failures else 0


def _segment_one(
    path: Path, target: Path, model: PromptableModel, options: Options, arguments: argparse.Namespace
) -> None:
    from SAMLungSegLib.volume import read_volume

    volume = read_volume(path, series=arguments.series)
    segmentation = segment_with_bar(volume, model, options)
    target.parent.mkdir(parents=True, exist_ok=True)
    segmentation.save(target)
    print(f"{target}  {describe(segmentation)}")
    if arguments.overlay:
        print(draw_overlay(segmentation, target.parent))


def segment_with_bar(volume: Volume, model: PromptableModel, options: Options) -> Segmentation:
    """`segment_volume` with a progress bar that shows rate and remaining time."""
    from SAMLungSegLib.pipeline import segment_volume

    with tqdm(desc=volume.name, unit="slice", disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return segment_volume(volume, model, options, progress=show)


def draw_overlay(segmentation: Segmentation, folder: Path) -> Path:
    """Write `<name>_lungs_overlay.png`: slices with the outlines of both lungs."""
    from SAMLungSegLib.evaluation import overlay_sheet

    name = segmentation.volume.name
    height, width = segmentation.plane.spacing_hw_mm
    picture = folder / f"{name}_lungs_overlay.png"
    overlay_sheet(picture, segmentation.grey_nhw, segmentation.labelmap_nhw, title=name, aspect=height / width)
    return picture


def describe(segmentation: Segmentation) -> str:
    """Volumes in millilitres, or areas in pixels where the image has no physical size."""
    import numpy as np

    sizes = [int(np.sum(segmentation.labelmap_kji == label)) for label in (1, 2)]
    volume = segmentation.volume
    if volume.has_physical_spacing and min(volume.array_kji.shape) > 1:
        voxel_ml = float(np.prod(volume.spacing_mm)) / 1000
        return "right lung {:.0f} ml, left lung {:.0f} ml".format(*(size * voxel_ml for size in sizes))
    return "right lung {} pixels, left lung {} pixels".format(*sizes)


def _targets(arguments: argparse.Namespace) -> dict[Path, Path]:
    """Output path by input path, all different."""
    from SAMLungSegLib.volume import image_name

    targets: dict[Path, Path] = {}
    for path in arguments.inputs:
        extension = arguments.format or default_format(path)
        target = arguments.output / f"{image_name(path)}_lungs.{extension}"
        if target in targets.values():
            raise VolumeError(f"Two inputs would both be written to {target}; segment them into different folders.")
        targets[path] = target
    return targets


def default_format(path: Path) -> str:
    """PNG for flat pictures, otherwise Slicer's segmentation."""
    return "png" if path.suffix.lower() in {".png", ".jpg", ".jpeg", ".tif", ".tiff"} else "seg.nrrd"


def parse_point(text: str) -> VolumePoint:
    """'I,J,+' or 'I,J,K,-' to a `VolumePoint`.

    Raises:
        PromptError: the text is not of that form.
    """
    from SAMLungSegLib.pipeline import VolumePoint

    *numbers, sign = text.split(",")
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


def _voxel(numbers: Sequence[str], text: str) -> tuple[float, float, float]:
    try:
        values = [float(number) for number in numbers]
    except ValueError as error:
        raise PromptError(f"'{text}' holds something that is not a number; give voxel indices.") from error
    return tuple(values + [0.0] * (3 - len(values)))
