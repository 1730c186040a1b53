"""`samlungseg compare`: two methods on the same cases, by one reference, with paired statistics."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from SAMLungSegLib.cli.choices import given_path
from SAMLungSegLib.cli.labelmaps import (
    SharedCase,
    add_label_options,
    add_patient_options,
    bootstrap_of,
    label_options,
    paired_labelmaps,
    patients_of,
    shared_cases,
)
from SAMLungSegLib.cli.messages import once_with_count, say_failure
from SAMLungSegLib.files import check_writable

if TYPE_CHECKING:  # as in the other subcommands: nothing heavy before it is needed
    from SAMLungSegLib.evaluation import Unpaired
    from SAMLungSegLib.evaluation.comparison import ComparedCase, Comparison


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "compare",
        help="two methods by one reference: paired differences, intervals, tests, Bland-Altman plots",
        description="Compares the labelmaps of two methods with references, paired by name as in 'samlungseg "
        "evaluate': differences A - B of all metrics with intervals and Wilcoxon's test, and agreement of sizes.",
    )
    for name in ("a", "b"):
        parser.add_argument(
            name,
            type=given_path,
            metavar=name.upper(),
            help=f"labelmap, folder of labelmaps, or of a 'samlungseg batch', of method {name.upper()}",
        )
    parser.add_argument("reference", type=given_path, metavar="REFERENCE", help="labelmap, or folder of labelmaps")
    parser.add_argument(
        "-o",
        "--output",
        type=given_path,
        metavar="DIR",
        help="also write tables, plots and a report here; default: print only",
    )
    parser.add_argument("--names", nargs=2, metavar=("A", "B"), help="of the methods; default: A and B")
    add_patient_options(parser)
    add_label_options(parser)
    parser.set_defaults(run=run, is_about_many=True)


def run(arguments: argparse.Namespace) -> int:
    from SAMLungSegLib.evaluation import Unpaired
    from SAMLungSegLib.evaluation.comparison import compare

    options = label_options(arguments)
    methods = {"A": arguments.a, "B": arguments.b}
    cases, left_out = shared_cases(
        {name: paired_labelmaps(path, arguments.reference) for name, path in methods.items()}
    )
    patients = patients_of(arguments, [case.name for case in cases])
    if arguments.output is not None:
        check_writable(arguments.output)
    if left_out:
        print(f"samlungseg: {_told(left_out)}. The others are compared.", file=sys.stderr)
    compared, failed = _evaluated(cases, patients, options)
    if not compared:
        return 2
    names = tuple(arguments.names) if arguments.names else ("A", "B")
    not_measured = [*left_out, *(Unpaired(case.name, case.reference, text) for case, text in failed.items())]
    _show(compare(compared, names=names, bootstrap=bootstrap_of(arguments)), arguments.output, not_measured)
    return 2 if failed else 0


def _told(left_out: list[Unpaired]) -> str:
    from SAMLungSegLib.evaluation import Pairing

    return Pairing((), tuple(left_out)).unpaired_text()


def _evaluated(
    cases: list[SharedCase], patients: dict[str, str], options: dict[str, object]
) -> tuple[list[ComparedCase], dict[SharedCase, str]]:
    """Cases that can be measured for both; the reason, also said on one line, of each other one."""
    from dataclasses import replace

    from tqdm import tqdm

    from SAMLungSegLib.evaluation import evaluate
    from SAMLungSegLib.evaluation.comparison import ComparedCase
    from SAMLungSegLib.metrics import METRICS
    from SAMLungSegLib.volume import read_volume

    whole = [replace(metric, per_slice=False) for metric in METRICS]  # slices would take most of the time
    compared, failed = [], {}
    for case in tqdm(cases, desc="comparing", unit="case", disable=None):
        try:
            reference = read_volume(case.reference)
            a, b = (
                evaluate(read_volume(path), reference, metrics=whole, name=case.name, **options)
                for path in case.labelmaps
            )
            compared.append(ComparedCase(a, b, patients.get(case.name, case.name)))
        except Exception as error:  # whatever is wrong with one case must not cost those after it
            failed[case] = str(error)
            say_failure(error, case.reference)
    return compared, failed


def _show(comparison: Comparison, folder: Path | None, not_measured: list[Unpaired]) -> None:
    """Print both tables and the notes, and write the report where a folder is given."""
    from SAMLungSegLib.evaluation import table_markdown
    from SAMLungSegLib.evaluation.comparison_report import (
        readable_agreement,
        readable_differences,
        write_comparison,
    )

    print(f"Differences\n\n{table_markdown(readable_differences(comparison))}")
    print(f"Agreement of sizes\n\n{table_markdown(readable_agreement(comparison))}")
    for line in once_with_count(comparison.notes):
        print(line)
    if folder is not None:
        for path in write_comparison(comparison, folder, not_measured=not_measured):
            print(path)
