"""What the papers report, as tables to be laid beside one's own.

Sources: Gutiérrez et al. 2024, doi:10.1109/ACCESS.2024.3353142 (zero-shot); Carvalho and Almeida 2024, CIARP
(fine-tuning). The former used SAM ViT-L; the latter do not say which SAM they used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

GUTIERREZ = "Gutiérrez et al. 2024, doi:10.1109/ACCESS.2024.3353142"
CARVALHO = "Carvalho and Almeida 2024, Exploiting the Segment Anything Model (SAM) for lung segmentation, CIARP 2024"


@dataclass(frozen=True)
class PublishedTable:
    """A table of a paper, or figures of its text put together as one.

    Attributes:
        title: what it shows.
        source: paper and place in it.
        columns: headings.
        rows: texts and numbers; scores are fractions of 1 unless a heading says percent.
    """

    title: str
    source: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | float, ...], ...]

    def frame(self) -> pd.DataFrame:
        """The table as a data frame."""
        import pandas as pd

        return pd.DataFrame(list(self.rows), columns=list(self.columns))

    def value(self, row: str | Sequence[str], column: str) -> float:
        """The number in `column` of the row whose first cell, or first cells, are `row`."""
        keys = (row,) if isinstance(row, str) else tuple(row)
        found = next(cells for cells in self.rows if cells[: len(keys)] == keys)
        return float(found[self.columns.index(column)])


_STATISTICS = tuple(f"{metric} {name} [%]" for metric in ("Jaccard", "Dice") for name in ("min", "max", "mean", "SD"))

ZERO_SHOT_TABLE_1 = PublishedTable(
    "Zero-shot, pooled over slices",
    f"{GUTIERREZ}, table 1; the number of CT slices with lung is that of the authors' table of slices",
    ("Images", "slices", *_STATISTICS),
    (
        ("lung CT (COVID-19, 20 volumes)", 2973, 6.27, 98.84, 91.45, 12.25, 11.79, 99.42, 94.95, 9.30),
        ("chest X-ray (Montgomery)", 138, 61.60, 95.94, 87.45, 6.09, 76.24, 97.93, 93.19, 3.60),
    ),
)
ZERO_SHOT_VOLUME_MEANS = PublishedTable(
    "Zero-shot, means over volumes",
    f"{GUTIERREZ}, section IV",
    ("Images", "images", "Jaccard mean [%]", "Jaccard SD within [%]", "Dice mean [%]", "Dice SD within [%]"),
    (("lung CT (COVID-19)", 20, 89.97, 12.76, 93.69, 9.69),),
)
ZERO_SHOT_STATE_OF_THE_ART = PublishedTable(
    "Models trained for the task",
    f"{GUTIERREZ}, table 2",
    ("Model", "Images", "Jaccard [%]", "Dice [%]"),
    (
        ("DMDF-Net (Owais et al.)", "lung CT, the same set", 97.38, 98.66),
        ("TransAttUnet (Chen et al.)", "chest X-ray, the same set", 97.82, 98.88),
        ("residual U-Net (Khanna et al.)", "lung CT", 97.98, 98.98),
        ("mask R-CNN (Hu et al.)", "lung CT", float("nan"), 97.68),
    ),
)
ZERO_SHOT_NEGATIVES = PublishedTable(
    "Other or more negative points on slices that failed",
    f"{GUTIERREZ}, section V and figure 6",
    ("Slice", "Jaccard before [%]", "Dice before [%]", "Jaccard after [%]", "Dice after [%]"),
    (
        ("lung CT, volume 1, slice 86: one negative moved", 26.74, 42.20, 90.57, 95.05),
        ("chest X-ray: several negatives", 78.85, 88.17, 88.30, 93.79),
    ),
)

_PROMPT_COLUMNS = ("Set", "Prompt", "F1 mean", "F1 SD", "IoU mean", "IoU SD")

FINE_TUNE_BEFORE = PublishedTable(
    "Before tuning",
    f"{CARVALHO}, tables 1 and 2",
    _PROMPT_COLUMNS,
    (
        ("Montgomery", "box", 0.718, 0.033, 0.586, 0.033),
        ("Montgomery", "points", 0.860, 0.013, 0.774, 0.018),
        ("Montgomery", "both", 0.848, 0.006, 0.746, 0.007),
        ("Shenzhen", "box", 0.782, 0.009, 0.661, 0.013),
        ("Shenzhen", "points", 0.726, 0.021, 0.593, 0.026),
        ("Shenzhen", "both", 0.863, 0.005, 0.765, 0.008),
    ),
)
FINE_TUNE_AFTER = PublishedTable(
    "After tuning",
    f"{CARVALHO}, tables 7 and 8",
    _PROMPT_COLUMNS,
    (
        ("Montgomery", "box", 0.818, 0.040, 0.707, 0.045),
        ("Montgomery", "points", 0.943, 0.007, 0.897, 0.012),
        ("Montgomery", "both", 0.876, 0.015, 0.787, 0.023),
        ("Shenzhen", "box", 0.797, 0.014, 0.667, 0.024),
        ("Shenzhen", "points", 0.915, 0.011, 0.845, 0.018),
        ("Shenzhen", "both", 0.845, 0.012, 0.735, 0.018),
    ),
)
FINE_TUNE_THRESHOLDS = PublishedTable(
    "F1 on validation by threshold",
    f"{CARVALHO}, tables 3 and 4",
    ("Set", "Threshold", "box", "points", "both"),
    (
        ("Montgomery", 0.50, 0.828, 0.898, 0.894),
        ("Montgomery", 0.55, 0.812, 0.932, 0.893),
        ("Montgomery", 0.60, 0.743, 0.957, 0.879),
        ("Montgomery", 0.65, 0.596, 0.960, 0.835),
        ("Montgomery", 0.70, 0.410, 0.938, 0.759),
        ("Shenzhen", 0.50, 0.837, 0.880, 0.846),
        ("Shenzhen", 0.55, 0.127, 0.918, 0.782),
        ("Shenzhen", 0.60, 0.003, 0.870, 0.417),
        ("Shenzhen", 0.65, 0.000, 0.829, 0.105),
        ("Shenzhen", 0.70, 0.000, 0.789, 0.005),
    ),
)
FINE_TUNE_CROSS_SET = PublishedTable(
    "Tuned on one set, tested on another (points)",
    f"{CARVALHO}, tables 5 and 6",
    ("Tuned on", "Tested on", "F1", "IoU"),
    (
        ("Montgomery", "Montgomery", 0.943, 0.897),
        ("Shenzhen", "Montgomery", 0.924, 0.860),
        ("Shenzhen", "Shenzhen", 0.915, 0.845),
        ("Montgomery", "Shenzhen", 0.933, 0.875),
    ),
)
FINE_TUNE_UNET = PublishedTable(
    "Tuned SAM (points) beside a U-Net",
    f"{CARVALHO}, table 9",
    ("Set", "SAM F1 mean", "SAM F1 SD", "U-Net F1 mean", "U-Net F1 SD"),
    (
        ("Montgomery", 0.943, 0.007, 0.973, 0.014),
        ("Shenzhen", 0.915, 0.011, 0.941, 0.047),
    ),
)
