"""How many strokes of each kind bring a bad slice to a Dice of 0.97, by a simulated person, as a table.

Every stroke is about the largest error left. A click is in its middle; a scribble runs along it; a brush paints it and
a lasso surrounds it, with a hand that trembles: what is right beyond the edge is not spared, but where the other
side of the edge has the same label anyway, the line is drawn generously. Brush and lasso are measured as edits and as
prompts: points in what they mark.

python Testing/benchmarks/strokes.py ../shared/data                   # prints Markdown
python Testing/benchmarks/strokes.py ../shared/data --docs docs/model.md
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from measure import put_figures
from scipy import ndimage
from skimage.graph import MCP_Geometric
from skimage.measure import find_contours

from SAMLungSegLib import Options, Volume, VolumePoint, load_model
from SAMLungSegLib.interaction import Stroke
from SAMLungSegLib.metrics import dice
from SAMLungSegLib.phantom import chest_ct
from SAMLungSegLib.pipeline.slice import SliceSegmenter
from SAMLungSegLib.prompts import PointPrompt
from SAMLungSegLib.prompts.simulated import distance_transform_peak
from SAMLungSegLib.training.data.packs import UNKNOWN, paired_examples
from SAMLungSegLib.training.data.splits import split_in_set
from SAMLungSegLib.volume import ReformattedSlice, reformat_volume

ENOUGH, MOST_STROKES = 0.97, 10
PIXEL_MM = 0.75  # of images that do not say it
TREMOR_MM, TREMOR_LENGTH_MM = 1.2, 12.0  # standard deviation of the hand, and over which length it is the same
SLACK_MM, SMALLEST_MM = 4.0, 3.0
BRUSH_MM = 5.0
SEEDS = range(9100, 9116)  # of chests that nothing was designed or trained with
SLICES_EACH = 2


@dataclass(frozen=True)
class BadSlice:
    """A slice to be corrected.

    Attributes:
        truth: bool (H, W).
        known: bool (H, W), where the reference says something.
    """

    set_name: str
    segmenter: SliceSegmenter
    reformat: ReformattedSlice
    truth: np.ndarray
    known: np.ndarray

    def predicted(self, points: tuple[PointPrompt, ...] = ()) -> np.ndarray:
        """Bool (H, W): the lungs that a user is shown for points."""
        voxels = [self.reformat.xy_to_ijk(point.xy).tolist() for point in points]
        prompts = tuple(VolumePoint(tuple(ijk), one.positive) for ijk, one in zip(voxels, points, strict=True))
        return self.segmenter.segment(self.reformat, Options(points=prompts)).labels_hw > 0

    def dice(self, mask: np.ndarray) -> float:
        return dice(self.truth, mask & self.known)

    def mm(self, length: float) -> float:
        """A length in pixels."""
        return length / min(self.reformat.spacing_hw_mm)


@dataclass(frozen=True)
class Error:
    """The largest error that is left: `mask` (H, W), whether it is missed lung, and where a line does no harm."""

    mask: np.ndarray
    positive: bool
    harmless: np.ndarray


def largest_error(bad: BadSlice, mask: np.ndarray) -> Error | None:
    """None where nothing is wrong."""
    best: Error | None = None
    for positive in (True, False):
        wrong = bad.known & (bad.truth if positive else ~bad.truth) & (mask != positive)
        pieces, count = ndimage.label(wrong, np.ones((3, 3)))
        sizes = np.bincount(pieces.ravel())[1:]
        if count and (best is None or sizes.max() > best.mask.sum()):
            harmless = bad.truth if positive else ~bad.truth
            best = Error(pieces == sizes.argmax() + 1, positive, harmless)
    return best


# ---- the hand


def trembling(line_xy: np.ndarray, bad: BadSlice, rng: np.random.Generator) -> tuple[tuple[float, float], ...]:
    """A line (N, 2) as a hand draws it."""
    noise = rng.normal(size=line_xy.shape)
    width = max(bad.mm(TREMOR_LENGTH_MM) / _step(line_xy), 0.5)
    smooth = ndimage.gaussian_filter1d(noise, width, axis=0, mode="wrap")
    smooth *= bad.mm(TREMOR_MM) / max(smooth.std(), 1e-9) if len(line_xy) > 3 else 0
    return tuple((x, y) for x, y in (line_xy + smooth).tolist())


def _step(line_xy: np.ndarray) -> float:
    lengths = np.linalg.norm(np.diff(line_xy, axis=0), axis=1)
    return float(lengths.mean()) if lengths.size and lengths.mean() > 0 else 1.0


def along(mask: np.ndarray) -> np.ndarray:
    """The longest way through a connected mask, (N, 2) XY, in its middle."""
    distance = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    costs = np.where(mask, 1 / distance.clip(0.5) ** 2 + 0.05, np.inf)
    place = np.unravel_index(distance.argmax(), mask.shape)
    inner = distance >= min(0.6 * distance.max(), 2.0)
    for _ in range(2):
        graph = MCP_Geometric(costs)
        reached, _ = graph.find_costs([place])
        place = np.unravel_index(np.where(inner & np.isfinite(reached), reached, -1).argmax(), mask.shape)
    return np.array(graph.traceback(place))[:, ::-1].astype(float)


def around(bad: BadSlice, error: Error) -> np.ndarray:
    """A line (N, 2) around an error, generous where it does no harm."""
    region = error.mask | (ndimage.binary_dilation(error.mask, iterations=round(bad.mm(SLACK_MM))) & error.harmless)
    pieces, _ = ndimage.label(ndimage.binary_fill_holes(region))
    region = pieces == pieces[tuple(np.argwhere(error.mask)[0])]
    contour = max(find_contours(np.pad(region, 1).astype(float), 0.5), key=len)[:, ::-1] - 1
    return contour[:: max(1, round(bad.mm(1.0)))]


def over(bad: BadSlice, error: Error) -> np.ndarray:
    """Where the middle of a brush goes, (N, 2), to and fro over an error without reaching what is right."""
    may = error.mask | error.harmless
    room = ndimage.distance_transform_edt(np.pad(may, 1))[1:-1, 1:-1]
    radius = bad.mm(BRUSH_MM)
    near = ndimage.distance_transform_edt(~error.mask) <= radius
    places, count = ndimage.label((room >= radius) & near)
    if not count:
        return along(error.mask)
    sizes = [np.sum(error.mask & (ndimage.distance_transform_edt(places != n) <= radius)) for n in range(1, count + 1)]
    region = places == np.argmax(sizes) + 1
    rows = np.flatnonzero(region.any(axis=1))
    line = []
    for turn, row in enumerate(rows[:: max(1, round(radius))]):
        columns = np.flatnonzero(region[row])[:: 1 if turn % 2 else -1]
        line += [(float(column), float(row)) for column in columns]
    return np.array(line)


# ---- the strokes: each gives the mask after it and, for prompts, the points so far


@dataclass
class Work:
    """A slice while it is corrected."""

    bad: BadSlice
    mask: np.ndarray
    rng: np.random.Generator
    points: tuple[PointPrompt, ...] = ()
    drawn_mm: float = 0.0
    gained: bool = True

    def prompt(self, points: tuple[PointPrompt, ...]) -> None:
        self.points += points
        self.mask = self.bad.predicted(self.points)

    def draw(self, kind: str, line_xy: np.ndarray, positive: bool) -> Stroke:
        xy = trembling(line_xy, self.bad, self.rng)
        stroke = Stroke(kind, xy, positive, BRUSH_MM)
        self.drawn_mm += float(np.linalg.norm(np.diff(xy, axis=0) @ self.bad.reformat.steps_xy_mm, axis=1).sum())
        return stroke

    def edit(self, stroke: Stroke) -> None:
        self.mask = np.where(stroke.mask_hw(self.bad.reformat), stroke.adds, self.mask)


def click(work: Work, error: Error) -> None:
    work.prompt((PointPrompt(distance_transform_peak(error.mask), error.positive),))


def scribble(work: Work, error: Error) -> None:
    work.prompt(work.draw("scribble", along(error.mask), error.positive).points(work.bad.reformat))


def lasso(work: Work, error: Error) -> None:
    work.edit(work.draw("lasso", around(work.bad, error), error.positive))


def brush(work: Work, error: Error) -> None:
    work.edit(work.draw("brush", over(work.bad, error), error.positive))


def brush_prompt(work: Work, error: Error) -> None:
    work.prompt(work.draw("brush", over(work.bad, error), error.positive).points(work.bad.reformat))


def lasso_prompt(work: Work, error: Error) -> None:
    """Points where the mask inside the lasso is deepest in what is to change, up to four."""
    marked = work.draw("lasso", around(work.bad, error), error.positive).mask_hw(work.bad.reformat)
    marked &= work.mask != error.positive
    points = []
    while marked.any() and len(points) < 4:
        x, y = distance_transform_peak(marked)
        points.append(PointPrompt((x, y), error.positive))
        row, column = np.ogrid[: marked.shape[0], : marked.shape[1]]
        marked &= np.hypot(row - y, column - x) > work.bad.mm(15)
    work.prompt(tuple(points))


def click_then_lasso(work: Work, error: Error) -> None:
    """Clicks as long as they help; then the lasso, over what they have made of the slice."""
    before = work.bad.dice(work.mask)
    if work.gained:
        kept = work.points, work.mask
        click(work, error)
        if work.bad.dice(work.mask) < before + 0.003:  # seen in the preview, and not accepted
            work.gained = False
            work.points, work.mask = kept
    else:
        lasso(work, error)


METHODS: dict[str, Callable[[Work, Error], None]] = {
    "clicks": click,
    "scribble, as prompt": scribble,
    "brush, as prompt": brush_prompt,
    "lasso, as prompt": lasso_prompt,
    "brush, as edit": brush,
    "lasso, as edit": lasso,
    "clicks while they help, then lasso": click_then_lasso,
}


def corrected(bad: BadSlice, method: Callable[[Work, Error], None]) -> dict[str, float]:
    """What it takes to correct a slice: strokes (the cap where it never was), and Dice on the way."""
    work = Work(bad, bad.predicted(), np.random.default_rng(0))
    scores = [bad.dice(work.mask)]
    while len(scores) <= MOST_STROKES and scores[-1] < ENOUGH:
        error = largest_error(bad, work.mask)
        if error is None:
            break
        method(work, error)
        scores.append(bad.dice(work.mask))
    reached = scores[-1] >= ENOUGH
    drawn = {"strokes": len(scores) - 1 if reached else MOST_STROKES, "reached": reached, "drawn_mm": work.drawn_mm}
    return drawn | {f"dice_{n}": scores[min(n, len(scores) - 1)] for n in (0, 1, 3)} | {"dice_last": scores[-1]}


# ---- the slices


def bad_slices(data: Path) -> Iterator[BadSlice]:
    """Slices found with a Dice below 0.97 by lung-compact: generated ones, and of the validation parts of two sets."""
    model = load_model("lung-compact")
    for seed in SEEDS:
        chest = chest_ct(seed, size_kji=(64, 256, 256), spacing_mm=(5.0, 1.5, 1.5))
        volume = Volume(chest.hu_kji, chest.ijk_to_ras, f"chest {seed}", "CT")
        yield from sorted(_of_volume(volume, chest.labelmap_kji, model), key=_found)[:SLICES_EACH]
    for name in ("ct_kmader", "cxr_shenzhen"):
        for example in paired_examples(data / name):
            if split_in_set(name, example.name) == "validation":
                matrix = np.diag([-PIXEL_MM, -PIXEL_MM, 1.0, 1.0])
                volume = Volume(example.image[None], matrix, example.name, example.modality)
                yield from _of_volume(volume, example.labelmap[None], model, name)


def _of_volume(volume: Volume, labelmap_kji: np.ndarray, model: object, name: str = "generated") -> list[BadSlice]:
    segmenter, bad = SliceSegmenter(volume, model), []
    for k in range(0, volume.size_kji[0], 2):
        point = (volume.ijk_to_ras @ [0, 0, k, 1])[:3]
        reformat = reformat_volume(volume.size_kji, volume.ijk_to_ras, (0, 0, 1), point)
        labels = reformat.take(labelmap_kji)
        one = BadSlice(name, segmenter, reformat, (labels > 0) & (labels != UNKNOWN), labels != UNKNOWN)
        if one.truth.sum() * np.prod(reformat.spacing_hw_mm) > 2000 and _found(one) < ENOUGH:  # 20 square cm
            bad.append(one)
    return bad


def _found(bad: BadSlice) -> float:
    return bad.dice(bad.predicted())


def figures(data: Path) -> str:
    """The table in Markdown."""
    rows = []
    for bad in bad_slices(data):
        rows += [{"set": bad.set_name, "method": name} | corrected(bad, one) for name, one in METHODS.items()]
    frame = pd.DataFrame(rows)
    lines = [
        "| set | slices | strokes are | strokes | reached 0.97 | drawn, mm | Dice before | after 1 | after 3 | last |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for set_name, of_set in [*frame.groupby("set", sort=False), ("all", frame)]:
        for method in METHODS:
            one = of_set[of_set["method"] == method]
            mean = one.select_dtypes("number").mean()
            scores = " | ".join(f"{mean[name]:.4f}" for name in ("dice_0", "dice_1", "dice_3", "dice_last"))
            lines.append(
                f"| {set_name} | {len(one)} | {method} | {mean['strokes']:.1f} | {one['reached'].mean():.0%} | "
                f"{mean['drawn_mm']:.0f} | {scores} |".replace("%", " %")
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with ct_kmader and cxr_shenzhen")
    parser.add_argument("--docs", type=Path, help="Markdown file with a marked place for the table")
    arguments = parser.parse_args()
    text = figures(arguments.data)
    print(text)
    if arguments.docs:
        put_figures(arguments.docs, "strokes.py", text + "\n")


if __name__ == "__main__":
    main()
