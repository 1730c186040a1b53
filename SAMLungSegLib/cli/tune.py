"""`samlungseg tune`: a model's mask decoder tuned on a few images, adopted only where it became better."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SAMLungSegLib.cli.choices import add_model_choices, given_path, whole_number_from
from SAMLungSegLib.files import check_writable, writable_folder
from SAMLungSegLib.training.renamed import todays_value

if TYPE_CHECKING:  # as in the other subcommands: nothing heavy before it is needed
    from SAMLungSegLib.models.base import PromptableModel
    from SAMLungSegLib.training import TuneOptions, TuneResult


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "tune",
        help="tune a model to your own images and masks, if that helps",
        description="Tunes the mask decoder on images and masks (nonzero = lung) of the same names. A fifth of the "
        "images is held out; the tuned decoder is written only if their Dice improves. Use it with --weights.",
    )
    parser.add_argument("--images", type=given_path, required=True, metavar="DIR", help="at least 8 images")
    parser.add_argument("--masks", type=given_path, required=True, metavar="DIR", help="their masks, of the same names")
    parser.add_argument("-o", "--output", type=given_path, required=True, metavar="DIR", help="folder to write into")
    add_model_choices(parser)
    add_tuning_choices(parser, epochs="100", patience="10")
    add_case_choices(parser)
    parser.set_defaults(run=run, is_about_many=True)


def add_case_choices(parser: argparse.ArgumentParser) -> None:
    """--prompts, --points-per-lung, --window, --slices, --terms, --overwrite; None where they are not given."""
    parser.add_argument(
        "--prompts",
        choices=("none", "box", "points", "both"),
        help="that the model learns with; default: none where a model needs no prompt, box for MedSAM, points for SAM",
    )
    parser.add_argument("--points-per-lung", type=int, choices=(1, 3, 5), help="mean points; default: 1")
    parser.add_argument("--window", help="CT window: a preset, or WIDTH/LEVEL such as 1500/-600; default: lung")
    parser.add_argument(
        "--slices", type=whole_number_from(1), metavar="N", help="of each volume at most; default: 16, evenly spread"
    )
    parser.add_argument("--terms", help="on which the images may be used, for the card; default: not stated")
    parser.add_argument(
        "--overwrite", action="store_true", default=None, help="replace weights that were adopted earlier"
    )


def add_tuning_choices(parser: argparse.ArgumentParser, *, epochs: str, patience: str) -> None:
    """--epochs, --batch, --learning-rate, --weight-decay, --loss, --patience, --seed, --jitter; defaults in words."""
    parser.add_argument("--epochs", type=int, metavar="N", help=f"at most; default: {epochs}")
    parser.add_argument("--batch", type=int, metavar="N", help="slices in one step; default: 2")
    parser.add_argument(
        "--learning-rate",
        type=float,
        metavar="RATE",
        help="of the optimiser; default: 1e-5 for SAM, 5e-4 for lung-compact",
    )
    parser.add_argument("--weight-decay", type=float, metavar="DECAY", help="of the optimiser; default: 0")
    parser.add_argument(
        "--loss",
        type=partial(todays_value, "loss"),
        choices=("sigmoid", "raw_logits"),
        help="Dice on probabilities (default) or on raw logits",
    )
    parser.add_argument(
        "--patience",
        type=int,
        metavar="N",
        help=f"epochs without a better validation Dice that end the tuning, 0 for all epochs; default: {patience}",
    )
    parser.add_argument(
        "--seed",
        type=whole_number_from(0),
        metavar="N",
        help="of the order of slices and the jitter; default: 0",
    )
    parser.add_argument(
        "--jitter",
        type=float,
        metavar="PIXELS",
        help="how far the sides of boxes are moved at most, in a frame of 256; default: 20",
    )


CONFIG_CHOICES = ("epochs", "batch", "learning_rate", "weight_decay", "loss", "patience", "seed")
_FIELDS = {"prompts": "kind", "jitter": "jitter_px", "slices": "slices_each"}  # of `TuneOptions`, by option
CASE_CHOICES = ("prompts", "points_per_lung", "jitter", "window", "slices", "terms", "overwrite")


def given_choices(arguments: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """Of options without a default those that were given."""
    return {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}


def run(arguments: argparse.Namespace) -> int:
    from SAMLungSegLib.models.choice import BaseCheckpoint
    from SAMLungSegLib.training import check_target, paired_cases, seen_note, target_path, tune

    check_writable(arguments.output)
    base = BaseCheckpoint(arguments.model, arguments.weights)
    cases = paired_cases(arguments.images, arguments.masks)
    model = base.load(arguments.device, arguments.input_size)
    options = options_of_tuning(arguments, model)
    check_target(writable_folder(arguments.output), base, overwrite=arguments.overwrite)
    note = seen_note(base, cases)
    if note:
        print(note)
    show(tune(model, base, cases, arguments.output, options), arguments, target_path(arguments.output, base))
    return 0


def options_of_tuning(
    arguments: argparse.Namespace, model: PromptableModel, defaults: Mapping[str, Any] | None = None
) -> TuneOptions:
    """What was chosen, else the model's own prompts, and of the training what is given here, or the model's own."""
    from SAMLungSegLib.intensity import parse_window
    from SAMLungSegLib.training import TuneOptions, TuningConfig
    from SAMLungSegLib.training.data.cases import Windowing
    from SAMLungSegLib.training.fine_tune import usual_kind

    can = model.capabilities
    config = {"learning_rate": can.learning_rate, **(defaults or {}), **given_choices(arguments, CONFIG_CHOICES)}
    given = given_choices(arguments, CASE_CHOICES)
    given.pop("overwrite", None)
    fields = {_FIELDS.get(name, name): value for name, value in {"prompts": usual_kind(model), **given}.items()}
    if "window" in given:
        fields["windowing"] = Windowing(parse_window(fields.pop("window")))
    return TuneOptions(config=TuningConfig(**config), **fields)


def show(result: TuneResult, arguments: argparse.Namespace, target: Path) -> None:
    """Print how a training ended, and how to use what was adopted; `target` is where that lies."""
    from SAMLungSegLib.evaluation import table_markdown
    from SAMLungSegLib.training import not_adopted

    print(table_markdown(result.table.round(4)))
    print(f"Without a prompt: {result.comparison.to_text()}")
    if result.prompted is not None:
        print(f"With boxes from the masks: {result.prompted.to_text()}")
    print(f"Pictures: {arguments.output / 'comparison.png'}, {arguments.output / 'learning_curve.png'}")
    if result.weights is None:
        print(not_adopted("the held-out images are not segmented better", target))
        return
    print(f"Adopted: {result.weights}, threshold {result.threshold:.2f}. Use it as")
    size = f" --input-size {arguments.input_size}" if arguments.input_size else ""
    print(f"  samlungseg segment IMAGE -o DIR --model {arguments.model} --weights {result.weights}{size}")
