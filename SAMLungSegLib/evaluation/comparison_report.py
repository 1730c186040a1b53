"""The report of a comparison: tables as CSV, Markdown and LaTeX, Bland-Altman plots, and a page with all of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from SAMLungSegLib.evaluation.agreement_figures import AgreementPanel, bland_altman_plot
from SAMLungSegLib.evaluation.comparison import PAIRS_OF_SIZES, Comparison, agreement_of_sizes
from SAMLungSegLib.evaluation.latex import table_latex
from SAMLungSegLib.evaluation.pairs import Unpaired
from SAMLungSegLib.evaluation.tables import metric_text, metric_title, table_markdown, with_interval
from SAMLungSegLib.files import check_written, writable_folder, write_csv, write_text

_SIZE_TITLES = {"ml": "Volume [ml]", "cm2": "Area [cm²]", "px": "Size [pixels]"}
_EXPLANATION = """\
- Mean and difference: over the n cases where the metric is finite for both; 'Left out' counts the others, such as the
  distance to a structure that one labelmap lacks.
- {percent:g} % intervals of means: percentiles of a bootstrap over {what}, {resamples} resamples, seed {seed}.
- p: Wilcoxon's signed-rank test of the paired differences, two-sided{means}. Not corrected for the number of tests.
- Bias and limits of agreement: mean difference, and mean ± 1.96 standard deviations (Bland and Altman 1986); their
  intervals {limits}.
