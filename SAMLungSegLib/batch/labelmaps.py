"""The labelmaps in the output folder of a run, and the references that they are measured by."""

from __future__ import annotations

from pathlib import Path

from SAMLungSegLib.batch.cases import Case
from SAMLungSegLib.batch.discovery import labelmaps_below, with_references
from SAMLungSegLib.batch.journal import FAILED, JOURNAL_NAME, read_history
from SAMLungSegLib.batch.outputs import SEGMENTATIONS
from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.evaluation.pairs import Pair, Pairing, Unpaired, case_name
from SAMLungSegLib.volume import RESULT_EXTENSIONS

_ENDING = "_lungs"


def is_run(folder: Path) -> bool:
    """Whether a folder is the output folder of a run."""
    return (folder / JOURNAL_NAME).is_file() and (folder / SEGMENTATIONS).is_dir()


def labelmaps_of(folder: Path) -> dict[str, Path]:
    """The labelmaps that lie in the output folder of a run, by the id of their case."""
    found = {}
    for path in sorted((folder / SEGMENTATIONS).iterdir()):
        extension = next((one for one in RESULT_EXTENSIONS if path.name.endswith(f"{_ENDING}{one}")), None)
        if extension and not path.name.startswith("."):
            found[path.name.removesuffix(f"{_ENDING}{extension}")] = path
    return found


def pair_labelmaps(folder: Path, reference: Path) -> Pairing:
    """Pair the labelmaps of a run with references, as `find_cases` does with the images of its cohort.

    Args:
        folder: output folder of the run.
        reference: folder of labelmaps with all below it, or one labelmap.
    Raises:
        VolumeError: there is no labelmap, or none has a reference.
        BatchError: no reference is named like a case, or the journal cannot be read.
    """
    labelmaps, entries = labelmaps_of(folder), read_history(folder).entries
    if not labelmaps:
        raise VolumeError(f"{folder} holds no labelmap in {SEGMENTATIONS}; give the output folder of another run.")
    failed = {name: entry.row for name, entry in entries.items() if entry.state == FAILED and name not in labelmaps}
    images = {name: Path(str(entry.row.get("image") or name)) for name, entry in entries.items()}
    cases = with_references([Case(name, images.get(name, Path(name))) for name in [*labelmaps, *failed]], reference)
    pairs, unpaired = [], []
    for case in cases:
        if case.id in failed:
            unpaired.append(Unpaired(case.id, case.path, f"it failed in the run: {failed[case.id].get('reason')}"))
        elif case.reference is None:
            unpaired.append(Unpaired(case.id, labelmaps[case.id], "there is no reference of its name"))
        else:
            pairs.append(Pair(case.id, labelmaps[case.id], case.reference))
    taken = {_place(case.reference) for case in cases if case.reference}  # an image beside its reference is no other
    unpaired += [
        Unpaired(case_name(path), path, "there is no prediction of its name")
        for path in labelmaps_below(reference)
        if _place(path) not in taken
    ]
    pairing = Pairing(tuple(pairs), tuple(unpaired))
    if not pairs:
        raise VolumeError(f"No labelmap of {folder} has a reference. {pairing.unpaired_text()}.")
    return pairing


def _place(path: Path) -> tuple[Path, str]:
    return path.parent, case_name(path)
