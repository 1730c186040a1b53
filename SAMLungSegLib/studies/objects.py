"""What the studies of organs share: their slices, and Dice with intervals by patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from SAMLungSegLib.adaptation.slices import AdaptationData, ReadingOptions, data_of, read_cases
from SAMLungSegLib.evaluation.intervals import Bootstrap
from SAMLungSegLib.models.checkpoints import file_sha256
from SAMLungSegLib.models.choice import BaseCheckpoint
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.studies.curvas import curvas_cases, is_curvas
from SAMLungSegLib.training.data.cases import data_sha256
from SAMLungSegLib.training.data.leakage import seen_images
from SAMLungSegLib.training.scores import FEWEST_SURE

INTERVALS = (
    "Intervals are at 95 %, by a bootstrap over patients (over images where nobody says whose they are); those of few "
    "patients are rough"
)


def study_objects(data: Path, reading: ReadingOptions) -> AdaptationData:
    """The slices of a manifest, of a folder, or of the CURVAS challenge (see `curvas`), in three parts.

    Raises:
        VolumeError, GeometryError, SettingsError: as `adaptation.read_data`.
    """
    cases = curvas_cases(data) if is_curvas(data) else read_cases(data, reading.organs)
    return data_of(cases, reading)


def about(data: AdaptationData) -> str:
    """How many slices, objects and patients each part has, in a sentence."""
    texts = []
    for name, slices in (("training", data.training), ("validation", data.validation), ("held out", data.held_out)):
        patients = {one.patient or one.image for one in slices}
        objects = sum(len(one.organs) for one in slices)
        texts.append(f"{name} {len(slices)} slices of {len(patients)} patients or images with {objects} objects")
    small = f"; {data.left_out} objects were too small and left out" if data.left_out else ""
    is_told = all(one.patient for one in (*data.training, *data.validation, *data.held_out))
    apart = "No patient is in two parts" if is_told else "No image is in two parts; whose they are is not said of all"
    return f"Organs: {', '.join(data.organs)}. Slices: {'; '.join(texts)}{small}. {apart}."


def judged_on(base: BaseCheckpoint, data: AdaptationData) -> str:
    """What figures were measured on, for the note under tables: how many patients, and whether the base knew them."""
    patients = {one.patient or one.image for one in data.held_out}
    images = {one.image for one in data.held_out}
    rough = ", so few that intervals are rough" if len(patients) < FEWEST_SURE else ""
    seen = seen_images(base.name, base.weights)
    known = sum(seen.include(case) for case in data.cases if case.name in images)
    told = (
        f" The base has learned from {known} of these {len(images)} images: its figures are too good." if known else ""
    )
    return f"the held-out part only, {len(patients)} patients or images{rough}.{told}"


def mean_dice(objects: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean Dice over objects, with its interval at 95 % by a bootstrap over patients (images where nobody says whose).

    Args:
        objects: one row an object: image, patient, dice, and the columns `by`.
        by: what makes the rows.
    Returns:
        Columns `by`, objects, patients, Dice, low, high; the last two NaN where there is one patient only.
    """
    bootstrap, rows = Bootstrap(), []
    for key, group in objects.groupby(list(by), sort=False):
        patients = [patient or image for patient, image in zip(group["patient"], group["image"], strict=True)]
        interval = bootstrap.of_mean(group["dice"].to_numpy(), patients)
        values = {"objects": len(group), "patients": len(set(patients)), "Dice": group["dice"].mean()}
        rows.append({**dict(zip(by, key, strict=True)), **values, "low": interval.low, "high": interval.high})
    return pd.DataFrame(rows, columns=[*by, "objects", "patients", "Dice", "low", "high"])


def study_facts(
    base: BaseCheckpoint,
    model: TrainableModel,
    data: AdaptationData,
    reading: ReadingOptions,
    kinds: tuple[str, ...],
) -> dict[str, Any]:
    """What decides the numbers of every piece: weights, slices, and how both are used."""
    return {
        "base": base.name,
        "base_sha256": file_sha256(base.path),
        "input_size": model.input_size,
        "data_sha256": data_sha256(data.cases),
        "split": asdict(data.split),
        "organs": list(data.organs),
        "reading": {**asdict(reading), "windowing": repr(reading.windowing)},
        "kinds": list(kinds),
    }
