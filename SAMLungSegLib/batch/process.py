"""One case from its files to its row of the table, in three steps that may run side by side for different cases.

`load` reads, `segment` runs the model, `store` measures and writes. What cannot be used ends as a failed `Entry`, which
the later steps hand on, as the model does a `Stored` case, whose pictures only are missing; what stops the whole run is
raised.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import get_ident
from typing import Any, TypeVar

import numpy as np

from SAMLungSegLib.batch.cases import Case
from SAMLungSegLib.batch.journal import DONE, FAILED, Entry
from SAMLungSegLib.batch.outputs import PICTURES, draw_pictures, has_pictures, write_outputs
from SAMLungSegLib.batch.settings import BatchError, Settings
from SAMLungSegLib.batch.table import agreement_of, measures_of, place_of, plain
from SAMLungSegLib.errors import CancelledError, ModelError, SAMLungSegError, VolumeError, is_out_of_memory
from SAMLungSegLib.models.choice import ModelChoice
from SAMLungSegLib.pipeline import Options, Segmentation, segment_volume
from SAMLungSegLib.provenance import Provenance, is_same_place, provenance_of, read_provenance, voxels_sha256
from SAMLungSegLib.results import check_format, default_format
from SAMLungSegLib.volume import Volume, read_volume
from SAMLungSegLib.volume.guarded import read_series

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Task:
    """A case and all that decides its result.

    Attributes:
        case: what to segment.
        settings: how.
        weights_sha256: of the model.
        fingerprint: of all that, see `Settings.fingerprint`.
        output: folder of the run.
        known: how the case ended before, where only the stamp of its files has changed since, or pictures are missing.
        alone: whether an earlier run ended while it was at the case, so that nothing is to run beside it.
    """

    case: Case
    settings: Settings
    weights_sha256: Mapping[str, str]
    fingerprint: str
    output: Path
    known: Entry | None = None
    alone: bool = False

    @property
    def format(self) -> str:
        """Extension of the labelmap."""
        return self.settings.format or default_format(self.case.path)

    @property
    def is_to_draw(self) -> bool:
        """Whether only pictures are missing."""
        return self.known is not None and self.known.stamp == self.case.stamp


@dataclass(frozen=True, eq=False)
class Loaded:
    """A case that was read.

    Attributes:
        volume: the image.
        reference: labelmap to measure the result by.
        image: SHA-256 and matrix of the image.
        notes: warnings on the way.
        seconds: it took.
    """

    volume: Volume
    reference: Volume | None
    image: dict[str, Any]
    notes: list[str]
    seconds: float


@dataclass(frozen=True, eq=False)
class Stored:
    """A case whose labelmap is stored as it was written, and whose pictures are missing.

    Attributes:
        known: how it ended before.
        segmentation: the lungs that are stored.
    """

    known: Entry
    segmentation: Segmentation


@dataclass(frozen=True, eq=False)
class Segmented:
    """A case that was segmented.

    Attributes:
        loaded: the case.
        segmentation: the lungs found.
        device: that gave it.
        notes: warnings on the way.
        seconds: it took.
    """

    loaded: Loaded
    segmentation: Segmentation
    device: str
    notes: list[str]
    seconds: float


def load(task: Task) -> Loaded | Stored | Entry:
    """Read the image and its reference; where the image is the known one after all, what is known of it."""
    return _attempted(task, lambda notes: _load(task, notes))


def segment(
    task: Task, loaded: Loaded | Stored | Entry, cancelled: Callable[[], bool] = lambda: False
) -> Segmented | Stored | Entry:
    """Run the model where it is to.

    Raises:
        ModelError: it cannot be loaded.
        CancelledError: `cancelled` said so.
    """
    if not isinstance(loaded, Loaded):
        if cancelled():
            raise CancelledError(f"Stopped before {task.case.id}; what is finished stays.")
        return loaded
    return _attempted(task, lambda notes: _segment(task, loaded, cancelled, notes))


def store(task: Task, segmented: Segmented | Stored | Entry) -> Entry:
    """Measure and write, or draw what is missing.

    Raises:
        BatchError: the output folder takes no more.
    """
    if isinstance(segmented, Entry):
        return segmented
    if isinstance(segmented, Stored):
        return _attempted(task, lambda notes: _draw(task, segmented))
    return _attempted(task, lambda notes: _store(task, segmented, notes))


def _attempted(task: Task, step: Callable[[list[str]], Result]) -> Result | Entry:
    """What a step returns, or a failed entry with the reason."""
    try:
        with collected_warnings() as notes:
            return step(notes)
    except (BatchError, ModelError, CancelledError):
        raise
    except (SAMLungSegError, OSError) as error:
        return failed(task, str(error))
    except MemoryError:
        return failed(task, f"{task.case.path} needs more memory than there is; give a smaller part of it.")
    except Exception as error:  # a defect of ours must not cost the other cases of a night
        logger.exception("%s failed", task.case.id)
        return failed(task, f"unexpected {type(error).__name__}: {error}")


def failed(task: Task, reason: str) -> Entry:
    """The entry of a case that cannot be used."""
    row = {**place_of(task.case), "state": FAILED, "reason": reason}
    return Entry(FAILED, task.fingerprint, task.case.stamp, None, {}, plain(row))


def _load(task: Task, notes: list[str]) -> Loaded | Stored | Entry:
    start, case = time.perf_counter(), task.case
    if case.problem:
        raise VolumeError(case.problem)
    if case.parts:
        volume = read_series(case.parts, case.path, allow_gaps=False)
    else:
        volume = read_volume(case.path, series=case.series, allow_gaps=False)
    check_format(volume, task.format)
    image = {"sha256": voxels_sha256(volume), "ijk_to_ras": volume.ijk_to_ras.tolist()}
    if task.known is not None and _is_same_image(task.known.image, image):
        known = replace(task.known, stamp=case.stamp)
        if has_pictures(task.output, known.files, task.settings.pictures):
            return known
        segmentation = _stored(task.output, known, volume)
        if segmentation is not None:
            return Stored(known, segmentation)
    return Loaded(volume, _reference(case), image, notes, time.perf_counter() - start)


def _stored(output: Path, known: Entry, volume: Volume) -> Segmentation | None:
    """What an earlier run found in a volume; None where the labelmap or its record is not as that run left it."""
    labelmap = output / known.files["segmentation"]
    try:
        stored, options = read_volume(labelmap), read_provenance(output / known.files["recipe"]).options
    except SAMLungSegError as error:
        logger.info("%s cannot be taken as it is: %s", labelmap, error)
        return None
    stored = replace(stored, array_kji=stored.array_kji.astype(np.uint8))
    if voxels_sha256(stored) != known.labelmap_sha256:
        return None
    return Segmentation.of_labelmap(volume, stored.array_kji, options)


def _is_same_image(known: Mapping[str, Any] | None, image: Mapping[str, Any]) -> bool:
    if known is None or known["sha256"] != image["sha256"]:
        return False
    return is_same_place(known["ijk_to_ras"], image["ijk_to_ras"])


def _reference(case: Case) -> Volume | None:
    """The reference; a broken one costs the metrics, not the segmentation."""
    if case.reference is None:
        return None
    try:
        return read_volume(case.reference)
    except SAMLungSegError as error:
        logger.warning("No metrics: %s", error)
        return None


def _segment(task: Task, loaded: Loaded, cancelled: Callable[[], bool], notes: list[str]) -> Segmented:
    start, settings = time.perf_counter(), task.settings
    options = settings.options_of(task.case)
    segmentation, device = segment_within_memory(loaded.volume, settings.model, settings.device, options, cancelled)
    return Segmented(loaded, segmentation, device, notes, time.perf_counter() - start)


def _store(task: Task, segmented: Segmented, notes: list[str]) -> Entry:
    start, loaded, segmentation = time.perf_counter(), segmented.loaded, segmented.segmentation
    settings, metrics, metric_notes = task.settings, {}, []
    if loaded.reference is not None:
        metrics, metric_notes = agreement_of(segmentation, loaded.reference, settings.tolerance_mm)
    files = write_outputs(
        segmentation, _provenance(task, segmented), task.output, task.case.id, task.format, settings.pictures
    )
    row = {
        **place_of(task.case),
        "state": DONE,
        **measures_of(segmentation, settings.options.lungs),
        **metrics,
        "notes": " ".join([*loaded.notes, *segmented.notes, *notes, *metric_notes]),
        **files,
        "device": segmented.device,
        "seconds_reading": loaded.seconds,
        "seconds": segmented.seconds,
        "seconds_writing": time.perf_counter() - start,
    }
    return Entry(
        DONE, task.fingerprint, task.case.stamp, loaded.image, files, plain(row), voxels_sha256(segmentation.labelmap)
    )


def _draw(task: Task, stored: Stored) -> Entry:
    """What is known, with the pictures that are there and those that are wanted and are not."""
    known, output = stored.known, task.output
    there = {kind: file for kind, file in known.files.items() if kind not in PICTURES or (output / file).is_file()}
    missing = [kind for kind in task.settings.pictures if kind not in there]
    files = there | draw_pictures(stored.segmentation, output, task.case.id, missing)
    row = {kind: value for kind, value in known.row.items() if kind not in PICTURES}
    return replace(known, files=files, row=row | files)


def _provenance(task: Task, segmented: Segmented) -> Provenance:
    case, segmentation = task.case, segmented.segmentation
    return provenance_of(
        segmentation.volume,
        segmentation.options,
        task.settings.model,
        segmented.device,
        image=case.path,
        series=case.series,
        image_sha256=segmented.loaded.image["sha256"],
        weights_sha256=task.weights_sha256,
        engine="torch" if segmentation.origin is None else segmentation.origin.engine,
    )


_LIBRARY = logging.getLogger("SAMLungSegLib")


class _Collector(logging.Handler):
    """Keeps the warnings of one thread."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._notes, self._thread = notes, get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread and record.getMessage() not in self._notes:
            self._notes.append(record.getMessage())


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """The library's warnings of this thread, until the block ends."""
    notes: list[str] = []
    collector = _Collector(notes)
    _LIBRARY.addHandler(collector)
    try:
        yield notes
    finally:
        _LIBRARY.removeHandler(collector)


def segment_within_memory(
    volume: Volume, choice: ModelChoice, device: str, options: Options, cancelled: Callable[[], bool]
) -> tuple[Segmentation, str]:
    """The segmentation and the device that made it; what had to be done for it is logged as a warning.

    Raises:
        SAMLungSegError: as `segment_volume`.
        RuntimeError: anything else that torch refuses.
    """
    model = choice.load(device)
    for what_next in ("again with its memory released", "on the CPU"):
        try:
            return segment_volume(volume, model, options, cancelled=cancelled), str(model.device)
        except RuntimeError as error:
            if model.device.type == "cpu" or not is_out_of_memory(error):
                raise
        _release_memory()  # after the exception, which holds what filled it
        logger.warning("The memory of %s does not suffice for %s: tried %s.", model.device, volume.name, what_next)
    return segment_volume(volume, choice.load("cpu"), options, cancelled=cancelled), "cpu"


def _release_memory() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
