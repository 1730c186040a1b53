"""What several subcommands have in common: how an image is seen, which model predicts, which lungs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from SAMLungSegLib.structures import EXTENT_CHOICES

if TYPE_CHECKING:  # the command line starts at once: what is heavy is imported where it is used
    from SAMLungSegLib.models.choice import ModelChoice
    from SAMLungSegLib.pipeline import Options, VolumeBox, VolumePoint


def all_parsers(top: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of its subcommands, at any depth."""
    yield top
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from all_parsers(child)


def given_path(text: str) -> Path:
    """A path; an empty name, such as of a variable that is not set, would be the working folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty name is no path")
    return Path(text)


def whole_number_from(least: int) -> Callable[[str], int]:
    """Reads a whole number that is no smaller than `least`."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from {least} on")
        return number

    return read


def add_image_choices(parser: argparse.ArgumentParser) -> None:
    """--modality and --window."""
    parser.add_argument(
        "--modality",
        choices=("auto", "ct", "xray"),
        default="auto",
        help="of the image; auto: what the file says or shows",
    )
    parser.add_argument(
        "--window", default="lung", metavar="WINDOW", help="CT window: a preset, or WIDTH/LEVEL such as 1500/-600"
    )


def add_lung_choices(parser: argparse.ArgumentParser) -> None:
    """--lungs, --extent, --threshold and --every."""
    parser.add_argument("--lungs", choices=("both", "right", "left"), default="both", help="which lungs to write")
    parser.add_argument(
        "--extent",
        choices=EXTENT_CHOICES,
        default="visible",
        help="of lungs on X-rays: the visible fields, whole lungs with what heart and diaphragm hide, or both, hidden "
        "parts as 3 = right and 4 = left",
    )
    parser.add_argument(
        "--threshold", type=float, default=0.5, metavar="0..1", help="probability above which a pixel is lung"
    )
    parser.add_argument(
        "--every",
        type=int,
        default=1,
        metavar="K",
        help="show the model each K-th slice only, interpolate between; 1 shows all",
    )


def add_model_choices(parser: argparse.ArgumentParser, model: str = "lung-compact") -> None:
    """--model, --weights, --input-size and --device."""
    parser.add_argument("--model", default=model, metavar="NAME", help="see 'samlungseg models list'")
    parser.add_argument(
        "--weights",
        type=given_path,
        metavar="FILE",
        help="checkpoint of yours for that model; default: its own",
    )
    parser.add_argument(
        "--input-size",
        type=int,
        metavar="PIXELS",
        help="SAM's frame: 1024, the default, or faster and coarser 512 or 256",
    )
    parser.add_argument("--device", default="auto", help="auto (the fastest there is), cpu, cuda, cuda:1, mps")


def add_cache_choice(parser: argparse.ArgumentParser) -> None:
    """--no-cache."""
    parser.add_argument(
        "--no-cache",
        action="store_true",
        help="encode anew, and keep no embeddings on disk; default: keep them, but for lung-compact",
    )


def options_of(
    arguments: argparse.Namespace, points: Sequence[VolumePoint] = (), boxes: Sequence[VolumeBox] = ()
) -> Options:
    """The pipeline's options.

    Raises:
        SettingsError, PromptError, IntensityError: a choice that is not possible.
    """
    from SAMLungSegLib.pipeline import Options

    return Options(
        modality=None if arguments.modality == "auto" else arguments.modality,
        window=arguments.window,
        points=tuple(points),
        boxes=tuple(boxes),
        threshold=arguments.threshold,
        lungs=arguments.lungs,
        every=arguments.every,
        extent=arguments.extent,
    )


def model_choice_of(arguments: argparse.Namespace) -> ModelChoice:
    """The model that was chosen; nothing is loaded."""
    from SAMLungSegLib.models.choice import ModelChoice

    return ModelChoice(arguments.model, arguments.weights, not arguments.no_cache, arguments.input_size)
