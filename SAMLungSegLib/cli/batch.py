"""`samlungseg batch`: a cohort in, labelmaps and one table out; it goes on where it stopped."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from SAMLungSegLib.cli.choices import (
    add_cache_choice,
    add_image_choices,
    add_lung_choices,
    add_model_choices,
    given_path,
    model_choice_of,
    options_of,
    whole_number_from,
)
from SAMLungSegLib.results import FORMATS, OVERLAY_CHOICES

if TYPE_CHECKING:  # as in the other subcommands: nothing heavy before it is needed
    from SAMLungSegLib.batch import BatchResult, Settings

SOME_FAILED = 2


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "batch",
        help="segment a cohort: resumable, with one table and a report over all",
        description="Segments all images of each INPUT into DIR, with table.csv and summary.html over all. Give the "
        "same command again to go on after it was stopped, or to add new images.",
    )
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="folder (with all below it), list (.csv, .json), 'pattern' or file"
    )
    parser.add_argument("-o", "--output", type=given_path, required=True, metavar="DIR", help="folder to write into")
    parser.add_argument(
        "--reference",
        type=given_path,
        metavar="DIR",
        help="labelmaps named as the images, to measure by; default: none",
    )
    parser.add_argument("--format", choices=FORMATS, help="default: png for PNG, JPEG and TIFF input, else seg.nrrd")
    add_image_choices(parser)
    add_lung_choices(parser)
    add_model_choices(parser)
    add_cache_choice(parser)
    parser.add_argument(
        "--overlays",
        choices=OVERLAY_CHOICES,
        default="small",
        help="pictures of each case: none, small ones for the report, or full, which adds those of segment --overlay",
    )
    parser.add_argument(
        "--no-overlay", dest="overlays", action="store_const", const="none", help="the same as --overlays none"
    )
    parser.add_argument("--retry-failed", action="store_true", help="try cases again that failed before")
    parser.add_argument(
        "--workers", type=whole_number_from(1), default=1, metavar="N", help="processes on this machine (Dask)"
    )
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="Dask scheduler whose workers do the work; default: none"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done and how long it may take")
    parser.set_defaults(run=run, is_about_many=True)


def run(arguments: argparse.Namespace) -> int:
    """Run or preview; 2 when a case failed."""
    from SAMLungSegLib import batch

    if arguments.dry_run:
        return _preview(arguments)
    with _bar() as progress, _stopped_by_sigterm():
        result = batch.run(
            arguments.inputs,
            arguments.output,
            _settings(arguments),
            reference=arguments.reference,
            retry_failed=arguments.retry_failed,
            workers=arguments.workers,
            scheduler=arguments.scheduler,
            progress=progress,
        )
    _show(result)
    return SOME_FAILED if result.failed else 0


def _settings(arguments: argparse.Namespace) -> Settings:
    from SAMLungSegLib.batch import Settings

    return Settings(
        options_of(arguments),
        model_choice_of(arguments),
        arguments.device,
        arguments.format,
        arguments.overlays,
    )


def _preview(arguments: argparse.Namespace) -> int:
    from SAMLungSegLib.batch import estimate, preview
    from SAMLungSegLib.batch.journal import read_history

    plan = preview(
        arguments.inputs,
        arguments.output,
        _settings(arguments),
        reference=arguments.reference,
        retry_failed=arguments.retry_failed,
    )
    print(f"{len(plan.tasks)} cases to do, {len(plan.kept)} done already, {len(plan.failed)} failed before.")
    if plan.touched:
        print(f"{plan.touched} of them have files of another time; they are done again only where the image changed.")
    if plan.drawn:
        print(f"{plan.drawn} of them only get the pictures that are missing.")
    if len(plan.tasks) > plan.drawn:
        guess = estimate(plan.tasks, read_history(arguments.output).entries.values())
        seconds = guess.seconds(arguments.workers)
        if seconds is not None:
            how = "earlier cases took" if guess.is_from_journal else "a first try took"
            print(f"{guess.slices} slices, about {_readable(seconds)}: {how} {guess.seconds_per_slice:.3g} s a slice.")
    return 0


def _readable(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _show(result: BatchResult) -> None:
    rest = result.cases - len(result.rows)
    print(
        f"{result.cases} case{'' if result.cases == 1 else 's'}: {result.done} done, {len(result.failed)} failed"
        + (f", {rest} to do" if rest else "")
        + f"; {result.processed} of them in this run."
    )
    for path in result.files:
        print(path)


@contextmanager
def _bar() -> Iterator[object]:
    """A progress bar over cases that shows rate and remaining time."""
    from tqdm import tqdm

    with tqdm(desc="cases", unit="case", disable=None, file=sys.stderr) as bar:

        def show(done: int, total: int) -> None:
            if bar.total is None:  # what was done before does not count in the rate
                bar.total, bar.initial, bar.n = total, done - 1, done - 1
            bar.update(done - bar.n)

        yield show


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """A cluster's request to stop ends the run as Ctrl-C does."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
