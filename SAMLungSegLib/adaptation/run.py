"""From data to weights: trained, judged on slices that were held out, and exported only if these get better."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

from SAMLungSegLib.adaptation.method import Measure, Method
from SAMLungSegLib.adaptation.pictures import HeldOutPictures
from SAMLungSegLib.adaptation.prompts import accepted_kinds
from SAMLungSegLib.adaptation.slices import (
    AdaptationData,
    ObjectExample,
    ReadingOptions,
    all_examples,
    read_data,
)
from SAMLungSegLib.adaptation.task import (
    AdaptationTask,
    AdaptConfig,
    Predict,
    embedding_of,
    fixed_prompts,
    with_embeddings,
)
from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.files import check_written, write_csv, write_text
from SAMLungSegLib.metrics import dice, jaccard
from SAMLungSegLib.models.base import Embedding, PromptableModel
from SAMLungSegLib.models.cached import cached
from SAMLungSegLib.models.choice import BaseCheckpoint
from SAMLungSegLib.models.trainable import TrainableModel
from SAMLungSegLib.prompts import PromptSet
from SAMLungSegLib.training.data.splits import Split
from SAMLungSegLib.training.figures import before_and_after, learning_curve
from SAMLungSegLib.training.fine_tune import data_facts, target_path
from SAMLungSegLib.training.scores import Comparison, compared
from SAMLungSegLib.training.trainer import Trained, Trainer, TrainerSettings, Watch, copied, with_state

CHECKPOINT_NAME = "adaptation.pt"
ALL_PROMPTS = "all"
KEYS = ["image", "slice", "patient", "organ", "prompt"]


@dataclass(frozen=True)
class AdaptOptions:
    """How `adapt` is made.

    Attributes:
        config: of the training.
        terms: on which the images may be used, for the card.
    """

    config: AdaptConfig = field(default_factory=lambda: AdaptConfig(steps=500))
    terms: str = "not stated"


@dataclass(frozen=True, eq=False)
class AdaptResult:
    """How an adaptation ended.

    Attributes:
        weights: what was adopted; None where it was not better.
        measure: what was compared: Dice, or the accuracy of the organs' names, before that of the most frequent one.
        comparisons: of it on held-out images or patients, for each kind of prompts, and for 'all' of them together,
            which decides.
        table: Dice and Jaccard of each held-out object before and after, by image, slice, patient, organ and prompt.
        history: of the training, a row an epoch.
        unit: what the comparisons pair: 'patients' where these are known, else 'images'.
        parameters: how many weights were trained.
    """

    weights: Path | None
    measure: Measure
    comparisons: dict[str, Comparison]
    table: pd.DataFrame
    history: pd.DataFrame
    unit: str
    parameters: int

    @property
    def verdict(self) -> Comparison:
        """Over all kinds of prompts."""
        return self.comparisons[ALL_PROMPTS]


def reading_for(method: Method, options: ReadingOptions | None = None) -> ReadingOptions:
    """How data are read for a method: with the neighbours that it looks at, without the parts that it leaves out."""
    return replace(
        options or ReadingOptions(),
        slices_per_input=method.slices_per_input,
        smallest_part_voxels=method.smallest_part_voxels,
        smallest_part_px=method.smallest_part_px,
        smallest_share=method.smallest_share,
        sees_volume=method.sees_volume,
    )


def adapt(
    model: TrainableModel,
    base: BaseCheckpoint,
    data: Path | AdaptationData,
    folder: Path,
    method: Method,
    options: AdaptOptions | None = None,
    *,
    reading: ReadingOptions | None = None,
    watch: Watch | None = None,
) -> AdaptResult:
    """Adapt a model to the objects of some data and export what was trained if held-out objects are segmented better.

    Writes into `folder`: `<model>-<method>.safetensors` with its card where it was adopted; `held_out.csv`,
    `organs.csv`, `comparison.json`, `comparison.png`, `held_out.png`, `history.csv` and `learning_curve.png` in any
    case. The run itself lies in `run` and is continued from there, with the same numbers.

    Args:
        model: as loaded from `base`; it keeps what the method adds to it, untrained.
        base: what is adapted.
        data: to read, or as read by `read_data` with `reading_for(method)`.
        folder: where to write.
        method: how, see `method_from`.
        options: of the training.
        reading: of data that are to be read.
        watch: told of each epoch, and may stop the training.
    Raises:
        CancelledError: the watch said so.
        VolumeError, GeometryError, IntensityError: as `read_data`.
        SettingsError: a kind of prompts that the model does not accept.
        ModelError: the model cannot be adapted by this method.
    """
    options = options or AdaptOptions()
    reading = reading_for(method, reading)
    if isinstance(data, Path):
        data = read_data(data, reading)
    split = data.split
    if split is None:
        raise VolumeError("The data say nothing of their images; read them with read_data.")
    kinds = accepted_kinds(model, method.prompt_kinds)
    pictures = HeldOutPictures.of(data)
    base_encoder = cached(model)
    names = method.measures == "accuracy"
    guess = _guess(data) if names else None
    before = judged(base_encoder, model, data, kinds, _plain(model), pictures.note_before, guess)

    torch.manual_seed(options.config.seed)
    learner = method.model_for(model)
    trained = method.prepare(learner, data.organs)
    if not method.encodes:
        data = encoded(learner, data)
    task = AdaptationTask(learner, method, trained, data, options.config)
    run = train(task, folder / "run", watch)
    with _with_weights(task, run):
        predict = _of(method, learner)
        measure = partial(method.measure, learner) if names else None
        after = judged(learner, learner, data, method.kinds(learner), predict, pictures.note_after, measure)
        table = before.merge(after, on=KEYS, suffixes=("_before", "_after"))
        unit, comparisons = compared_by_prompt(table, method.measures)
        history = pd.DataFrame(run.history)
        written = _written(folder, method, table, comparisons, history, run, unit)
        written.append(pictures.draw(folder / "held_out.png", data.organs))
        weights = None
        if comparisons[ALL_PROMPTS].is_better:
            facts = _facts(base, data, split, method, options, reading, comparisons, run)
            weights = method.export(target_path(folder, base, method.name), learner, base, facts)
            written += [weights, weights.with_suffix(".json")]
    check_written(written)
    parameters = sum(one.numel() for group in method.parameters(learner, trained, 0) for one in group["params"])
    return AdaptResult(weights, method.measures, comparisons, table, history, unit, parameters)


def encoded(model: TrainableModel, data: AdaptationData) -> AdaptationData:
    """The data with embeddings, which are kept on disk as well, for the next run."""
    encoder = cached(model)
    training, validation, held_out = (
        with_embeddings(encoder, tqdm(slices, desc="encoding", unit="slice", disable=None))
        for slices in (data.training, data.validation, data.held_out)
    )
    return replace(data, training=training, validation=validation, held_out=held_out)


def _plain(model: TrainableModel) -> Predict:
    return lambda embedding, one, prompts: model.decode(embedding, prompts).logits > 0


def _of(method: Method, model: TrainableModel) -> Predict:
    return lambda embedding, one, prompts: method.predict(model, embedding, one, prompts)


def judged(
    encoder: PromptableModel,
    model: TrainableModel,
    data: AdaptationData,
    kinds: Sequence[str],
    predict: Predict,
    note: Callable[..., None] = lambda *_: None,
    measure: Callable[[Embedding, ObjectExample, PromptSet], float] | None = None,
) -> pd.DataFrame:
    """Dice and Jaccard of each held-out object for each kind of prompts, the same ones for every model.

    Args:
        encoder: of the slices that have no embedding; `model` or what keeps its embeddings.
        model: that predicts.
        data: of which the held-out part is judged.
        kinds: of prompts.
        predict: the mask of an object.
        note: told of each object, its prompts and its mask.
        measure: whether the organ of an object is named right, 1 or 0; None where none is named.
    Returns:
        Columns image, slice, patient, organ, prompt, dice, jaccard, and accuracy where organs are named.
    """
    rows: list[dict[str, Any]] = []
    with torch.inference_mode():
        for one in tqdm(data.held_out, desc="measuring", unit="slice", leave=False, disable=None):
            embedding = embedding_of(model, encoder, one)
            for example in one.examples():
                for kind in kinds:
                    prompts = fixed_prompts(example, kind)
                    mask = predict(embedding, one, prompts)
                    note(example, kind, prompts, mask)
                    facts = (one.image, one.number, one.patient, data.organs[example.organ - 1], kind)
                    scores = {"dice": dice(example.mask_hw, mask), "jaccard": jaccard(example.mask_hw, mask)}
                    if measure is not None:
                        scores["accuracy"] = measure(embedding, example, prompts)
                    rows.append(dict(zip(KEYS, facts, strict=True)) | scores)
    return pd.DataFrame(rows)


def _guess(data: AdaptationData) -> Callable[[Embedding, ObjectExample, PromptSet], float]:
    """Whether an organ is the one with most objects in the training part: what organs are called without learning."""
    counts = Counter(one.organ for one in all_examples(data.training))
    most = max(counts, key=counts.__getitem__)
    return lambda _embedding, example, _prompts: float(example.organ == most)


def compared_by_prompt(table: pd.DataFrame, measure: Measure = "dice") -> tuple[str, dict[str, Comparison]]:
    """What is paired, 'patients' where these are known, else 'images', and before and after by kind of prompts.

    Args:
        table: as of `AdaptResult`.
        measure: what is compared.
    """
    is_told = bool((table["patient"] != "").all())
    unit = "patient" if is_told else "image"
    comparisons = {}
    for kind in (ALL_PROMPTS, *table["prompt"].unique()):
        rows = table if kind == ALL_PROMPTS else table[table["prompt"] == kind]
        means = rows.groupby(unit)[[f"{measure}_before", f"{measure}_after"]].mean()
        comparisons[kind] = compared(means[f"{measure}_before"], means[f"{measure}_after"])
    return f"{unit}s", comparisons


def train(task: AdaptationTask, folder: Path, watch: Watch | None = None) -> Trained:
    """Train a method, or what is left of it; the network has its former weights afterwards.

    Raises:
        CancelledError: the watch said so.
    """
    config = task.config
    settings = TrainerSettings(config.epochs, "best", config.patience, mixed_precision=task.method.encodes)
    task.model.recompute_activations(config.checkpointing and task.method.encodes)
    with task.model.threads(), with_state(task.network, copied(task.network.state_dict())):
        try:
            return Trainer(task, settings, folder / CHECKPOINT_NAME, title=task.method.name, watch=watch).run()
        finally:
            task.model.network.requires_grad_(False)
            task.model.network.zero_grad(set_to_none=True)
            task.model.recompute_activations(False)


@contextmanager
def _with_weights(task: AdaptationTask, run: Trained) -> Iterator[None]:
    try:
        with with_state(task.network, run.state):
            task.model.weights_changed()
            yield
    finally:
        task.model.weights_changed()


def _written(
    folder: Path,
    method: Method,
    table: pd.DataFrame,
    comparisons: dict[str, Comparison],
    history: pd.DataFrame,
    run: Trained,
    unit: str,
) -> list[Path]:
    before, after = (f"{method.measures}_{when}" for when in ("before", "after"))
    by_organ = table.groupby(["organ", "prompt"], sort=False)[[before, after]].agg(["mean", "count"])
    organs = pd.DataFrame(
        {"objects": by_organ[before, "count"], before: by_organ[before, "mean"], after: by_organ[after, "mean"]}
    ).reset_index()
    facts = {"unit": unit, **{kind: asdict(one) for kind, one in comparisons.items()}}
    curve, picture = folder / "learning_curve.png", folder / "comparison.png"
    learning_curve(
        curve, history, kept=run.epoch, title=f"Adaptation by {method.name}", loss="loss", score=method.chosen_by
    )
    means = table.groupby(unit[:-1])[[before, after]].mean()
    overall = comparisons[ALL_PROMPTS]
    guessed = "; before: always the most frequent organ" if method.measures == "accuracy" else ""
    before_and_after(
        picture,
        [str(name) for name in means.index],
        means[before],
        means[after],
        title=f"mean {overall.before:.4f} before, {overall.after:.4f} after adaptation",
        what=f"all organs and prompts, held-out {unit}{guessed}",
        score=method.measures,
    )
    return [
        write_csv(history, folder / "history.csv"),
        write_csv(table, folder / "held_out.csv"),
        write_csv(organs, folder / "organs.csv"),
        write_text(json.dumps(facts, indent=2) + "\n", folder / "comparison.json"),
        curve,
        picture,
    ]


def _facts(
    base: BaseCheckpoint,
    data: AdaptationData,
    split: Split,
    method: Method,
    options: AdaptOptions,
    reading: ReadingOptions,
    comparisons: dict[str, Comparison],
    run: Trained,
) -> dict[str, Any]:
    """What the card says beyond what loading has to know."""
    return {
        "adaptation": {"method": method.name, "settings": method.settings, "organs": list(data.organs)},
        **data_facts(base, data.cases, split, reading.windowing, options.terms),
        "training": {**asdict(options.config), "epoch_kept": run.epoch + 1},
        "held_out": {kind: asdict(one) for kind, one in comparisons.items()},
    }
