"""`samlungseg study`: the papers' studies on images with references, each as one command."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from SAMLungSegLib.cli.choices import add_cache_choice, add_model_choices, given_path, model_choice_of
from SAMLungSegLib.cli.study_objects import add_adapters, add_multi_organ
from SAMLungSegLib.cli.tune import CONFIG_CHOICES, add_tuning_choices, given_choices
from SAMLungSegLib.files import check_written
from SAMLungSegLib.structures import EXTENT_MASKS, EXTENTS

if TYPE_CHECKING:  # as in the other subcommands: nothing heavy before it is needed
    from SAMLungSegLib.studies.fine_tune.settings import FineTuneSettings
    from SAMLungSegLib.studies.zero_shot.study import ZeroShotSettings

SOME_FAILED = 2


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "study",
        help="the papers' studies on images with references: tables, figures, one report",
        description="Studies on images with references, resumable, with published figures beside.",
    )
    studies = parser.add_subparsers(dest="study", required=True, metavar="STUDY")
    _add_zero_shot(studies)
    _add_fine_tune(studies)
    _add_quality(studies)
    add_multi_organ(studies)
    add_adapters(studies)


def add_data_choices(parser: argparse.ArgumentParser) -> None:
    """DATA, --output and --overwrite, as every study has them."""
    parser.add_argument(
        "data",
        type=given_path,
        metavar="DATA",
        help="folder with images/ and masks/, or one of such folders (subsets)",
    )
    parser.add_argument("-o", "--output", type=given_path, required=True, metavar="DIR", help="folder to write into")
    parser.add_argument("--overwrite", action="store_true", help="start anew in a folder that holds another study")


def _add_zero_shot(studies: argparse._SubParsersAction) -> None:
    parser = studies.add_parser(
        "zero-shot",
        help="how well a model predicts from prompts computed from the reference",
        description="Predicts every slice of DATA that has lung from prompts computed from the reference, "
        "and writes tables, figures and a report. Give the same command again to go on after it was stopped.",
    )
    add_data_choices(parser)
    add_model_choices(parser)
    add_cache_choice(parser)
    parser.add_argument(
        "--mode",
        choices=("improved", "paper"),
        default="improved",
        help="the negative point: farthest from lung, or at the middle of the box even where that is lung",
    )
    parser.add_argument(
        "--modality",
        choices=("auto", "ct", "xray"),
        default="auto",
        help="of all images; auto: by the subset's name, the file or what it shows",
    )
    parser.add_argument(
        "--window",
        default="auto",
        metavar="WINDOW",
        help="CT window: auto (paper for SAM, else lung), paper, a preset, or WIDTH/LEVEL such as 1500/-600",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="the first N images of each subset only; default: all")
    parser.add_argument(
        "--ablation-slices", type=int, metavar="N", help="compare the steps on N slices only, 0 for none; default: all"
    )
    parser.add_argument(
        "--negatives", type=int, default=5, metavar="N", help="most negative points to add on one bad slice"
    )
    parser.add_argument(
        "--include-training-images", action="store_true", help="also images that the model has learned from"
    )
    parser.set_defaults(run=run_zero_shot, is_about_many=True)


def run_zero_shot(arguments: argparse.Namespace) -> int:
    """Measure, write the report, print the summary; 2 where an image could not be used."""
    from SAMLungSegLib.batch.journal import JOURNAL_NAME
    from SAMLungSegLib.evaluation import table_markdown
    from SAMLungSegLib.studies.zero_shot import study
    from SAMLungSegLib.studies.zero_shot.report import basis, write_zero_shot_report
    from SAMLungSegLib.studies.zero_shot.statistics import slice_statistics

    settings = _zero_shot_settings(arguments)
    result = study.run_zero_shot(arguments.data, arguments.output, settings, overwrite=arguments.overwrite)
    if result.left_out:
        print(
            f"{result.left_out} images are left out, for {result.seen.model} has learned from them by its card; "
            "--include-training-images takes them in."
        )
    for name, reason in result.failed.items():
        print(f"samlungseg: {name}: {reason}", file=sys.stderr)
    files = write_zero_shot_report(result, arguments.output)
    check_written(arguments.output / name for name in (study.SETTINGS_NAME, JOURNAL_NAME))
    print(f"\n{basis(result)}\n\n{table_markdown(slice_statistics(result.per_slice), 2)}")
    for path in files:
        print(path)
    return SOME_FAILED if result.failed else 0


def _zero_shot_settings(arguments: argparse.Namespace) -> ZeroShotSettings:
    from SAMLungSegLib.studies.zero_shot.study import ZeroShotSettings

    return ZeroShotSettings(
        model=model_choice_of(arguments),
        device=arguments.device,
        mode=arguments.mode,
        window=arguments.window,
        modality=None if arguments.modality == "auto" else arguments.modality.upper(),
        limit=arguments.limit,
        ablation_slices=arguments.ablation_slices,
        negatives=arguments.negatives,
        include_training_images=arguments.include_training_images,
    )


def _add_fine_tune(studies: argparse._SubParsersAction) -> None:
    parser = studies.add_parser(
        "fine-tune",
        help="how much better a model predicts after its mask decoder was tuned, by cross-validation",
        description="Tunes the mask decoder on folds of DATA for each kind of prompts, and writes tables, figures and "
        "a report. Give the same command again to go on after it was stopped.",
    )
    add_data_choices(parser)
    add_model_choices(parser)
    add_tuning_choices(parser, epochs="100 for SAM, 30 for lung-compact", patience="0 for SAM, 6 for lung-compact")
    parser.add_argument(
        "--folds", type=int, default=5, metavar="N", help="one tests, the next validates, the others train"
    )
    parser.add_argument(
        "--prompts",
        default="box,points,both",
        metavar="KIND[,KIND]",
        help="kinds of none, box, points, both",
    )
    parser.add_argument("--points-per-lung", type=int, choices=(1, 3, 5), default=1, help="mean points")
    parser.add_argument(
        "--modality",
        choices=("auto", "ct", "xray"),
        default="auto",
        help="of all images; auto: by the subset's name, the file or what it shows",
    )
    parser.add_argument(
        "--window",
        default="auto",
        metavar="WINDOW",
        help="CT window: auto (paper for SAM, else lung), paper, a preset, or WIDTH/LEVEL such as 1500/-600",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="the first N images of each set only; default: all")
    parser.add_argument(
        "--tune-only",
        default="",
        metavar="SET[,SET]",
        help="tune on these sets for the cross-set table, but do not test on them, for the model may know them; "
        "default: none",
    )
    parser.add_argument("--grid", action="store_true", help="also compare 3 learning rates and 3 weight decays")
    parser.add_argument(
        "--unet", action=argparse.BooleanOptionalAction, default=True, help="train a U-Net on the same folds"
    )
    parser.add_argument("--unet-epochs", type=int, default=40, metavar="N", help="of the U-Net's training")
    parser.add_argument(
        "--include-training-images", action="store_true", help="even if the model has learned from the images"
    )
    parser.set_defaults(run=run_fine_tune, is_about_many=True)


def run_fine_tune(arguments: argparse.Namespace) -> int:
    """Tune, test, write the report, print the two main tables."""
    from SAMLungSegLib.evaluation import table_markdown
    from SAMLungSegLib.studies.fine_tune import study
    from SAMLungSegLib.studies.fine_tune.report import basis, prompt_statistics, write_fine_tune_report

    settings = _fine_tune_settings(arguments)
    result = study.run_fine_tune(arguments.data, arguments.output, settings, overwrite=arguments.overwrite)
    files = write_fine_tune_report(result, arguments.output)
    print(f"\n{basis(result)}")
    for state in ("before", "after"):
        print(f"\n{state.capitalize()} tuning\n\n{table_markdown(prompt_statistics(result, state), 3)}")
    for path in files:
        print(path)
    return 0


def _fine_tune_settings(arguments: argparse.Namespace) -> FineTuneSettings:
    from SAMLungSegLib.models.choice import BaseCheckpoint
    from SAMLungSegLib.studies.fine_tune.settings import FineTuneSettings
    from SAMLungSegLib.studies.fine_tune.unet import UNetConfig
    from SAMLungSegLib.training.prompt_policies import JITTER_PX

    return FineTuneSettings(
        base=BaseCheckpoint(arguments.model, arguments.weights),
        device=arguments.device,
        input_size=arguments.input_size,
        kinds=tuple(kind.strip() for kind in arguments.prompts.split(",")),
        folds=arguments.folds,
        changes=given_choices(arguments, CONFIG_CHOICES),
        points_per_lung=arguments.points_per_lung,
        jitter_px=JITTER_PX if arguments.jitter is None else arguments.jitter,
        window=arguments.window,
        modality=None if arguments.modality == "auto" else arguments.modality.upper(),
        limit=arguments.limit,
        tune_only=tuple(name.strip() for name in arguments.tune_only.split(",") if name.strip()),
        grid=arguments.grid,
        unet=UNetConfig(epochs=arguments.unet_epochs) if arguments.unet else None,
        include_training_images=arguments.include_training_images,
    )


def _add_quality(studies: argparse._SubParsersAction) -> None:
    parser = studies.add_parser(
        "quality",
        help="how good a model is without a prompt, after clicks, on corrupted images, and how well it estimates that",
        description="Measures a model that needs no prompt on the slices of DATA that it has not learned "
        "from: accuracy, Dice over ten corrective clicks, whether clicks and masks are obeyed and what they gain, "
        "predicted against true overlap, loss on corrupted images.",
    )
    add_data_choices(parser)
    add_model_choices(parser)
    add_cache_choice(parser)
    parser.add_argument(
        "--extent",
        choices=EXTENTS,
        default="visible",
        help="of lungs on X-rays, which the model is to predict and the masks hold: the visible fields, or whole lungs "
        "with what heart and diaphragm hide; public sets with other masks are left out",
    )
    parser.add_argument(
        "--split",
        choices=("test", "validation"),
        default="test",
        help="test: images that the model has not learned from; validation: those that its training was chosen by",
    )
    parser.add_argument(
        "--user",
        metavar="NAME",
        default="largest-error",
        help="who clicks: largest-error, once in the middle of the largest error left; clicksam, all over what is "
        "right and wrong at once, as ClickSAM does, and ten times anew",
    )
    parser.set_defaults(run=run_quality, is_about_many=True)


def run_quality(arguments: argparse.Namespace) -> int:
    """Measure, write the report, print its tables of accuracy and of corrections."""
    from tqdm import tqdm

    from SAMLungSegLib.errors import ModelError
    from SAMLungSegLib.evaluation import table_markdown
    from SAMLungSegLib.files import writable_folder
    from SAMLungSegLib.studies.quality.corrections import corrections_table
    from SAMLungSegLib.studies.quality.references import drawing_extent
    from SAMLungSegLib.studies.quality.report import write_quality_report
    from SAMLungSegLib.studies.quality.study import accuracy_table, measure_quality
    from SAMLungSegLib.training.data.cases import study_cases
    from SAMLungSegLib.training.data.leakage import chosen_by, seen_images, without_seen

    choice = model_choice_of(arguments)
    found = study_cases(arguments.data)
    cases = drawing_extent(found, arguments.extent)
    seen, is_test = seen_images(choice.name, choice.weights), arguments.split == "test"
    kept = without_seen(cases, seen) if is_test else chosen_by(cases, seen)
    model = choice.load(arguments.device)
    if model.capabilities.needs_prompt:
        raise ModelError(f"Model {choice.name} needs prompts; take lung-compact, or 'study zero-shot'.")
    folder = writable_folder(arguments.output)
    if len(cases) < len(found):
        print(f"{len(found) - len(cases)} images are left out: not {EXTENT_MASKS[arguments.extent]}.")
    if len(kept) < len(cases):
        reason = f"for {choice.name} has learned from them by its card" if is_test else "for they are not of that part"
        print(f"{len(cases) - len(kept)} images are left out, {reason}.")
    quality = measure_quality(
        kept,
        model,
        extent=arguments.extent,
        user=arguments.user,
        progress=lambda cases: tqdm(cases, desc="images", disable=None),
    )
    weights = choice.weights_sha256()
    digest = (weights.get("own") or weights[choice.name])[:12]
    images = "that it has not learned from" if is_test else "that its training was chosen by, not learned from"
    basis = (
        f"Model {choice.name} (SHA-256 {digest}); {len(kept)} images {images}. The masks of X-rays hold "
        f"{EXTENT_MASKS[arguments.extent]}."
    )
    files = write_quality_report(quality, folder, basis=basis, cases=kept, model=model)
    tables = (accuracy_table(quality.images), corrections_table(quality.corrections))
    print("\n" + "\n\n".join([basis, *(table_markdown(table, 4).rstrip() for table in tables)]))
    for path in files:
        print(path)
    return 0