- Relative volume error: the method's size minus the reference's, as a share of the reference's.
- HD95 and ASSD: the larger of the two directed 95th percentiles, and the mean, of distances between boundary voxels.
"""


def write_comparison(
    comparison: Comparison, folder: str | Path, *, not_measured: Sequence[Unpaired] = ()
) -> list[Path]:
    """Write cases.csv, sizes.csv, differences.csv, agreement.csv, tables.tex, a plot for each structure, and report.md.

    Args:
        comparison: of two methods.
        folder: created if it does not exist.
        not_measured: files that are missing in the tables; listed in not_measured.csv and in the report.
    Returns:
        Paths of the files, the report last.
    Raises:
        OutputError: a file cannot be written, or was removed meanwhile.
    """
    folder = writable_folder(Path(folder))
    tables = {
        "cases": comparison.scores,
        "sizes": comparison.sizes,
        "differences": comparison.differences,
        "agreement": comparison.agreement,
    }
    written = [write_csv(table, folder / f"{name}.csv") for name, table in tables.items()]
    left_out = pd.DataFrame([(one.name, str(one.path), one.reason) for one in not_measured])
    if not_measured:
        left_out.columns = ["case", "file", "reason"]
        written.append(write_csv(left_out, folder / "not_measured.csv"))
    else:
        (folder / "not_measured.csv").unlink(missing_ok=True)  # of an earlier report
    written.append(write_text(_latex(comparison), folder / "tables.tex"))
    plots = _write_plots(comparison, folder)
    for earlier in {*folder.glob("bland_altman_*.png")} - {*plots.values()}:
        earlier.unlink(missing_ok=True)  # of an earlier report
    written += [*plots.values(), write_text(_report(comparison, plots, left_out), folder / "report.md")]
    check_written(written)
    return written


def readable_differences(comparison: Comparison) -> pd.DataFrame:
    """The table of differences with the numbers put together as text."""
    rows, (a, b) = comparison.differences, comparison.names
    percent = f"{100 * comparison.bootstrap.confidence:g} %"
    return pd.DataFrame(
        {
            "Structure": rows["structure"],
            "Metric": [metric_title(name) for name in rows["metric"]],
            "n": rows["n"],
            f"{a} ({percent} interval)": _with_intervals(rows, "a"),
            f"{b} ({percent} interval)": _with_intervals(rows, "b"),
            f"{a} \N{MINUS SIGN} {b} ({percent} interval)": _with_intervals(rows, "difference"),
            "Median difference": [
                metric_text(name, value) for name, value in zip(rows["metric"], rows["difference_median"], strict=True)
            ],
            "p": [p_text(value) for value in rows["p_value"]],
            "Left out": rows["undefined"],
        }
    )


def readable_agreement(comparison: Comparison) -> pd.DataFrame:
    """The table of bias and limits of agreement with the numbers put together as text."""
    rows = comparison.agreement
    titles = _size_names(comparison)
    percent = f"{100 * comparison.bootstrap.confidence:g} %"
    pairs = zip(rows["first"], rows["second"], strict=True)
    return pd.DataFrame(
        {
            "Structure": rows["structure"],
            "Of": [_SIZE_TITLES[unit] for unit in rows["unit"]],
            "Difference": [f"{titles[first]} \N{MINUS SIGN} {titles[second]}" for first, second in pairs],
            "n": rows["n"],
            f"Bias ({percent} interval)": _sizes_with_intervals(rows, "bias"),
            "SD": [_size_text(value) for value in rows["sd"]],
            f"Lower limit ({percent} interval)": _sizes_with_intervals(rows, "lower"),
            f"Upper limit ({percent} interval)": _sizes_with_intervals(rows, "upper"),
        }
    )


def p_text(value: float) -> str:
    """A p value with three decimals; '-' where there is no test."""
    if np.isnan(value):
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _with_intervals(rows: pd.DataFrame, name: str) -> list[str]:
    columns = [rows["metric"], *(rows[f"{name}_{part}"] for part in ("mean", "low", "high"))]
    return [
        with_interval(*(metric_text(metric, value) for value in values))
        for metric, *values in zip(*columns, strict=True)
    ]


def _sizes_with_intervals(rows: pd.DataFrame, name: str) -> list[str]:
    columns = [rows[name], rows[f"{name}_low"], rows[f"{name}_high"]]
    return [with_interval(*map(_size_text, values)) for values in zip(*columns, strict=True)]


def _size_text(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.1f}"


def _size_names(comparison: Comparison) -> dict[str, str]:
    return {**dict(zip("ab", comparison.names, strict=True)), "reference": "reference"}


def _latex(comparison: Comparison) -> str:
    a, b = comparison.names
    cases = comparison.scores["case"].nunique()
    return "\n".join(
        [
            table_latex(
                readable_differences(comparison),
                f"{a} and {b} on {cases} cases, compared with the reference",
                "tab:differences",
            ),
            table_latex(readable_agreement(comparison), "Bias and limits of agreement of sizes", "tab:agreement"),
        ]
    )


def _write_plots(comparison: Comparison, folder: Path) -> dict[str, Path]:
    """The Bland-Altman plots of each structure, by what they are of."""
    plots = {}
    titles = _size_names(comparison)
    several = comparison.sizes["unit"].nunique() > 1
    for (structure, unit), sizes in comparison.sizes.groupby(["structure", "unit"], sort=False):
        panels = [
            AgreementPanel(
                (titles[first], titles[second]),
                unit,
                sizes[first].to_numpy(float),
                sizes[second].to_numpy(float),
                agreement_of_sizes(sizes, first, second, comparison.bootstrap),
            )
            for first, second in PAIRS_OF_SIZES
        ]
        name = structure.replace(" ", "_") + (f"_{unit}" if several else "")
        what = f"{_SIZE_TITLES[unit].partition(' ')[0]} of {structure}, {len(sizes)} cases"
        plots[what] = folder / f"bland_altman_{name}.png"
        bland_altman_plot(plots[what], panels, title=what)
    return plots


def _report(comparison: Comparison, plots: dict[str, Path], left_out: pd.DataFrame) -> str:
    a, b = comparison.names
    cases, patients = (comparison.scores[column].nunique() for column in ("case", "patient"))
    of = f" of {patients} patients" if comparison.is_clustered else ""
    sections = [
        ("Differences", table_markdown(readable_differences(comparison))),
        ("Agreement of sizes", table_markdown(readable_agreement(comparison))),
        ("Bland-Altman plots", "\n".join(f"![{what}]({path.name})\n" for what, path in plots.items())),
        ("Notes", _notes(comparison)),
        ("How to read this", _explanation(comparison)),
    ]
    if len(left_out):
        sections.insert(2, ("Not measured", table_markdown(left_out.rename(columns=str.capitalize))))
    body = "\n".join(f"## {heading}\n\n{text}" for heading, text in sections)
    return f"# {a} and {b}, by one reference\n\n{cases} cases{of}.\n\n{body}"


def _notes(comparison: Comparison) -> str:
    cases: dict[str, list[str]] = {}
    for case, note in comparison.notes:
        cases.setdefault(note, []).append(case)
    count = comparison.scores["case"].nunique()
    lines = [f"- {note} ({', '.join(named) if len(named) < count else 'all'})" for note, named in cases.items()]
    return "\n".join(lines or ["- None."]) + "\n"


def _explanation(comparison: Comparison) -> str:
    bootstrap, is_clustered = comparison.bootstrap, comparison.is_clustered
    return _EXPLANATION.format(
        percent=100 * bootstrap.confidence,
        what="patients, with all their cases" if is_clustered else "cases",
        resamples=bootstrap.resamples,
        seed=bootstrap.seed,
        means=", of the means of each patient" if is_clustered else "",
        limits="by the same bootstrap" if is_clustered else "by Student's t, as there",
    )
