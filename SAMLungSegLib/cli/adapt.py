"""`samlungseg adapt`: a SAM adapted to organs on the user's slices by one of several methods, if that helps."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from SAMLungSegLib.cli.choices import add_model_choices, given_path, whole_number_from
from SAMLungSegLib.errors import SettingsError
from SAMLungSegLib.files import check_writable, writable_folder

if TYPE_CHECKING:  # as in the other subcommands: nothing heavy before it is needed
    from SAMLungSegLib.adaptation import AdaptResult, Method, ReadingOptions
    from SAMLungSegLib.intensity import Window
    from SAMLungSegLib.models.capabilities import Capabilities

STEPS = 500


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "adapt",
        help="adapt a SAM to organs of yours by one of several methods, if that helps",
        description="Trains --method on the slices and masks of DATA, judges it by images (or patients, where the "
        "manifest says whose they are) that were held out, with the same prompts before and after, and writes "
        "weights only if their Dice improves. Use them with --weights. The same command goes on with a run that was "
        "stopped. See docs/adaptation.md.",
    )
    parser.add_argument(
        "data",
        type=given_path,
        nargs="?",
        metavar="DATA",
        help="a manifest (.csv, .json, .toml) of images and masks, or a folder with images/ and masks/",
    )
    parser.add_argument("--list", action="store_true", help="print the methods and where they come from, and exit")
    parser.add_argument(
        "--method",
        metavar="NAME[:SETTINGS]",
        help="such as decoder, full, lora or lora:rank=8,with_decoder=true; --list prints all; default: decoder",
    )
    parser.add_argument(
        "-o", "--output", type=given_path, default=Path("adaptation-output"), metavar="DIR", help="folder to write into"
    )
    add_model_choices(parser, "sam-vit-b")
    add_reading_choices(parser)
    parser.add_argument("--terms", default="not stated", help="on which the images may be used, for the card")
    parser.add_argument("--overwrite", action="store_true", help="replace weights that were adopted earlier")
    _add_training_choices(parser)
    parser.set_defaults(run=run, is_about_many=True)


def add_reading_choices(parser: argparse.ArgumentParser) -> None:
    """Which organs masks draw, and what is used of the images."""
    parser.add_argument(
        "--organs",
        default="",
        metavar="TEXT",
        help="that masks draw, where the manifest does not say it: '1 pancreas 2 kidney', a label set such as abdomen, "
        "or a .csv file with columns id and structure; default: lungs",
    )
    parser.add_argument(
        "--window",
        default="auto",
        help="CT window: a preset, WIDTH/LEVEL such as 400/40, or auto: that of the model's own training",
    )
    parser.add_argument(
        "--slices",
        type=whole_number_from(1),
        default=16,
        metavar="N",
        help="of each volume at most, evenly spread over those with objects",
    )
    parser.add_argument(
        "--smallest",
        type=whole_number_from(1),
        default=100,
        metavar="PIXELS",
        help="objects with fewer in a slice are left out",
    )


def _add_training_choices(parser: argparse.ArgumentParser) -> None:
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=whole_number_from(1), metavar="N", help=f"of the optimiser; default: {STEPS}")
    length.add_argument("--minutes", type=float, metavar="M", help="of training, in place of --steps; default: none")
    parser.add_argument("--batch", type=whole_number_from(1), default=2, metavar="N", help="slices at once")
    parser.add_argument(
        "--accumulate",
        type=whole_number_from(1),
        default=1,
        metavar="N",
        help="batches whose gradients are added up for a step: larger steps in the same memory",
    )
    parser.add_argument(
        "--checkpointing",
        action="store_true",
        help="compute parts of the image encoder again instead of keeping them: less memory, a third more time",
    )
    parser.add_argument(
        "--prompts",
        metavar="KIND[,KIND]",
        help="that it learns with and is judged by, of centre, point, points, box, larger-box; default: all that the "
        "method and the model accept",
    )
    parser.add_argument("--learning-rate", type=float, metavar="RATE", help="default: the method's own")
    parser.add_argument(
        "--patience",
        type=whole_number_from(0),
        default=0,
        metavar="N",
        help="stop after N validations without a better Dice; default: 0, which makes all steps",
    )
    parser.add_argument("--seed", type=whole_number_from(0), default=0, metavar="N", help="of all draws; default: 0")


def run(arguments: argparse.Namespace) -> int:
    if arguments.list:
        return list_methods()
    if arguments.data is None:
        raise SettingsError("There is nothing to learn from; give a manifest or a folder as DATA, or --list.")
    from SAMLungSegLib.adaptation import AdaptConfig, AdaptOptions, adapt
    from SAMLungSegLib.adaptation.slices import read_cases
    from SAMLungSegLib.models.choice import BaseCheckpoint
    from SAMLungSegLib.training import check_target, seen_note, target_path

    check_writable(arguments.output)
    method = _method(arguments)
    steps = STEPS if arguments.steps is None and arguments.minutes is None else arguments.steps
    config = AdaptConfig(
        steps,
        arguments.minutes,
        batch=arguments.batch,
        accumulate=arguments.accumulate,
        checkpointing=arguments.checkpointing,
        patience=arguments.patience,
        seed=arguments.seed,
    )
    base = BaseCheckpoint(arguments.model, arguments.weights)
    note = seen_note(base, read_cases(arguments.data, arguments.organs))
    model = base.load(arguments.device, arguments.input_size)
    check_target(writable_folder(arguments.output), base, overwrite=arguments.overwrite, label=method.name)
    if note:
        print(note)
    options = AdaptOptions(config, arguments.terms)
    reading = reading_of(arguments, model.capabilities)
    result = adapt(model, base, arguments.data, arguments.output, method, options, reading=reading)
    _show(result, arguments, target_path(arguments.output, base, method.name), reading.windowing.window)
    return 0


def list_methods() -> int:
    """Print the methods with title, source and settings."""
    from dataclasses import fields

    from SAMLungSegLib.adaptation import method_names
    from SAMLungSegLib.adaptation.method import method_class

    for name in method_names():
        kind = method_class(name)
        settings = ", ".join(f"{one.name}={_shown(one.default)}" for one in fields(kind))
        print(f"{name}: {kind.title}\n    {kind.source}\n    {settings}")
    return 0


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "+".join(map(str, value)) or "all"
    return str(value).lower() if isinstance(value, bool) else str(value)


def kinds_of(text: str) -> tuple[str, ...]:
    """Kinds of prompts, with commas or + between them."""
    return tuple(one.strip() for one in text.replace("+", ",").split(",") if one.strip())


def _method(arguments: argparse.Namespace) -> Method:
    from dataclasses import replace

    from SAMLungSegLib.adaptation import method_from

    method = method_from(arguments.method or "decoder")
    if arguments.learning_rate is not None:
        if not 0 < arguments.learning_rate < float("inf"):
            raise SettingsError(f"A learning rate of {arguments.learning_rate} teaches nothing; give a positive one.")
        method = replace(method, learning_rate=arguments.learning_rate)
    if arguments.prompts:
        method = replace(method, prompts=kinds_of(arguments.prompts))
    return method


def reading_of(arguments: argparse.Namespace, capabilities: Capabilities) -> ReadingOptions:
    """What `add_reading_choices` got, for a model; a card beside its weights says what window they learned."""
    from SAMLungSegLib.adaptation import ReadingOptions
    from SAMLungSegLib.models.tuned import learned_window
    from SAMLungSegLib.training.data.cases import Windowing

    learned = learned_window(arguments.weights) if arguments.weights and arguments.window == "auto" else None
    return ReadingOptions(
        organs=arguments.organs,
        windowing=Windowing(*learned) if learned else Windowing.parse(arguments.window, capabilities),
        slices_each=arguments.slices,
        smallest_px=arguments.smallest,
    )


def _show(result: AdaptResult, arguments: argparse.Namespace, target: Path, window: Window) -> None:
    from SAMLungSegLib.adaptation.prompts import BOXES
    from SAMLungSegLib.evaluation import table_markdown
    from SAMLungSegLib.options import Options
    from SAMLungSegLib.training import not_adopted

    measured = [f"{result.measure}_{when}" for when in ("before", "after")]
    means = result.table.groupby(["organ", "prompt"], sort=False)[measured].mean()
    print(table_markdown(means.reset_index().round(4)))
    for kind, comparison in result.comparisons.items():
        print(f"{kind}: {comparison.to_text(result.unit, result.measure.capitalize())}")
    print(
        f"{result.parameters:,} weights were trained. Pictures: {arguments.output / 'held_out.png'}, learning_curve.png"
    )
    if result.weights is None:
        better = "segmented better" if result.measure == "dice" else "named better than by the most frequent organ"
        print(not_adopted(f"the held-out objects are not {better}", target))
        return
    shows_boxes = set(result.table["prompt"]) <= set(BOXES)
    size = f" --input-size {arguments.input_size}" if arguments.input_size else ""
    shown = "" if window == Options().window else f" --window {window.width:g}/{window.level:g}"
    print(f"Adopted: {result.weights}. Use it as")
    if result.measure == "accuracy":
        print("  load_model(MODEL, weights=...).decode(embedding, prompts).organ in Python, see docs/adaptation.md")
        return
    choices = f"IMAGE -o DIR --model {arguments.model} --weights {result.weights}{size}{shown}"
    organs = list(dict.fromkeys(result.table["organ"]))
    if all("lung" in one for one in organs):
        print(f"  samlungseg segment {choices} {'--box' if shows_boxes else '--point'} ...")
    else:
        prompt = "I0,J0,K,I1,J1,K" if shows_boxes else "I,J,K,+"
        print(f"  samlungseg propagate {choices} --object '{organs[0]} {prompt}'")
