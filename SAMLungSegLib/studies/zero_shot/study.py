"""The zero-shot study: how well a model predicts from prompts computed from the reference (Gutiérrez et al. 2024).

Each slice with lung is encoded once and predicted once for each step of algorithm 1. Slices without lung are counted
only. What is done is kept case by case in the output folder's journal; the same command goes on from there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from SAMLungSegLib.batch.journal import DONE, FAILED, JOURNAL_NAME, Entry, Journal
from SAMLungSegLib.documents import DocumentError, read_json
from SAMLungSegLib.errors import OutputError, SAMLungSegError, SettingsError, VolumeError
from SAMLungSegLib.files import as_output_error, file_signature, writable_folder, write_text
from SAMLungSegLib.modality import Modality
from SAMLungSegLib.models.base import Embedding, PromptableModel
from SAMLungSegLib.models.choice import ModelChoice
from SAMLungSegLib.models.registry import model_spec
from SAMLungSegLib.prompts.reference import BOX, MODES, Mode
from SAMLungSegLib.studies.predictions import predicted_mask, scores, slice_prompts
from SAMLungSegLib.studies.zero_shot.statistics import METRICS
from SAMLungSegLib.training.data.cases import StudyCase, Windowing, first_of_each, study_cases
from SAMLungSegLib.training.data.leakage import SeenImages, seen_images, without_seen
from SAMLungSegLib.volume.folders import files_of
from SAMLungSegLib.volume.telling import many_images

SETTINGS_NAME = "study.json"
SCHEMA = "samlungseg-zero-shot/1"
SLICES_AT_ONCE = 8


@dataclass(frozen=True)
class ZeroShotSettings:
    """How the study is made.

    Attributes:
        model: which one predicts.
        device: 'auto', 'cpu', 'cuda', 'cuda:1', 'mps'.
        mode: of algorithm 1.
        window: see `Windowing.parse`.
        modality: of all images; None to tell it for each.
        limit: at most so many images of each subset, the first by name.
        ablation_slices: that all four steps are predicted for, spread over the images; None for all.
        negatives: most negative points to add on the slice that has most need of them.
        include_training_images: whether images that the model has learned from stay in.
    Raises:
        SettingsError: an unknown mode, or a number that is not possible.
        IntensityError: an unknown window.
    """

    model: ModelChoice = field(default_factory=ModelChoice)
    device: str = "auto"
    mode: Mode = "improved"
    window: str = "auto"
    modality: Modality | None = None
    limit: int | None = None
    ablation_slices: int | None = None
    negatives: int = 5
    include_training_images: bool = False

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise SettingsError(f"There is no mode '{self.mode}' of algorithm 1; choose one of {', '.join(MODES)}.")
        if self.limit is not None and self.limit < 1:
            raise SettingsError(f"A limit of {self.limit} images leaves none; give 1 or more.")
        if min(self.ablation_slices or 0, self.negatives) < 0:
            raise SettingsError("Numbers of slices and of negative points are not negative; give 0 for none.")
        _ = self.windowing

    @property
    def windowing(self) -> Windowing:
        """How slices of a CT are seen."""
        return Windowing.parse(self.window, model_spec(self.model.name).capabilities)


@dataclass(frozen=True, eq=False)
class ZeroShotResult:
    """What was measured.

    Attributes:
        settings: that it was made with.
        cases: that were measured, by id.
        per_slice: one row for each slice: subset, volume (id of the case), slice (0 at the inferior end), empty,
            reference_voxels, prediction_voxels, jaccard, dice; metrics are NaN where the reference is empty.
        ablation: columns subset, volume, slice, step, jaccard, dice; empty where it was not made.
        left_out: how many cases the model had learned from, and were left out.
        seen: what it learned from.
        failed: reason for each case that could not be read.
        weights_sha256: of the model, by name.
    """

    settings: ZeroShotSettings
    cases: dict[str, StudyCase]
    per_slice: pd.DataFrame
    ablation: pd.DataFrame
    left_out: int
    seen: SeenImages
    failed: dict[str, str]
    weights_sha256: dict[str, str]


def run_zero_shot(
    data: Path, output: Path, settings: ZeroShotSettings | None = None, *, overwrite: bool = False
) -> ZeroShotResult:
    """Measure all images of `data` that were not measured before.

    Args:
        data: see `study_cases`.
        output: keeps the journal; created if it does not exist.
        settings: how.
        overwrite: forget what the folder holds of an earlier study.
    Raises:
        VolumeError: there are no pairs, none of them could be read, or no slice has lung.
        OutputError: the folder holds a study that was made otherwise.
        ModelError: as `load_model`, or the model has learned from all of the images.
        BatchError: another run writes to the folder.
    """
    settings = settings or ZeroShotSettings()
    found = study_cases(data, settings.modality)
    seen = seen_images(settings.model.name, settings.model.weights)
    kept = found if settings.include_training_images else without_seen(found, seen)
    cases = first_of_each(kept, settings.limit)
    weights = settings.model.weights_sha256()
    folder = writable_folder(output)
    fingerprint = _claim(folder, _decisive(settings, weights, len(cases)), overwrite)
    with Journal(folder) as journal:
        _measure_all(cases, settings, journal, fingerprint)
        ended = {case.id: journal.history.entries[case.id] for case in cases}
    done = {case.id: case for case in cases if ended[case.id].state == DONE}
    failed = {name: entry.row["reason"] for name, entry in ended.items() if entry.state == FAILED}
    if not done:
        raise VolumeError(f"None of {len(cases)} images could be used; the first: {next(iter(failed.values()))}")
    per_slice, ablation = _tables(done, ended)
    if per_slice["empty"].all():
        raise VolumeError(f"None of the {len(per_slice)} slices in {data} has lung in its reference; check the masks.")
    return ZeroShotResult(settings, done, per_slice, ablation, len(found) - len(kept), seen, failed, weights)


def _decisive(settings: ZeroShotSettings, weights_sha256: dict[str, str], cases: int) -> dict[str, Any]:
    """What changes the numbers of an image, readable and comparable."""
    windowing, model, wanted = settings.windowing, settings.model, settings.ablation_slices
    return {
        "schema": SCHEMA,
        "model": model.name,
        "weights": weights_sha256.get("own") or weights_sha256[model.name],
        "card": weights_sha256.get("card"),
        "input_size": model.input_size,
        "precision": model.dtype,
        "mode": settings.mode,
        "modality": settings.modality,
        "window": f"{windowing.window.width:g}/{windowing.window.level:g}"
        + (", stretched" if windowing.stretched else ""),
        "ablation_slices": "all" if wanted is None else f"{wanted} spread over {cases} images",
    }


def _claim(folder: Path, decisive: dict[str, Any], overwrite: bool) -> str:
    """Make the folder one of a study with these settings; a digest of them.

    Raises:
        OutputError: it holds results of other settings, or what is in it cannot be removed.
        BatchError: another run writes to it.
    """
    path = folder / SETTINGS_NAME
    if overwrite:
        with Journal(folder):  # refused while another run is writing to it
            pass
        for name in (JOURNAL_NAME, SETTINGS_NAME):
            with as_output_error(folder / name):
                (folder / name).unlink(missing_ok=True)
    if path.is_file():
        _check_same(path, decisive)
    else:
        write_text(json.dumps(decisive, indent=2) + "\n", path)
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


def _check_same(path: Path, decisive: dict[str, Any]) -> None:
    try:
        before = read_json(path)
        changed = [name for name in decisive if before.get(name) != decisive[name]]
    except (DocumentError, AttributeError) as error:
        raise OutputError(f"{path} cannot be read ({error}); give another folder, or --overwrite.") from error
    if changed:
        what = "; ".join(f"{name} was {before.get(name)} and is now {decisive[name]}" for name in changed)
        raise OutputError(
            f"{path.parent} holds a study that was made otherwise ({what}); give the same settings to go on, another "
            "folder, or --overwrite to start anew."
        )


@many_images("measuring")
def _measure_all(cases: Sequence[StudyCase], settings: ZeroShotSettings, journal: Journal, fingerprint: str) -> None:
    """Measure what the journal does not have; failed cases are tried again."""
    quotas = dict(zip((case.id for case in cases), _quotas(len(cases), settings.ablation_slices), strict=True))
    todo = [case for case in cases if not _is_done(journal.history.entries.get(case.id), case, fingerprint)]
    if not todo:
        return
    model = settings.model.load(settings.device)
    with tqdm(total=len(cases), initial=len(cases) - len(todo), desc="images", unit="image", disable=None) as bar:
        for case in todo:
            journal.finish(case.id, _measured(case, model, settings, quotas[case.id], fingerprint))
            bar.update()


def _quotas(cases: int, wanted: int | None) -> list[int | None]:
    """How many slices of each case are predicted with all steps; None for all."""
    if wanted is None:
        return [None] * cases
    return [(index + 1) * wanted // cases - index * wanted // cases for index in range(cases)]


def _is_done(entry: Entry | None, case: StudyCase, fingerprint: str) -> bool:
    return entry is not None and (entry.state, entry.fingerprint, entry.stamp) == (DONE, fingerprint, _stamp(case))


def _stamp(case: StudyCase) -> str:
    return file_signature([*files_of(case.image), *files_of(case.mask)])


def _measured(
    case: StudyCase, model: PromptableModel, settings: ZeroShotSettings, quota: int | None, fingerprint: str
) -> Entry:
    entry = Entry(DONE, fingerprint, _stamp(case), None, {}, {})
    try:
        greys, labels = case.read(settings.windowing)
    except SAMLungSegError as error:
        return replace(entry, state=FAILED, row={"reason": str(error)})
    with_lung = [number for number, labels_hw in enumerate(labels) if labels_hw.any()]
    ablated = set(with_lung if quota is None else _spread(with_lung, quota))
    rows = [{"reference_voxels": 0} for _ in labels]
    for number, embedding in _encoded(model, greys, with_lung):
        reference = labels[number] > 0
        steps = slice_prompts(model, labels[number], settings.mode, f"{case.id}/{number}")
        wanted = steps if number in ablated else {BOX: steps[BOX]}
        predictions = {step: predicted_mask(model, embedding, prompts) for step, prompts in wanted.items()}
        rows[number] = {
            "reference_voxels": int(np.count_nonzero(reference)),
            "prediction_voxels": int(np.count_nonzero(predictions[BOX])),
            "scores": {step: scores(reference, prediction) for step, prediction in predictions.items()},
        }
    return replace(entry, row={"slices": rows})


def _spread(numbers: Sequence[int], count: int) -> list[int]:
    """At most `count` of the numbers, evenly spaced."""
    if count >= len(numbers):
        return list(numbers)
    return [numbers[index] for index in np.linspace(0, len(numbers), count, endpoint=False).astype(int)]


def _encoded(
    model: PromptableModel, greys: Sequence[np.ndarray], numbers: Sequence[int]
) -> Iterator[tuple[int, Embedding]]:
    with tqdm(total=len(numbers), desc="slices", unit="slice", leave=False, disable=_few(numbers)) as bar:
        for start in range(0, len(numbers), SLICES_AT_ONCE):
            chunk = numbers[start : start + SLICES_AT_ONCE]
            for number, embedding in zip(chunk, model.encode([greys[number] for number in chunk]), strict=True):
                yield number, embedding
                bar.update()


def _few(numbers: Sequence[int]) -> bool | None:
    """What tqdm takes as `disable`: no bar for a picture; None shows one on a terminal only."""
    return True if len(numbers) < 2 else None


def _tables(done: Mapping[str, StudyCase], ended: Mapping[str, Entry]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table of slices and that of the steps, from what the journal holds."""
    slices, steps = [], []
    for name, case in done.items():
        for number, row in enumerate(ended[name].row["slices"]):
            place = {"subset": case.subset, "volume": name, "slice": number}
            measured = row.get("scores", {})
            slices.append(
                {
                    **place,
                    "empty": not measured,
                    "reference_voxels": row["reference_voxels"],
                    "prediction_voxels": row.get("prediction_voxels", 0),
                    **measured.get(BOX, dict.fromkeys(METRICS, nan)),
                }
            )
            if len(measured) > 1:
                steps += [{**place, "step": step, **values} for step, values in measured.items()]
    columns = ["subset", "volume", "slice", "step", *METRICS]
    return pd.DataFrame(slices), pd.DataFrame(steps, columns=columns)
