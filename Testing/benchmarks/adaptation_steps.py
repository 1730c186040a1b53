"""What a training step of each method of adaptation costs, with a ViT-B of random weights.

    python Testing/benchmarks/adaptation_steps.py [--side 256] [--device cuda] [--checkpointing] [METHOD ...]

One slice a step. On a processor each method has a process of its own, so that its peak of memory is its own; on a
graphics card the peak is what torch allocates there, in mixed precision. Seconds are the median of three steps after a
first one, on a graphics card of ten after three, or with --once those of the first.
"""

from __future__ import annotations

import argparse
import gc
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "lib"), str(Path(__file__).parents[2])]

PEAK_IN_GIB = 2**20 if sys.platform == "linux" else 2**30  # of what getrusage counts in
STEPS = {"cpu": (1, 3), "cuda": (3, 10)}  # before, and measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("methods", nargs="*", metavar="METHOD")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--device", choices=tuple(STEPS), default="cpu")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--once", action="store_true", help="one step alone")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(measured(given.methods[0], given))
        return
    from SAMLungSegLib.adaptation import method_names

    print(f"| method | trained weights | peak of memory at {given.side} px [GB] | seconds a step |")
    print("|---|---:|---:|---:|")
    flags = [f"--{flag}" for flag in ("checkpointing", "once") if getattr(given, flag)]
    for name in given.methods or method_names():
        if given.device == "cuda":
            row = measured(name, given)
        else:
            command = [sys.executable, __file__, name, "--one", f"--side={given.side}", *flags]
            row = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        print(row, flush=True)


def measured(name: str, given: argparse.Namespace) -> str:
    import torch
    from adaptation_sets import ORGANS, slice_of
    from segment_anything import sam_model_registry

    from SAMLungSegLib.adaptation import AdaptConfig, method_from
    from SAMLungSegLib.adaptation.run import encoded
    from SAMLungSegLib.adaptation.slices import AdaptationData
    from SAMLungSegLib.adaptation.task import AdaptationTask
    from SAMLungSegLib.adapters.place import PlaceInVolume, small_volume
    from SAMLungSegLib.models.sam.model import SamModel
    from SAMLungSegLib.training.trainer import autocast

    side, device, checkpointing = given.side, given.device, given.checkpointing
    if device == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    torch.manual_seed(0)
    method = method_from(name)
    sam = sam_model_registry["vit_b"](checkpoint=None)
    model = method.model_for(SamModel(sam, name="sam-vit-b", device=device, input_size=side))
    trained = method.prepare(model, ORGANS)
    slices = [slice_of(number, method.slices_per_input) for number in range(4)]
    if method.sees_volume:
        volume = small_volume([one.grey_hw for one in slices])
        slices = [replace(one, place=PlaceInVolume(volume, number, 4)) for number, one in enumerate(slices)]
    data = AdaptationData(ORGANS, tuple(slices[:2]), tuple(slices[2:3]), tuple(slices[3:]))
    data = data if method.encodes else encoded(model, data)
    first, counted = (0, 1) if given.once else STEPS[device]
    config = AdaptConfig(steps=first + counted, batch=1, checkpointing=checkpointing)
    task = AdaptationTask(model, method, trained, data, config)
    model.recompute_activations(checkpointing and method.encodes)
    optimizer, seconds = task.optimizer(0), []
    count = sum(one.numel() for group in optimizer.param_groups for one in group["params"])
    for _, batch in zip(range(first + counted), steps(task), strict=False):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with autocast(task.device, mixed_precision=method.encodes):
            predictions = task.predict(batch)
        task.loss(predictions, batch).backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / PEAK_IN_GIB
    return f"| `{name}` | {count:,} | {peak:.1f} | {statistics.median(seconds[first:]):.3g} |"


def steps(task):
    """Batches without end."""
    while True:
        yield from task.batches(0)


if __name__ == "__main__":
    main()
