"""Judge predicted labelmaps by references: `evaluate`, `summarise`, `write_report`.

The names that draw are loaded when they are first used, so that measuring does without matplotlib.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from SAMLungSegLib.evaluation.measure import ComparedSlice, Evaluation, check_tolerance, evaluate
from SAMLungSegLib.evaluation.pairs import Pair, Pairing, Unpaired, case_name, match_files, pair_files
from SAMLungSegLib.evaluation.sides import check_labels
from SAMLungSegLib.evaluation.tables import (
    readable_metrics,
    readable_slice_means,
    readable_summary,
    summarise,
    summarise_tables,
    table_markdown,
)

if TYPE_CHECKING:
    from SAMLungSegLib.evaluation.figures import box_plot, comparison_sheet, draw_overlay
    from SAMLungSegLib.evaluation.images import with_images
    from SAMLungSegLib.evaluation.report import write_report

_DRAWING = {
    "box_plot": "figures",
    "comparison_sheet": "figures",
    "draw_overlay": "figures",
    "with_images": "images",
    "write_report": "report",
}

__all__ = [
    "ComparedSlice",
    "Evaluation",
    "Pair",
    "Pairing",
    "Unpaired",
    "box_plot",
    "case_name",
    "check_labels",
    "check_tolerance",
    "comparison_sheet",
    "draw_overlay",
    "evaluate",
    "match_files",
    "pair_files",
    "readable_metrics",
    "readable_slice_means",
    "readable_summary",
    "summarise",
    "summarise_tables",
    "table_markdown",
    "with_images",
    "write_report",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _DRAWING:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_DRAWING[name]}"), name)
