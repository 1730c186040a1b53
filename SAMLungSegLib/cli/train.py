"""`samlungseg train`: pack the images, train lung-compact, export it."""

from __future__ import annotations

import argparse
from pathlib import Path

from SAMLungSegLib.results import writable_folder


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "train",
        help="train lung-compact from folders of images and masks",
        description="Packs DATA once, trains (continuing a run that stopped) and exports the weights with their card.",
    )
    parser.add_argument("data", type=Path, help="folder with cxr_montgomery, cxr_shenzhen, ct_kmader, ...")
    parser.add_argument("-o", "--output", type=Path, default=Path("training-output"))
    parser.add_argument("--epochs", type=int, default=48)
    parser.add_argument("--epoch-images", type=int, default=600)
    parser.add_argument("--phantoms", type=int, default=60, help="generated chests to add")
    parser.add_argument("--threads", type=int, default=2, help="of the processor; the GPU is not used")
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    import logging

    from SAMLungSegLib.models.compact import CompactModel
    from SAMLungSegLib.training import TrainingConfig, data_facts, export, pack, score, train, trained_network

    logging.getLogger("SAMLungSegLib").setLevel(logging.INFO)
    packed = writable_folder(arguments.output) / "pack.npz"
    if not packed.is_file():
        pack(arguments.data, packed, phantoms=arguments.phantoms)
    config = TrainingConfig(
        epochs=arguments.epochs,
        epoch_images=arguments.epoch_images,
        threads=arguments.threads,
        seed=arguments.seed,
    )
    train(packed, arguments.output, config)
    net = trained_network(arguments.output)
    model = CompactModel(net)
    scores = [row for split in ("validation", "test") for row in score(model, arguments.data, split)]
    print(export(net, arguments.output, config, {"scores": scores, "data": data_facts(packed)}))
    return 0
