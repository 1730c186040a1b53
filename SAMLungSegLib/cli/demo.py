"""`samlungseg demo`: the whole job on a generated chest, or on an image of the user's."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from SAMLungSegLib.cli.choices import given_path
from SAMLungSegLib.cli.results import describe, draw_overlay, segment_with_bar
from SAMLungSegLib.files import check_writable, check_written, writable_folder
from SAMLungSegLib.results import default_format

if TYPE_CHECKING:  # as in the other subcommands: nothing heavy before it is needed
    from SAMLungSegLib.evaluation import Evaluation
    from SAMLungSegLib.pipeline import Segmentation
    from SAMLungSegLib.volume import Volume


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="segment a generated chest phantom, or your own image, and show the result",
        description="Without --input: generates a chest phantom (CT and its X-ray projection), segments both and "
        "measures against the phantom's own labels. With --input: segments that image.",
    )
    parser.add_argument(
        "--input", type=given_path, metavar="IMAGE", help="an image file or DICOM folder; default: the phantom"
    )
    parser.add_argument(
        "--series", metavar="UID", help="DICOM series, where the input folder holds several; its beginning suffices"
    )
    parser.add_argument(
        "-o", "--output", type=given_path, default=Path("demo-output"), metavar="DIR", help="folder to write into"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    check_writable(arguments.output)
    if arguments.input is not None:
        _show_own_image(arguments.input, arguments.series, arguments.output)
    else:
        _show_phantom(writable_folder(arguments.output))
    return 0


def _show_own_image(path: Path, series: str | None, folder: Path) -> None:
    from SAMLungSegLib.volume import read_volume

    volume = read_volume(path, series=series)
    _segment_and_draw(volume, writable_folder(folder), default_format(path), path, series)


def _show_phantom(folder: Path) -> None:
    import numpy as np

    from SAMLungSegLib.evaluation import evaluate, write_report
    from SAMLungSegLib.phantom import chest_ct, chest_xray
    from SAMLungSegLib.volume import Volume, write_labelmap

    print("A generated chest phantom, not a patient: geometric shapes that look like a CT and an X-ray of a chest.")
    phantom = chest_ct(seed=0)
    image, labelmap = chest_xray(phantom)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    cases = {
        "phantom_ct": (phantom.hu_kji, phantom.labelmap_kji, phantom.ijk_to_ras, "CT", "seg.nrrd"),
        "phantom_xray": (image[None], labelmap[None], lps, "XRAY", "png"),
    }
    evaluations, images = [], {}
    for name, (voxels, labels, ijk_to_ras, modality, extension) in cases.items():
        volume = Volume(voxels, ijk_to_ras, name, modality, has_physical_spacing=modality == "CT")
        write_labelmap(labels, volume, folder / f"{name}_truth.{extension}")
        segmentation = _segment_and_draw(volume, folder, extension)
        images[name] = volume
        truth, predicted = (replace(volume, array_kji=array) for array in (labels, segmentation.labelmap_kji))
        evaluations.append(evaluate(predicted, truth, name=name))
    _print_agreement(evaluations)
    print("\nReport:")
    for path in write_report(evaluations, folder / "report", images):
        print(f"  {path}")
    check_written(
        folder / f"{name}_{kind}"
        for name, (*_, extension) in cases.items()
        for kind in (f"truth.{extension}", f"lungs.{extension}", "lungs_overlay.png")
    )


def _print_agreement(evaluations: list[Evaluation]) -> None:
    """One row per case and lung, of the whole volume."""
    import pandas as pd

    from SAMLungSegLib.evaluation import table_markdown

    table = pd.concat([one.per_volume for one in evaluations])
    columns = {"volume": "Case", "structure": "Structure", "dice": "Dice", "jaccard": "Jaccard"}
    print("\nAgreement with the phantom's own labels\n")
    print(table_markdown(table[[*columns]].rename(columns=columns)))


def _segment_and_draw(
    volume: Volume, folder: Path, extension: str, image: Path | None = None, series: str | None = None
) -> Segmentation:
    """Segment with the bundled model, write labelmap and overlay, say where they are."""
    from SAMLungSegLib.models import load_model
    from SAMLungSegLib.pipeline import Options

    options = Options()
    segmentation = replace(segment_with_bar(volume, load_model(), options), image=image, series=series)
    target = segmentation.save(folder / f"{volume.name}_lungs.{extension}")
    overlay = draw_overlay(segmentation, folder)
    print(f"{volume.name}: {describe(segmentation)}\n  {target}\n  {overlay}")
    check_written([target, overlay])
    return segmentation
