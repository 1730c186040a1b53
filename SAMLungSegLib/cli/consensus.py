"""`samlungseg consensus`: one labelmap of several readers' for each case, and how well the readers agree."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from SAMLungSegLib.cli.choices import given_path
from SAMLungSegLib.cli.labelmaps import (
    SharedCase,
    add_patient_options,
    bootstrap_of,
    paired_labelmaps,
    patients_of,
    shared_cases,
)
from SAMLungSegLib.cli.messages import once_with_count, say_failure
from SAMLungSegLib.errors import OutputError, SettingsError
from SAMLungSegLib.files import check_writable, real_path, writable_folder
from SAMLungSegLib.structures import LABEL_SETS, label_set

if TYPE_CHECKING:  # as in the other subcommands: nothing heavy before it is needed
    import pandas as pd

    from SAMLungSegLib.evaluation.consensus import Readings

METHODS = ("majority", "staple")  # those of evaluation.consensus
FORMATS = ("nii.gz", "nrrd", "seg.nrrd", "png")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "consensus",
        help="one reference of several readers, and their agreement",
        description="Makes one labelmap of those of several readers for each case, by majority or STAPLE, and "
        "measures the overlap of each two readers. READERs are files, or folders whose files are paired by name.",
    )
    parser.add_argument("readers", type=given_path, nargs="+", metavar="READER", help="two or more")
    parser.add_argument("-o", "--output", type=given_path, required=True, metavar="DIR", help="folder to write into")
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="majority",
        help="majority: what more than half of the readers say; staple: weighted by how reliable each seems",
    )
    parser.add_argument("--names", nargs="+", metavar="NAME", help="of the readers; default: reader 1, reader 2, ...")
    parser.add_argument("--format", choices=FORMATS, help="default: png for pictures, else nii.gz")
    parser.add_argument(
        "--structures",
        default="lungs",
        choices=[*LABEL_SETS],
        help="what the labels stand for; default: lungs, 1 = right, 2 = left",
    )
    add_patient_options(parser)
    parser.set_defaults(run=run, is_about_many=True)


def run(arguments: argparse.Namespace) -> int:
    import pandas as pd

    from SAMLungSegLib.evaluation.consensus import summarise_agreement

    names = _names(arguments)
    cases, left_out = _cases(arguments.readers, names)
    patients = patients_of(arguments, [case.name for case in cases])
    check_writable(arguments.output)
    if left_out:
        print(
            f"samlungseg: {len({*left_out.values()})} case(s) that not all readers have are left out.", file=sys.stderr
        )
    folder = writable_folder(arguments.output)
    made = [one for case in cases if (one := _made(case, names, arguments, folder)) is not None]
    if not made:
        return 2
    agreement, performance = (pd.concat([one[place] for one in made], ignore_index=True) for place in (1, 2))
    summary = summarise_agreement(agreement, patients=patients, bootstrap=bootstrap_of(arguments))
    _write(folder, agreement, summary, performance, left_out)
    _show(summary, [one[0] for one in made])
    return 0 if len(made) == len(cases) else 2


def _names(arguments: argparse.Namespace) -> list[str]:
    from SAMLungSegLib.evaluation.consensus import CONSENSUS

    count = len(arguments.readers)
    names = arguments.names or [f"reader {number}" for number in range(1, count + 1)]
    if count < 2:
        raise SettingsError("Labelmaps of one reader were given; a consensus needs two or more.")
    if len(names) != count or len({*names, CONSENSUS}) != count + 1:
        raise SettingsError(f"{len(names)} name(s) were given for {count} readers; give each another one.")
    return names


def _cases(readers: list[Path], names: list[str]) -> tuple[list[SharedCase], dict[Path, str]]:
    """Cases that all readers have, paired with the first one's files, and the case of each file that is left out."""
    from SAMLungSegLib.evaluation import case_name

    first, *others = readers
    cases, left_out = shared_cases(
        {name: paired_labelmaps(path, first) for name, path in zip(names[1:], others, strict=True)}
    )
    return cases, {one.path: case_name(one.name) for one in left_out}


def _made(
    case: SharedCase, names: list[str], arguments: argparse.Namespace, folder: Path
) -> tuple[Readings, pd.DataFrame, pd.DataFrame] | None:
    """The readings of a case, whose consensus is written, their agreement and STAPLE's estimates; None if it fails."""
    from SAMLungSegLib.evaluation import case_name
    from SAMLungSegLib.evaluation.consensus import consensus_of, reader_agreement, readings_of
    from SAMLungSegLib.volume import read_volume, write_labelmap

    try:
        volumes = [read_volume(path) for path in (case.reference, *case.labelmaps)]
        readings = readings_of(
            dict(zip(names, volumes, strict=True)),
            name=case_name(case.reference),
            label_set=label_set(arguments.structures),
        )
        consensus = consensus_of(readings, arguments.method)
        is_picture = not readings.frame.has_physical_spacing and 1 in readings.frame.size_kji
        extension = arguments.format or ("png" if is_picture else "nii.gz")
        path = folder / f"{readings.name}_mask.{extension}"
        if real_path(path) in {real_path(one) for one in (case.reference, *case.labelmaps)}:
            raise OutputError(
                f"{path} is the labelmap of a reader, which the consensus would replace; give another folder."
            )
        write_labelmap(consensus.labelmap_kji, readings.frame, path, label_set=readings.label_set)
    except Exception as error:  # whatever is wrong with one case must not cost those after it
        say_failure(error, case.reference)
        return None
    print(path)
    return readings, reader_agreement(readings, consensus.labelmap_kji), consensus.performance


def _write(
    folder: Path, agreement: pd.DataFrame, summary: pd.DataFrame, performance: pd.DataFrame, left_out: dict[Path, str]
) -> None:
    import pandas as pd

    from SAMLungSegLib.files import write_csv

    tables = {"agreement": agreement, "agreement_summary": summary, "staple": performance}
    tables["left_out"] = pd.DataFrame([{"case": case, "file": str(path)} for path, case in left_out.items()])
    for name, table in tables.items():
        path = folder / f"{name}.csv"
        if len(table):
            print(write_csv(table, path))
        else:
            path.unlink(missing_ok=True)  # of an earlier run


def _show(summary: pd.DataFrame, readings: list[Readings]) -> None:
    from SAMLungSegLib.evaluation import table_markdown
    from SAMLungSegLib.evaluation.consensus import readable_agreement_of_readers

    print(f"\nAgreement of readers\n\n{table_markdown(readable_agreement_of_readers(summary))}")
    for line in once_with_count((one.name, note) for one in readings for note in one.notes):
        print(line)
