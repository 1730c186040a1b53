"""What a cohort costs: throughput beside the model alone, memory, growth with slices, cases and workers.

    python Testing/benchmarks/batch.py                      # prints Markdown
    python Testing/benchmarks/batch.py --docs docs/cohorts.md

Everything is generated here; the figures are of the machine that it runs on.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
import psutil
import SimpleITK as sitk  # noqa: N813
import torch
from measure import put_figures

from SAMLungSegLib.batch import Settings, preview, run
from SAMLungSegLib.batch.journal import Entry, Journal
from SAMLungSegLib.models.choice import ModelChoice
from SAMLungSegLib.phantom import chest_ct, chest_xray
from SAMLungSegLib.pipeline import Options, segment_volume
from SAMLungSegLib.volume import read_volume

CHEST_CTS, CHEST_SLICES = 10_000, 300
NODE_CORES, NODES = 16, 8


class CtCost(NamedTuple):
    """Seconds for one CT.

    Attributes:
        slices: of 512 x 512.
        reading: the file.
        encoding: in the model, encoding and decoding.
        around: in `segment_volume` beside the model: windowing, cleaning.
        writing: measuring, labelmap, picture.
        peak_mb: memory of the process afterwards, at most.
    """

    slices: int
    reading: float
    encoding: float
    around: float
    writing: float
    peak_mb: float

    @property
    def total(self) -> float:
        """Of all steps one after the other."""
        return self.reading + self.encoding + self.around + self.writing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--xrays", type=int, default=120, help="images of the throughput")
    parser.add_argument("--slices", type=int, nargs="+", default=[16, 32, 64, 128], help="sizes of the CTs")
    parser.add_argument("--docs", type=Path, help="put the figures between the marks of this file")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        sections = measured(Path(folder), arguments.xrays, arguments.slices)
    text = "\n".join(sections)
    print(text)
    if arguments.docs:
        put_figures(arguments.docs, "batch.py", text)


def measured(folder: Path, xrays: int, sizes: Sequence[int]) -> list[str]:
    """All sections of the report."""
    write_xrays(folder / "xrays", xrays)
    costs = [ct_cost(folder, slices) for slices in sizes]
    return [
        machine(),
        throughput(folder),
        memory(folder),
        slices_table(costs),
        cases_table(folder),
        workers_table(folder),
        worked_estimate(costs),
    ]


def machine() -> str:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s) for the model, "
        f"{'CUDA' if torch.cuda.is_available() else 'no graphics card'}; load average at the start {load}.\n"
    )


# ---- X-rays


def write_xrays(folder: Path, count: int) -> None:
    """Different pictures from one phantom: shifted by some rows."""
    folder.mkdir()
    picture, _ = chest_xray(chest_ct(seed=0), (1024, 1024))
    for number in range(count):
        sitk.WriteImage(sitk.GetImageFromArray(np.roll(picture, number, axis=0)), str(folder / f"x{number:04}.png"))


def throughput(folder: Path) -> str:
    """Images a second of a run, and of the model on images in memory; in turn, three times each, the fastest counts."""
    model = ModelChoice().load("auto")
    volumes = [read_volume(path) for path in sorted((folder / "xrays").iterdir())]
    segment_volume(volumes[0], model, Options())
    alone, whole = [], []
    for turn in range(3):
        alone.append(seconds(lambda: [segment_volume(volume, model, Options()) for volume in volumes]))
        whole.append(timed_run(folder / "xrays", folder / f"throughput{turn}"))
    fastest = min(whole)
    rates = len(volumes) / min(alone), len(volumes) / fastest.seconds
    return (
        "**X-rays** (1024 x 1024 PNG, `lung-compact`)\n\n"
        "| | |\n|---|---:|\n"
        f"| the model alone, images in memory | {rates[0]:.2f} images a second |\n"
        "| `samlungseg batch`: reading, model, measuring, writing, pictures, report | "
        f"{rates[1]:.2f} images a second |\n"
        f"| ratio | {rates[1] / rates[0]:.2f} |\n"
        f"| share of the time in which the model was at work, from the first to the last image | "
        f"{fastest.model_share:.2f} |\n"
        f"| cores that the run had on average | {fastest.cores:.2f} |\n"
    )


class TimedRun(NamedTuple):
    """Seconds of a run; the part of them between the first and last image in which the model worked; cores in use."""

    seconds: float
    model_share: float
    cores: float


def timed_run(images: Path, output: Path) -> TimedRun:
    ends: list[float] = []
    start, used = time.perf_counter(), time.process_time()
    rows = run(images, output, progress=lambda *_: ends.append(time.perf_counter())).rows
    spent, used = time.perf_counter() - start, time.process_time() - used
    share = sum(row["seconds"] for row in rows[1:]) / (ends[-1] - ends[0])
    return TimedRun(spent, min(1.0, share), used / spent)


def memory(folder: Path) -> str:
    """Resident memory while 200 cases go through."""
    write_small(folder / "small", 200)
    resident, process = [], psutil.Process()
    run(folder / "small", folder / "memory", progress=lambda *_: resident.append(process.memory_info().rss / 1e6))
    early, late = np.median(resident[20:60]), np.median(resident[-40:])
    return f"**Memory** over 200 small X-rays: {early:.0f} MB after 20 to 60 cases, {late:.0f} MB in the last 40.\n"


def write_small(folder: Path, count: int) -> None:
    folder.mkdir()
    picture, _ = chest_xray(chest_ct(seed=0), (128, 128))
    for number in range(count):
        sitk.WriteImage(sitk.GetImageFromArray(np.roll(picture, number, axis=0)), str(folder / f"s{number:05}.png"))


def cases_table(folder: Path) -> str:
    """Seconds a case with the number of cases, and of looking at a run of 10,000 that is done."""
    rows = []
    for count in (50, 100, 200):
        part = folder / f"cases{count}"
        part.mkdir()
        for path in sorted((folder / "small").iterdir())[:count]:
            (part / path.name).hardlink_to(path)
        rows.append((count, seconds(lambda part=part: run(part, part.with_name(f"{part.name}-out"))) / count))
    lines = "".join(f"| {count} | {each:.3f} |\n" for count, each in rows)
    return (
        "**Number of cases** (X-rays of 128 x 128)\n\n| cases | seconds a case |\n|---:|---:|\n"
        f"{lines}\nFinding {CHEST_CTS} images and seeing that all are done already: {resuming(folder):.1f} s.\n"
    )


def resuming(folder: Path) -> float:
    """Seconds until a run over 10,000 finished cases knows that nothing is to do."""
    images, output = folder / "many", folder / "many-out"
    images.mkdir(), (output / "segmentations").mkdir(parents=True)
    content = next((folder / "small").iterdir()).read_bytes()
    for number in range(CHEST_CTS):
        (images / f"m{number:05}.png").write_bytes(content)
    settings = Settings(overlays="none")
    tasks = preview(images, output, settings).tasks
    row = run(folder / "small", folder / "memory").rows[0]
    with Journal(output) as journal:
        for task in tasks:
            file = f"segmentations/{task.case.id}_lungs.png"
            (output / file).touch()
            entry = Entry("done", task.fingerprint, task.case.stamp, {}, {"segmentation": file}, row)
            journal.append("done", task.case.id, **{k: v for k, v in vars(entry).items() if k != "state"})
    return seconds(lambda: check(not preview(images, output, settings).tasks))


def check(expected: bool) -> None:
    if not expected:
        raise SystemExit("The figures would be of something else than they say; the benchmark needs repair.")


def workers_table(folder: Path) -> str:
    """Images a second by processes that have started, with one thread each for the model."""
    torch.set_num_threads(1)
    lines = "".join(f"| {workers} | {steady_rate(folder, workers):.2f} |\n" for workers in (1, 2))
    return (
        f"**Workers** (the X-rays above, once all have started)\n\n| workers | images a second |\n|---:|---:|\n{lines}"
    )


def steady_rate(folder: Path, workers: int) -> float:
    """Images a second after the first third."""
    times = []
    output = folder / f"workers{workers}"
    run(folder / "xrays", output, workers=workers, progress=lambda *_: times.append(time.perf_counter()))
    rest = times[len(times) // 3 :]
    return (len(rest) - 1) / (rest[-1] - rest[0])


# ---- CTs


def ct_cost(folder: Path, slices: int) -> CtCost:
    """One CT of 512 x 512, after a first one that warms up."""
    images = folder / f"ct{slices}"
    images.mkdir()
    phantom = chest_ct(seed=0, size_kji=(min(slices, 64), 128, 128), spacing_mm=(320 / min(slices, 64), 2.8, 2.8))
    hu = phantom.hu_kji.repeat(4, axis=1).repeat(4, axis=2)
    hu = hu[np.linspace(0, len(hu) - 1, slices).round().astype(int)]
    hu = hu + np.random.default_rng(0).integers(-30, 30, hu.shape).astype(np.int16)
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing((0.7, 0.7, 320 / slices))
    for name in ("a", "b"):
        sitk.WriteImage(image, str(images / f"{name}.nii.gz"))
    with timed_model() as spent:
        rows = run(images, folder / f"ct{slices}-out").rows
        inside = spent[0] / 2
    row = rows[-1]
    around = max(0.0, row["seconds"] - inside)
    peak_mb = psutil.Process().memory_info().rss / 1e6
    return CtCost(slices, row["seconds_reading"], inside, around, row["seconds_writing"], peak_mb)


@contextlib.contextmanager
def timed_model():
    """Counts the seconds in which the model is asked, by any thread, in the one number of the list that it gives."""
    model, spent = ModelChoice().load("auto"), [0.0]
    methods = {name: getattr(model, name) for name in ("encode", "decode")}
    lock, busy = Lock(), [0, 0.0]

    def change(by: int) -> None:
        with lock:
            now = time.perf_counter()
            if busy[0]:
                spent[0] += now - busy[1]
            busy[:] = busy[0] + by, now

    def timed(method: Callable) -> Callable:
        def call(*arguments: object) -> object:
            change(+1)
            try:
                return method(*arguments)
            finally:
                change(-1)

        return call

    for name, method in methods.items():
        setattr(model, name, timed(method))
    try:
        yield spent
    finally:
        for name in methods:
            delattr(model, name)


def slices_table(costs: Sequence[CtCost]) -> str:
    lines = "".join(
        f"| {one.slices} | {one.reading:.2f} | {one.encoding:.2f} | {one.around:.2f} | {one.writing:.2f} | "
        f"{one.total:.2f} | {one.total / one.slices * 1000:.0f} | {one.peak_mb:.0f} |\n"
        for one in costs
    )
    return (
        "**Slices of a CT** (512 x 512 NIfTI; seconds; steps of different cases run side by side)\n\n"
        "| slices | reading | model | around it | writing | sum | ms a slice | memory [MB] |\n"
        "|---:|---:|---:|---:|---:|---:|---:|---:|\n"
        f"{lines}"
    )


def worked_estimate(costs: Sequence[CtCost]) -> str:
    """Hours for many CTs: what was measured here, carried over to machines that were not."""
    one = costs[-1]
    hours_each = CHEST_CTS / 3600 * CHEST_SLICES / one.slices
    alone = max(one.reading, one.encoding + one.around, one.writing) * hours_each
    cores = one.total * hours_each / NODE_CORES
    beside = (one.reading + one.around + one.writing) * hours_each / NODE_CORES
    rows = (
        ("this machine, one process, model on the CPU", f"{alone:.0f}", "extrapolated from the steps measured above"),
        (
            f"{NODE_CORES} cores, {NODE_CORES} workers, model on the CPU",
            f"{cores:.1f}",
            "extrapolated: cores like this machine's, one thread each, no loss",
        ),
        (
            f"one H200 with {NODE_CORES} cores",
            f"at least {beside:.1f}",
            "**not measured**: what the cores do (reading, around the model, writing), as if the card took no time",
        ),
        (f"{NODES} such nodes", f"at least {beside / NODES:.1f}", "**not measured**: the same, no loss"),
    )
    lines = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return (
        f"**{CHEST_CTS} chest CTs of {CHEST_SLICES} slices**, in proportion to the largest CT above\n\n"
        f"| on | hours | how that was found |\n|---|---:|---|\n{lines}"
    )


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
