"""`samlungseg train`: lung-compact or a small SAM by a recipe, or any part of a model on your own images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from SAMLungSegLib.cli.choices import add_model_choices, given_path
from SAMLungSegLib.cli.tune import (
    CASE_CHOICES,
    CONFIG_CHOICES,
    add_case_choices,
    add_tuning_choices,
    given_choices,
    options_of_tuning,
    show,
)
from SAMLungSegLib.errors import SettingsError, VolumeError
from SAMLungSegLib.files import check_writable, writable_folder

if TYPE_CHECKING:  # as in the other subcommands: nothing heavy before it is needed
    import torch

    from SAMLungSegLib.training import StudyCase, TrainingConfig


CHANGE_CHOICES = ("augmentation", "ema_decay")
RECIPES_MODEL = "lung-compact"
# of trainings on images of one's own
OWN_CHOICES = ("part", "weights", "input_size", *CONFIG_CHOICES, *CHANGE_CHOICES, *CASE_CHOICES)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "train",
        help="train lung-compact or a small SAM by a recipe, or any part of a model on your own images and masks",
        description="With CONFIG and DATA: packs DATA once, trains lung-compact, or a small SAM, by the recipe CONFIG "
        "(continuing a run that stopped), scores the held-out images and exports the weights with their card. With "
        "--images and --masks, or --manifest: trains --part of --model on images of yours; a fifth of them is held "
        "out, and the weights are written only if their Dice improves. Use them with --weights.",
    )
    parser.add_argument(
        "config",
        metavar="CONFIG",
        nargs="?",
        help="a .toml file, or one of the recipes lung-compact, sam-vit-tiny, without-montgomery, without-shenzhen, "
        "smoke",
    )
    parser.add_argument(
        "data",
        type=given_path,
        metavar="DATA",
        nargs="?",
        help="folder with cxr_montgomery, cxr_shenzhen, ct_kmader, ...",
    )
    parser.add_argument(
        "--images", type=given_path, metavar="DIR", help="at least 8 images of yours; default: those of DATA"
    )
    parser.add_argument(
        "--masks", type=given_path, metavar="DIR", help="their masks, of the same names; default: those of DATA"
    )
    parser.add_argument(
        "--manifest",
        type=given_path,
        metavar="FILE",
        help="several sets of images and masks, as .csv, .json or .toml, see docs/tuning.md; default: none",
    )
    parser.add_argument(
        "--part",
        help="that is trained on them: decoder (default), prompt, encoder, all, or adapters:METHOD such as "
        "adapters:lora or adapters:series:placement=published, see docs/adapters.md; the others stay as they are",
    )
    parser.add_argument(
        "-o", "--output", type=given_path, default=Path("training-output"), metavar="DIR", help="folder to write into"
    )
    add_model_choices(parser, RECIPES_MODEL)
    add_tuning_choices(parser, epochs="100", patience="10")
    parser.add_argument(
        "--augmentation",
        choices=("none", "plain", "light", "mild", "strong"),
        help="how slices are changed at random, so that each is encoded at every step; default: plain (place, size, "
        "brightness, mirrored) where the encoder or adapters learn, else none",
    )
    parser.add_argument(
        "--ema-decay",
        type=float,
        metavar="0..1",
        help="part that the moving average of the weights keeps at each step, 0 for no average; default: 0.9, for "
        "the decoder alone 0",
    )
    add_case_choices(parser)
    parser.set_defaults(run=run, is_about_many=True)


def run(arguments: argparse.Namespace) -> int:
    if arguments.images or arguments.masks or arguments.manifest:
        return _train_own(arguments)
    if not (arguments.config and arguments.data):
        raise SettingsError(
            "There is nothing to train on; give a recipe and its data (CONFIG DATA), or images of yours (--images and "
            "--masks, or --manifest)."
        )
    others = [*given_choices(arguments, OWN_CHOICES)] + ["model"] * (arguments.model != RECIPES_MODEL)
    others = [name for name in others if name not in arguments.from_file]
    if others:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in others)
        raise SettingsError(
            f"A recipe says all about its training; leave {named} out, or train on images of yours instead (--images "
            "and --masks, or --manifest), which takes it."
        )
    return _train_recipe(arguments)


def _train_recipe(arguments: argparse.Namespace) -> int:
    import logging

    from SAMLungSegLib.models.registry import model_spec
    from SAMLungSegLib.models.torch_loading import chosen_device
    from SAMLungSegLib.training import pack, read_config

    library = logging.getLogger("SAMLungSegLib")
    library.setLevel(min(library.getEffectiveLevel(), logging.INFO))
    config = read_config(arguments.config)
    if not arguments.data.is_dir():
        raise VolumeError(f"{arguments.data} is no folder; give one with folders such as cxr_montgomery or ct_kmader.")
    device = chosen_device(arguments.device)
    packed = writable_folder(arguments.output) / "pack.npz"
    if not packed.is_file():
        pack(arguments.data, packed, phantoms=config.phantoms)
    made = _made_sam if model_spec(config.model).taught == "prompts" else _made_compact
    print(made(arguments, config, packed, device))
    return 0


def _made_compact(arguments: argparse.Namespace, config: TrainingConfig, packed: Path, device: torch.device) -> Path:
    from SAMLungSegLib.models.compact.model import CompactModel
    from SAMLungSegLib.training import data_facts, export_network, score, train, trained_network

    train(packed, arguments.output, config, device)
    net = trained_network(arguments.output, config)
    model = CompactModel(net)
    scores = [row for split in ("validation", "test") for row in score(model, arguments.data, split)]
    return export_network(net, arguments.output, config, {"scores": scores, "data": data_facts(packed, config)})


def _made_sam(arguments: argparse.Namespace, config: TrainingConfig, packed: Path, device: torch.device) -> Path:
    from SAMLungSegLib.training import data_facts, export_sam, halved_sam, sam_model, score_prompts, train_sam

    sam = halved_sam(train_sam(packed, arguments.output, config, device))
    scores = score_prompts(sam_model(sam, config), arguments.data, "test")
    return export_sam(sam, arguments.output, config, {"scores": scores, "data": data_facts(packed, config)})


def _train_own(arguments: argparse.Namespace) -> int:
    from SAMLungSegLib.models.choice import BaseCheckpoint
    from SAMLungSegLib.training import TrainedPart, check_target, seen_note, target_path, train_part, tune

    if arguments.config:
        raise SettingsError(f"{arguments.config} is a recipe, which images of your own do not go with; leave one out.")
    check_writable(arguments.output)
    part = TrainedPart.parse(arguments.part or "decoder")
    base = BaseCheckpoint(arguments.model, arguments.weights)
    cases = _cases(arguments)
    model = base.load(arguments.device, arguments.input_size)
    for name in part.modules:
        model.check_part(name)
    options = options_of_tuning(arguments, model, part.defaults | given_choices(arguments, CHANGE_CHOICES))
    is_decoder = part.name == "decoder"
    label = "tuned" if is_decoder else part.label
    check_target(writable_folder(arguments.output), base, overwrite=arguments.overwrite, label=label)
    note = seen_note(base, cases)
    if note:
        print(note)
    if is_decoder:
        result = tune(model, base, cases, arguments.output, options)
    else:
        result = train_part(model, base, part, cases, arguments.output, options)
    show(result, arguments, target_path(arguments.output, base, label))
    return 0


def _cases(arguments: argparse.Namespace) -> list[StudyCase]:
    from SAMLungSegLib.training import paired_cases, read_manifest

    if arguments.manifest:
        if arguments.images or arguments.masks:
            raise SettingsError("A manifest names all images and masks; leave --images and --masks out.")
        return read_manifest(arguments.manifest)
    if not (arguments.images and arguments.masks):
        raise SettingsError("Images were given without masks, or masks without images; give --images and --masks.")
    return paired_cases(arguments.images, arguments.masks)
