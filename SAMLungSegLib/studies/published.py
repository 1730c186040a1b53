"""What the papers report, as tables to be laid beside one's own.

Sources: Gutiérrez et al. 2024, doi:10.1109/ACCESS.2024.3353142 (zero-shot); Carvalho and Almeida 2024, CIARP
(fine-tuning); Zhang, Peking University (multi-organ). The first used SAM ViT-L, the last ViT-H; the second do not say
which SAM they used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

GUTIERREZ = "Gutiérrez et al. 2024, doi:10.1109/ACCESS.2024.3353142"
CARVALHO = "Carvalho and Almeida 2024, Exploiting the Segment Anything Model (SAM) for lung segmentation, CIARP 2024"
ZHANG = "Zhang, Term Project Report: SAM, Peking University, undated (BTCV, 24 + 6 volumes, SAM ViT-H)"


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

MULTI_ORGAN_FORMULA = (
    "The text prints 2|A and B| / |A or B|, which can exceed 1; the authors' code computes 2|A and B| / (|A| + |B|), "
    "and so the published figures are Dice."
)
MULTI_ORGAN_ONE_EXPERIMENT = (
    "The three tuned rows of points are one experiment under three names: by the authors' code, training and "
    "validation took the central point whatever kind of points was named. That they differ by 0.002 says how far runs "
    "differ."
)

MULTI_ORGAN_DICE = PublishedTable(
    "Mean Dice over organs by prompt, before and after tuning",
    f"{ZHANG}, tables 1 and 2",
    ("Prompt", "zero-shot", "tuned", "mark"),
    (
        ("centre", 0.6124, 0.8556, "one experiment with the next two"),
        ("point", 0.5929, 0.8535, "tuned and tested with the centre"),
        ("points", 0.6437, 0.8532, "tuned and tested with the centre"),
        ("box", 0.8649, 0.9158, ""),
        ("larger-box", 0.8267, 0.9161, "5 px on each side in the code; the text says in width and height"),
    ),
)
MULTI_ORGAN_OTHERS = PublishedTable(
    "Beside models without prompts",
    f"{ZHANG}, table 3",
    ("Model", "Dice", "mark"),
    (
        ("U-Net", 0.921, "needs no prompt"),
        ("ResU-Net", 0.924, "needs no prompt"),
        ("DeepLabV3", 0.892, "needs no prompt"),
        ("PIPO-FAN", 0.936, "needs no prompt"),
        ("tuned SAM (box)", 0.916, "box of the reference: an oracle"),
    ),
)
MULTI_ORGAN_ZERO_SHOT = PublishedTable(
    "Zero-shot Dice by organ and prompt",
    f"{ZHANG}, results of the authors' code",
    ("Organ", "centre", "point", "points", "box", "larger-box"),
    (
        ("spleen", 0.676, 0.630, 0.757, 0.930, 0.914),
        ("right kidney", 0.874, 0.862, 0.869, 0.924, 0.901),
        ("left kidney", 0.862, 0.858, 0.862, 0.922, 0.901),
        ("gallbladder", 0.342, 0.290, 0.393, 0.840, 0.736),
        ("oesophagus", 0.344, 0.345, 0.413, 0.846, 0.789),
        ("liver", 0.598, 0.577, 0.650, 0.917, 0.894),
        ("stomach", 0.552, 0.471, 0.620, 0.791, 0.800),
        ("aorta", 0.857, 0.851, 0.847, 0.902, 0.881),
        ("inferior vena cava", 0.600, 0.601, 0.620, 0.903, 0.861),
        ("portal and splenic vein", 0.419, 0.358, 0.383, 0.581, 0.546),
        ("pancreas", 0.351, 0.329, 0.451, 0.755, 0.701),
        ("right adrenal gland", 0.057, 0.052, 0.077, 0.686, 0.507),
        ("left adrenal gland", 0.155, 0.148, 0.205, 0.790, 0.595),
    ),
)
MULTI_ORGAN_ACCURACY = PublishedTable(
    "Accuracy of the class head, point prompts",
    f"{ZHANG}, table 4; the macro mean is computed from it",
    ("Organ", "accuracy"),
    (
        ("spleen", 0.8477),
        ("right kidney", 0.7917),
        ("left kidney", 0.8631),
        ("gallbladder", 0.7647),
        ("oesophagus", 0.9139),
        ("liver", 0.9544),
        ("stomach", 0.8729),
        ("aorta", 0.9134),
        ("inferior vena cava", 0.7818),
        ("portal and splenic vein", 0.5802),
        ("pancreas", 0.7698),
        ("right adrenal gland", 0.3167),
        ("left adrenal gland", 0.7639),
        ("weighted mean", 0.8331),
        ("macro mean", 0.7796),
    ),
)

ADAPTATIONS = PublishedTable(
    "Adaptations of SAM, each as its paper reports it",
    "arXiv:2304.12620, 2401.12974, 2402.05902, 2401.17803, 2311.10121, and Zhang; data, prompts and base differ, so "
    "that rows are not to be compared with each other",
    ("System", "data", "measure", "adapted", "beside it", "mark"),
    (
        ("Med-SA", "BTCV, box at 0.5 overlap", "Dice", "0.876", "MedSAM 0.692", "prompt from the reference: an oracle"),
        ("SegmentAnyBone", "MRI", "Dice", "0.869", "3D nnU-Net 0.733", ""),
        ("ClickSAM", "ultrasound, 647 images", "IoU", "0.916", "MedSAM 0.862", "its training images, oracle clicks"),
        ("SimAda", "ISIC", "mean absolute error", "33.2 % lower or more", "SAM", "LoRA the worst of its four methods"),
        (
            "SimAda",
            "ColonDB",
            "mean absolute error",
            "5.5 % lower or more",
            "SAM",
            "LoRA the worst of its four methods",
        ),
        ("Slide-SAM", "WORD and CHAOS", "Dice", "above 0.80", "SAM 0.750 (WORD)", "one prompt a volume; SAM had 40"),
        ("multi-organ decoder", "BTCV, box", "Dice", "0.916", "SAM 0.865", "box of the reference: an oracle"),
    ),
)
