"""`samlungseg study adapters` and `study multi-organ`: organs of any label set, by adapted SAMs."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from SAMLungSegLib.cli.adapt import add_reading_choices, kinds_of, reading_of
from SAMLungSegLib.cli.choices import add_model_choices, given_path, whole_number_from

if TYPE_CHECKING:  # as in the other subcommands: nothing heavy before it is needed
    from SAMLungSegLib.studies.adapters.study import AdaptersSettings
    from SAMLungSegLib.studies.multi_organ.study import MultiOrganSettings

KINDS = "centre,point,points,box,larger-box"


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        type=given_path,
        metavar="DATA",
        help="as of adapt: a manifest (.csv, .json, .toml), a folder with images/ and masks/; or that of the CURVAS "
        "challenge, with images/ and masks_rater1/ to masks_rater3/",
    )
    parser.add_argument("-o", "--output", type=given_path, required=True, metavar="DIR", help="folder to write into")
    parser.add_argument("--overwrite", action="store_true", help="start anew in a folder that holds another study")
    add_model_choices(parser, "sam-vit-b")
    add_reading_choices(parser)
    parser.add_argument("--prompts", default=KINDS, metavar="KIND[,KIND]", help=f"of {KINDS}; default: all")
    parser.add_argument("--seed", type=whole_number_from(0), default=0, metavar="N", help="of all draws; default: 0")


def add_multi_organ(studies: argparse._SubParsersAction) -> None:
    """The subcommand."""
    parser = studies.add_parser(
        "multi-organ",
        help="organs by five kinds of prompts, before and after tuning the decoder, and how well they are named",
        description="Prompts each organ of DATA by its mask in five ways, before and after the mask decoder was tuned "
        "on stored embeddings, trains a class token that names organs, and writes tables, figures and a report. Give "
        "the same command again to go on after it was stopped.",
    )
    _add_common(parser)
    parser.add_argument(
        "--epochs", type=whole_number_from(0), default=50, metavar="N", help="of each tuning; 0 leaves them out"
    )
    parser.add_argument("--learning-rate", type=float, default=0.1, metavar="RATE", help="of SGD")
    parser.add_argument("--momentum", type=float, default=0.0, metavar="M", help="of SGD; default: 0.0")
    parser.add_argument(
        "--accumulate", type=whole_number_from(1), default=64, metavar="N", help="objects whose gradients make a step"
    )
    parser.add_argument(
        "--variants", type=whole_number_from(0), default=4, metavar="N", help="changed copies of each slice; 0 for none"
    )
    parser.add_argument(
        "--naming-steps",
        type=whole_number_from(0),
        default=1000,
        metavar="N",
        help="of the class token's training; 0 leaves it out",
    )
    parser.set_defaults(run=run_multi_organ, is_about_many=True)


def run_multi_organ(arguments: argparse.Namespace) -> int:
    """Make the study, write the report, print its main tables."""
    from SAMLungSegLib.evaluation import table_markdown
    from SAMLungSegLib.studies.multi_organ.report import accuracy_table, basis, dice_table, write_multi_organ_report
    from SAMLungSegLib.studies.multi_organ.study import run_multi_organ as make

    result = make(arguments.data, arguments.output, _multi_organ_settings(arguments), overwrite=arguments.overwrite)
    files = write_multi_organ_report(result, arguments.output)
    print(f"\n{basis(result)}\n\n{table_markdown(dice_table(result), 3)}")
    if len(result.named):
        print(table_markdown(accuracy_table(result.confusion()), 3))
    for path in files:
        print(path)
    return 0


def _multi_organ_settings(arguments: argparse.Namespace) -> MultiOrganSettings:
    from SAMLungSegLib.models.choice import BaseCheckpoint
    from SAMLungSegLib.models.registry import model_spec
    from SAMLungSegLib.studies.multi_organ.study import NAMING, MultiOrganSettings
    from SAMLungSegLib.studies.multi_organ.tuning import OrganTuning

    tuning = naming = None
    if arguments.epochs:
        tuning = OrganTuning(
            epochs=arguments.epochs,
            learning_rate=arguments.learning_rate,
            momentum=arguments.momentum,
            accumulate=arguments.accumulate,
            variants=arguments.variants,
            seed=arguments.seed,
        )
    if arguments.naming_steps:
        naming = replace(NAMING, steps=arguments.naming_steps, seed=arguments.seed)
    return MultiOrganSettings(
        base=BaseCheckpoint(arguments.model, arguments.weights),
        device=arguments.device,
        input_size=arguments.input_size,
        kinds=kinds_of(arguments.prompts),
        reading=reading_of(arguments, model_spec(arguments.model).capabilities),
        tuning=tuning,
        naming=naming,
    )


def add_adapters(studies: argparse._SubParsersAction) -> None:
    """The subcommand."""
    parser = studies.add_parser(
        "adapters",
        help="all methods of adaptation on the same slices, at equal steps and in equal time",
        description="Adapts a model to the organs of DATA by each method, and a U-Net beside them, for the same number "
        "of steps (--steps), for the same time (--minutes), or both, and writes tables, figures and a report. Give the "
        "same command again to go on after it was stopped.",
    )
    _add_common(parser)
    parser.add_argument(
        "--methods",
        default="",
        metavar="NAME[:SETTINGS] ...",
        help="separated by spaces, as of adapt --method; default: all of 'samlungseg adapt --list' that change masks",
    )
    parser.add_argument("--steps", type=whole_number_from(0), metavar="N", help="of each; 0 for none; default: 500")
    parser.add_argument("--minutes", type=float, metavar="M", help="of each; default: none")
    parser.add_argument("--batch", type=whole_number_from(1), default=2, metavar="N", help="slices at once")
    parser.add_argument("--accumulate", type=whole_number_from(1), default=1, metavar="N", help="batches in a step")
    parser.add_argument(
        "--unet", action=argparse.BooleanOptionalAction, default=True, help="train a U-Net on the same slices"
    )
    parser.set_defaults(run=run_adapters, is_about_many=True)


def run_adapters(arguments: argparse.Namespace) -> int:
    """Make the study, write the report, print its main tables."""
    from SAMLungSegLib.evaluation import table_markdown
    from SAMLungSegLib.studies.adapters.report import basis, costs, dice_by_prompt, write_adapters_report
    from SAMLungSegLib.studies.adapters.study import run_adapters as make

    result = make(arguments.data, arguments.output, _adapters_settings(arguments), overwrite=arguments.overwrite)
    files = write_adapters_report(result, arguments.output)
    print(f"\n{basis(result)}\n\n{table_markdown(costs(result), 3)}\n{table_markdown(dice_by_prompt(result), 3)}")
    for method, reason in result.not_run.items():
        print(f"{method} was not run: {reason}")
    for path in files:
        print(path)
    return 0


def _adapters_settings(arguments: argparse.Namespace) -> AdaptersSettings:
    from SAMLungSegLib.models.choice import BaseCheckpoint
    from SAMLungSegLib.models.registry import model_spec
    from SAMLungSegLib.studies.adapters.study import AdaptersSettings
    from SAMLungSegLib.studies.fine_tune.unet import UNetConfig

    usual = AdaptersSettings().steps if arguments.minutes is None else None
    return AdaptersSettings(
        base=BaseCheckpoint(arguments.model, arguments.weights),
        device=arguments.device,
        input_size=arguments.input_size,
        methods=tuple(arguments.methods.split()),
        steps=usual if arguments.steps is None else arguments.steps or None,
        minutes=arguments.minutes,
        batch=arguments.batch,
        accumulate=arguments.accumulate,
        seed=arguments.seed,
        kinds=kinds_of(arguments.prompts),
        reading=reading_of(arguments, model_spec(arguments.model).capabilities),
        unet=UNetConfig(seed=arguments.seed) if arguments.unet else None,
    )
