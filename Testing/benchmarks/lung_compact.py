"""The whole pipeline with lung-compact beside lungmask's R231 network, its own network by both engines, memory.

    pip install lungmask
    python Testing/benchmarks/lung_compact.py                       # prints Markdown
    python Testing/benchmarks/lung_compact.py --docs docs/model.md

R231 runs with random weights, which does not change its time: its network alone, at its own 256 x 256 and 20 slices a
batch, while ours is timed with all that users wait for: windowing, network, cleaning. Both on all cores, in turn. Where
lungmask is not installed, its rows are left out. The network by ONNX Runtime and by PyTorch runs in turn on one thread,
whose own time counts, without what other processes take; so does the time from a prompt to its mask. The command is
started in a process of its own.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
import torch
from measure import peak_resident, put_figures

from SAMLungSegLib.models import load_model
from SAMLungSegLib.models.base import Prediction, PromptableModel
from SAMLungSegLib.phantom import chest_ct
from SAMLungSegLib.pipeline import Options, segment_volume
from SAMLungSegLib.prompts import PointPrompt, PromptSet
from SAMLungSegLib.volume import Volume

SLICES, R231_BATCH = 40, 20
REPETITIONS, COMMANDS = 30, 5


def seconds_of(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Time of one run."""
    started = clock()
    run()
    return clock() - started


def lungs(model: PromptableModel, grey: np.ndarray) -> Prediction:
    """Of a slice, from its encoding to its logits."""
    return model.decode(model.encode([grey])[0], PromptSet())


def engines(grey: np.ndarray) -> list[tuple[str, str]]:
    """Rows of the network, encoder and decoder without a prompt, and of a prompt's mask, one thread."""
    models = {engine: load_model("lung-compact", device="cpu", engine=engine) for engine in ("onnx", "torch")}
    prompts = PromptSet(points=(PointPrompt((150, 260)),))
    network, answer = ({engine: [] for engine in models} for _ in range(2))
    for _ in range(REPETITIONS):
        for engine, model in models.items():
            embedding = model.encode([grey])[0]
            network[engine].append(seconds_of(partial(lungs, model, grey), time.thread_time))
            answer[engine].append(seconds_of(partial(model.decode, embedding, prompts), time.thread_time))
    ratio = statistics.median(one / other for one, other in zip(*network.values(), strict=True))
    onnx, torch_ = (1000 * statistics.median(times) for times in network.values())
    mask, torch_mask = (1000 * statistics.median(times) for times in answer.values())
    return [
        ("slice to lungs, encoder and decoder, one thread (by PyTorch)", f"{onnx:.0f} ms ({torch_:.0f} ms)"),
        ("ratio, ONNX Runtime to PyTorch", f"{ratio:.2f}"),
        ("prompt to mask, embedding ready, one thread (by PyTorch)", f"{mask:.0f} ms ({torch_mask:.0f} ms)"),
    ]


def command(grey: np.ndarray) -> list[tuple[str, str]]:
    """Rows of one X-ray by the command: its wall time, of which others on the machine take their part, and memory."""
    code = "import sys; from SAMLungSegLib.cli import main; main(sys.argv[1:]); "
    code += "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"  # others count the parent's as well
    with tempfile.TemporaryDirectory() as folder:
        sitk.WriteImage(sitk.GetImageFromArray(grey), f"{folder}/frontal.png")
        arguments = [sys.executable, "-c", code, "segment", f"{folder}/frontal.png", "-o", folder]
        runs = []
        for _ in range(COMMANDS):
            start = time.perf_counter()
            said = subprocess.run([*arguments, "--overwrite"], check=True, capture_output=True, text=True).stdout
            runs.append((time.perf_counter() - start, int(said.split()[-1])))
    seconds, kilobytes = (statistics.median(figures) for figures in zip(*runs, strict=True))
    return [("one X-ray by the command, memory at most", f"{seconds:.1f} s, {kilobytes / 1000:.0f} MB")]


def r231() -> Callable[[], object] | None:
    """The network of lungmask's R231 on one batch, or nothing where lungmask is not installed."""
    try:
        from lungmask.resunet import UNet
    except ImportError:
        return None
    net = UNet(n_classes=3, padding=True, depth=5, up_mode="upsample", batch_norm=True, residual=False).eval()
    batch = torch.zeros(R231_BATCH, 1, 256, 256)

    def run() -> torch.Tensor:
        with torch.inference_mode():
            return net(batch)

    return run


def chest() -> Volume:
    """A generated CT with slices of 512 x 512 from the middle of the chest."""
    phantom = chest_ct(0, size_kji=(SLICES, 512, 512), spacing_mm=(6.0, 0.75, 0.75))
    return Volume(phantom.hu_kji, phantom.ijk_to_ras, "chest", "CT")


def figures(rounds: int) -> str:
    """The table in Markdown."""
    peer = r231()
    model, volume = load_model("lung-compact", device="cpu"), chest()
    empty_mb = peak_resident() / 1e6
    segment_volume(volume, model, Options())
    peak = peak_resident() / 1e6
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(seconds_of(lambda: segment_volume(volume, model, Options())) / SLICES)
        if peer:
            theirs.append(seconds_of(peer) / R231_BATCH)
    grey = np.clip((volume.array_kji[SLICES // 2] + 1350) / 5.9, 0, 255).astype(np.uint8)
    rows = [
        ("whole pipeline, per slice of 512 x 512", f"{1000 * statistics.median(ours):.0f} ms"),
        *engines(grey),
        *command(grey),
        (f"memory at most, {SLICES} slices (before: {empty_mb:.0f} MB)", f"{peak:.0f} MB"),
    ]
    if peer:
        ratio = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
        rows[1:1] = [
            ("network of R231, per slice", f"{1000 * statistics.median(theirs):.0f} ms"),
            ("ratio, whole pipeline to network of R231", f"{ratio:.3f}"),
        ]
    lines = "\n".join(f"| {name} | {value} |" for name, value in rows)
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, medians of {rounds} rounds"
    return f"{machine}.\n\n| | |\n|---|---:|\n{lines}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--docs", type=Path, help="Markdown file with a marked place for the table")
    arguments = parser.parse_args()
    text = figures(arguments.rounds)
    print(text)
    if arguments.docs:
        put_figures(arguments.docs, "lung_compact.py", text + "\n")


if __name__ == "__main__":
    main()
