"""Side by side timing on a machine that other work may share: alternate the contestants, compare within a round."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

MATRIX = 2048
PRODUCTS = 3

Clock = Callable[[], float]
Encode = Callable[[], Tensor]


@dataclass(frozen=True)
class Contestant:
    """Something that encodes one slice.

    Attributes:
        name: how the table calls it.
        prepare: loads it and returns what is to be timed.
        flops: floating point operations that the task needs, for the fraction of the matrix rate; None if unknown.
    """

    name: str
    prepare: Callable[[], Encode]
    flops: float | None = None


@dataclass
class Record:
    """What was measured of one contestant, one entry a round.

    Attributes:
        seconds: time.
        ratios: time of the first contestant divided by this one's.
        fractions: share of the matrix rate that was measured just before and after; empty if `flops` is unknown.
        error: largest difference to the first contestant's result, relative to its largest value; None if the shapes
            differ.
    """

    name: str
    seconds: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    fractions: list[float] = field(default_factory=list)
    error: float | None = None


def alternate(
    contestants: Sequence[Contestant], *, rounds: int, device: torch.device, clock: Clock = time.perf_counter
) -> list[Record]:
    """Run all contestants in turn, `rounds` times. The first is what the others are compared with.

    On a graphics card one more round goes before, which is not counted.

    Args:
        clock: `time.process_time` leaves out what other processes take; with one thread only, since threads that wait
            for each other count too.
    """
    runs = [one.prepare() for one in contestants]
    records = [Record(one.name) for one in contestants]
    if device.type == "cuda":
        for run in runs:
            run()
    for _ in range(rounds):
        rates, results = [matrix_rate(device, clock)], []
        for record, run in zip(records, runs, strict=True):
            seconds, result = timed(run, device, clock)
            record.seconds.append(seconds)
            record.ratios.append(records[0].seconds[-1] / seconds)
            results.append(result)
            rates.append(matrix_rate(device, clock))
        for index, (one, record, result) in enumerate(zip(contestants, records, results, strict=True)):
            record.error = _relative_error(result, results[0]) if index else None
            if one.flops:
                record.fractions.append(one.flops / record.seconds[-1] / statistics.mean(rates[index : index + 2]))
    return records


def timed(run: Encode, device: torch.device, clock: Clock = time.perf_counter) -> tuple[float, Tensor]:
    """Seconds of one run, the device's work included, and its result."""
    _wait_for(device)
    start = clock()
    result = run()
    _wait_for(device)
    return clock() - start, result


def matrix_rate(device: torch.device, clock: Clock = time.perf_counter) -> float:
    """Floating point operations a second of float32 products of square matrices: the median of a few."""
    matrix = torch.ones(MATRIX, MATRIX, device=device)
    times = [timed(lambda: matrix @ matrix, device, clock)[0] for _ in range(PRODUCTS)]
    return 2 * MATRIX**3 / statistics.median(times)


def peak_memory(contestant: Contestant, device: torch.device) -> int:
    """Bytes that one run takes at most, over the loaded model. Call it in a process of its own, see `in_process`."""
    run = contestant.prepare()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    before = peak_resident()
    run()
    return peak_resident() - before


def in_process(script: str, *arguments: str) -> str:
    """What `script` prints in a process of its own, without surrounding space."""
    command = [sys.executable, script, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def put_figures(page: Path, script: str, text: str) -> None:
    """Put `text` between the marks that a Markdown page has for a script's figures."""
    begin, end = f"<!-- figures of Testing/benchmarks/{script} -->", "<!-- end of figures -->"
    before, rest = page.read_text(encoding="utf-8").split(begin)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end, 1)[1]}", encoding="utf-8")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they need to be, the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    for row in (header, ["-" * width for width in widths], *rows):
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join([first.strip().ljust(widths[0]), *others]))


def peak_resident() -> int:
    """Bytes of memory that this process had at most so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _relative_error(result: Tensor, expected: Tensor) -> float | None:
    if result.shape != expected.shape:
        return None
    return float((result.float() - expected.float()).abs().max() / expected.float().abs().max())


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
