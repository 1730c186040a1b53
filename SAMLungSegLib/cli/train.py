"""`samlungseg train`: pack the images, train lung-compact by a recipe, export it."""

from __future__ import annotations

import argparse
from pathlib import Path

from SAMLungSegLib.cli.choices import given_path
from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.files import writable_folder


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "train",
        help="train lung-compact from folders of images and masks",
        description="Packs DATA once, trains by the recipe CONFIG (continuing a run that stopped), scores the held-out "
        "images and exports the weights with their card.",
    )
    parser.add_argument(
        "config",
        metavar="CONFIG",
        help="a .toml file, or one of the recipes lung-compact, without-montgomery, without-shenzhen, smoke",
    )
    parser.add_argument(
        "data", type=given_path, metavar="DATA", help="folder with cxr_montgomery, cxr_shenzhen, ct_kmader, ..."
    )
    parser.add_argument(
        "-o", "--output", type=given_path, default=Path("training-output"), metavar="DIR", help="folder to write into"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda; on cuda in mixed precision")
    parser.set_defaults(run=run, is_about_many=True)


def run(arguments: argparse.Namespace) -> int:
    import logging

    from SAMLungSegLib.models.compact.model import CompactModel
    from SAMLungSegLib.models.loading import chosen_device
    from SAMLungSegLib.training import data_facts, export_network, pack, read_config, score, train, trained_network

    logging.getLogger("SAMLungSegLib").setLevel(logging.INFO)
    config = read_config(arguments.config)
    if not arguments.data.is_dir():
        raise VolumeError(f"{arguments.data} is no folder; give one with folders such as cxr_montgomery or ct_kmader.")
    device = chosen_device(arguments.device)
    packed = writable_folder(arguments.output) / "pack.npz"
    if not packed.is_file():
        pack(arguments.data, packed, phantoms=config.phantoms)
    train(packed, arguments.output, config, device)
    net = trained_network(arguments.output)
    model = CompactModel(net)
    scores = [row for split in ("validation", "test") for row in score(model, arguments.data, split)]
    print(export_network(net, arguments.output, config, {"scores": scores, "data": data_facts(packed, config)}))
    return 0
