"""`samlungseg cache`: embeddings kept on disk, so that a slice is encoded once."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from SAMLungSegLib.cli.choices import add_image_choices, add_model_choices, given_path
from SAMLungSegLib.errors import ModelError

if TYPE_CHECKING:  # the command line starts at once: what is heavy is imported where it is used
    from SAMLungSegLib.models.cached import CachedModel
    from SAMLungSegLib.models.embedding_cache import CacheSize


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("cache", help="embeddings kept on disk: fill, size, clear")
    actions = parser.add_subparsers(dest="action", required=True)
    fill = actions.add_parser("fill", help="encode the slices of images now, so that later commands need not")
    fill.add_argument("inputs", nargs="+", type=given_path, metavar="INPUT", help="image file or DICOM folder")
    fill.add_argument(
        "--series", metavar="UID", help="DICOM series, where a folder holds several; its beginning suffices"
    )
    add_image_choices(fill)
    add_model_choices(fill, "sam-vit-b")
    fill.set_defaults(run=fill_cache)
    actions.add_parser("size", help="how much is kept, and where").set_defaults(run=show_size)
    actions.add_parser("clear", help="delete all that is kept").set_defaults(run=clear_cache)


def fill_cache(arguments: argparse.Namespace) -> int:
    from SAMLungSegLib.models.cached import CachedModel
    from SAMLungSegLib.models.choice import ModelChoice

    choice = ModelChoice(arguments.model, arguments.weights, input_size=arguments.input_size)
    model = choice.load(arguments.device)
    if not isinstance(model, CachedModel):
        raise ModelError(f"Model {arguments.model} encodes as fast as a disk reads: nothing is kept for it.")
    for path in arguments.inputs:
        _fill(path, model, arguments)
    return show_size(arguments)


def _fill(path: Path, model: CachedModel, arguments: argparse.Namespace) -> None:
    from tqdm import tqdm

    from SAMLungSegLib.pipeline import Options, encode_volume_ahead
    from SAMLungSegLib.pipeline.prefetch import SliceQueue
    from SAMLungSegLib.volume import axial_plane, read_volume

    volume = read_volume(path, series=arguments.series)
    options = Options(modality=None if arguments.modality == "auto" else arguments.modality, window=arguments.window)
    count = axial_plane(volume).size_nhw[0]
    with tqdm(desc=volume.name, unit="slice", total=count, disable=None) as bar:
        queue = SliceQueue(count, visible=count // 2)
        encode_volume_ahead(volume, model, queue, options, progress=lambda left: bar.update())


def show_size(arguments: argparse.Namespace) -> int:
    from SAMLungSegLib.models.embedding_cache import EmbeddingCache

    cache = EmbeddingCache()
    print(f"{_readable(cache.size())} in {cache.folder}")
    return 0


def clear_cache(arguments: argparse.Namespace) -> int:
    from SAMLungSegLib.models.embedding_cache import EmbeddingCache

    cache = EmbeddingCache()
    print(f"{_readable(cache.clear())} deleted from {cache.folder}")
    return 0


def _readable(size: CacheSize) -> str:
    return f"{size.slices} slices, {size.size_bytes / 1e6:.0f} MB"
