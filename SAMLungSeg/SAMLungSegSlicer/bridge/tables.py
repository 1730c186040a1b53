"""Tables and plots of measurements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from SAMLungSegSlicer.bridge.columns import headingOf, setHeadings

if TYPE_CHECKING:
    import pandas as pd

_CHART_ROLE = "SAMLungSegChart"


def tableFromDataFrame(
    dataframe: pd.DataFrame, name: str, tableNode: slicer.vtkMRMLTableNode | None = None
) -> slicer.vtkMRMLTableNode:
    """A data frame as a table node: numbers as double columns, which keep NaN, everything else as text.

    Columns keep their names and get titles with units (`headingOf`), which Slicer's table views show.

    Args:
        dataframe: its index is left out; missing text becomes empty.
        name: of the node.
        tableNode: filled anew where given, else a new node is made.
    """
    return _filled(tableNode, name, {str(column): _columnArray(dataframe[column]) for column in dataframe.columns})


def tableFromColumns(
    columns: Mapping[str, Sequence[str] | Sequence[float]],
    name: str,
    tableNode: slicer.vtkMRMLTableNode | None = None,
) -> slicer.vtkMRMLTableNode:
    """As `tableFromDataFrame`, of lists by their column's name, without pandas.

    Args:
        columns: each all text or all numbers; none is empty.
        name, tableNode: as there.
    """
    arrays = {
        column: _texts(values) if isinstance(values[0], str) else _numbers(values) for column, values in columns.items()
    }
    return _filled(tableNode, name, arrays)


def _filled(
    tableNode: slicer.vtkMRMLTableNode | None, name: str, columns: Mapping[str, vtk.vtkAbstractArray]
) -> slicer.vtkMRMLTableNode:
    if tableNode is None:
        tableNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
    with slicer.util.NodeModify(tableNode):
        tableNode.SetName(name)
        tableNode.RemoveAllColumns()
        for column, array in columns.items():
            array.SetName(column)
            tableNode.AddColumn(array)
        setHeadings(tableNode)
    return tableNode


def plotFromTable(
    tableNode: slicer.vtkMRMLTableNode,
    xColumn: str,
    yColumns: Sequence[str],
    title: str,
    yTitle: str = "",
    *,
    bars: bool = False,
) -> slicer.vtkMRMLPlotChartNode:
    """A chart of columns of a table, one series each; called again for the same table it fills the same nodes.

    Args:
        tableNode: holds all columns, each of numbers.
        xColumn: such as the slice number.
        yColumns: such as the Dice of each lung; columns with the name of a lung get its standard colour.
        title: of the chart.
        yTitle: of the y axis; the x axis has the title of its column.
        bars: bars instead of lines.
    """
    chart = tableNode.GetNodeReference(_CHART_ROLE)
    if chart is None:
        chart = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode", slicer.mrmlScene.GenerateUniqueName(title))
        tableNode.SetNodeReferenceID(_CHART_ROLE, chart.GetID())
    with slicer.util.NodeModify(chart):
        _setSeries(chart, tableNode, xColumn, yColumns, bars)
        chart.SetTitle(title)
        chart.SetXAxisTitle(headingOf(xColumn).title)
        chart.SetYAxisTitle(yTitle)
    return chart


def _columnArray(values: pd.Series) -> vtk.vtkAbstractArray:
    from pandas.api.types import is_numeric_dtype

    if is_numeric_dtype(values):
        return _numbers(values.to_numpy(np.float64, na_value=np.nan))
    missing = values.isna()
    return _texts("" if isMissing else str(value) for value, isMissing in zip(values, missing, strict=True))


def _numbers(values: Sequence[float] | np.ndarray) -> vtk.vtkDoubleArray:
    array = vtk.vtkDoubleArray()
    array.SetNumberOfValues(len(values))
    vtk_to_numpy(array)[:] = values
    return array


def _texts(values: Iterable[str]) -> vtk.vtkStringArray:
    array = vtk.vtkStringArray()
    for value in values:
        array.InsertNextValue(value)
    return array


def _setSeries(
    chart: slicer.vtkMRMLPlotChartNode,
    tableNode: slicer.vtkMRMLTableNode,
    xColumn: str,
    yColumns: Sequence[str],
    bars: bool,
) -> None:
    """One series node for each column: those that the chart has are used again, spare ones are deleted."""
    nodes = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
    kept = [node for node in nodes if node is not None]
    chart.RemoveAllPlotSeriesNodeIDs()
    for spare in kept[len(yColumns) :]:
        slicer.mrmlScene.RemoveNode(spare)
    for index, column in enumerate(yColumns):
        isNew = index >= len(kept)
        series = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode") if isNew else kept[index]
        series.SetName(column)
        series.SetAndObserveTableNodeID(tableNode.GetID())
        series.SetXColumnName(xColumn)
        series.SetYColumnName(column)
        series.SetPlotType(series.PlotTypeScatterBar if bars else series.PlotTypeScatter)
        _setColour(series, column, isNew)
        chart.AddAndObservePlotSeriesNodeID(series.GetID())


def _setColour(series: slicer.vtkMRMLPlotSeriesNode, column: str, isNew: bool) -> None:
    from SAMLungSegLib.structures import LUNGS

    colour = next((lung.colour for _label, lung in LUNGS if lung.name == column), None)
    if colour is not None:
        series.SetColor(*(value / 255 for value in colour))
    elif isNew:
        series.SetUniqueColor()
