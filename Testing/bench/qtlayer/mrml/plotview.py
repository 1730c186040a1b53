"""qMRMLPlotView: draws a plot chart node with VTK's charts, as Slicer does."""

from __future__ import annotations

from typing import Any

import qt
import vtk
from PySide6.QtCore import Signal

from bench import offscreen
from bench.observers import Observers
from bench.qtlayer.custom import custom_widget

LINE_STYLES = {
    "none": vtk.vtkPen.NO_PEN,
    "solid": vtk.vtkPen.SOLID_LINE,
    "dash": vtk.vtkPen.DASH_LINE,
    "dot": vtk.vtkPen.DOT_LINE,
    "dash-dot": vtk.vtkPen.DASH_DOT_LINE,
    "dash-dot-dot": vtk.vtkPen.DASH_DOT_DOT_LINE,
}
MARKER_STYLES = {
    "none": vtk.vtkPlotPoints.NONE,
    "cross": vtk.vtkPlotPoints.CROSS,
    "plus": vtk.vtkPlotPoints.PLUS,
    "square": vtk.vtkPlotPoints.SQUARE,
    "circle": vtk.vtkPlotPoints.CIRCLE,
    "diamond": vtk.vtkPlotPoints.DIAMOND,
}


@custom_widget
class qMRMLPlotView(qt.QWidget):
    """Shows the chart that its view node names."""

    mrmlSceneChanged = Signal(object)
    dataSelected = Signal(object, object)

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene = self._viewNode = self._view = None
        self._viewObservers, self._chartObservers = Observers(), Observers()
        self.destroyed.connect(self._viewObservers.clear)
        self.destroyed.connect(self._chartObservers.clear)

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)
        self.update()

    def mrmlPlotViewNode(self) -> Any:
        return self._viewNode

    def setMRMLPlotViewNode(self, node: Any) -> None:
        self._viewObservers.clear()
        self._viewNode = node
        if node is not None:
            self._viewObservers.add(node, vtk.vtkCommand.ModifiedEvent, self._onViewModified)
        self._onViewModified()

    def chartNode(self) -> Any:
        """The chart that is shown."""
        identifier = self._viewNode.GetPlotChartNodeID() if self._viewNode is not None else None
        return self._scene.GetNodeByID(identifier) if self._scene is not None and identifier else None

    def fitToContent(self) -> None:
        self.update()

    def _onViewModified(self, caller: Any = None, event: Any = None) -> None:
        self._chartObservers.clear()
        chart = self.chartNode()
        if chart is not None:
            changes = [vtk.vtkCommand.ModifiedEvent, chart.PlotModifiedEvent]
            self._chartObservers.add(chart, changes, lambda caller, event: self.update())
        self.update()

    def paintEvent(self, event: qt.QPaintEvent) -> None:
        painter = qt.QPainter(self)
        painter.fillRect(self.rect, qt.QColor("white"))
        chart = self.chartNode()
        if chart is not None and self.width > 1 and self.height > 1:
            self._view = chart_view(chart, self.width, self.height)
            painter.drawImage(0, 0, offscreen.picture(self._view.GetRenderWindow()))
        painter.end()


def chart_view(chart_node: Any, width: int, height: int) -> vtk.vtkContextView:
    """A VTK view of a chart node's series."""
    view, chart = vtk.vtkContextView(), vtk.vtkChartXY()
    view.SetRenderWindow(offscreen.render_window(width, height))
    view.GetRenderer().SetBackground(1, 1, 1)
    view.GetScene().AddItem(chart)
    for index in range(chart_node.GetNumberOfPlotSeriesNodes()):
        series = chart_node.GetNthPlotSeriesNode(index)
        plot = _plot(series)
        if plot is not None:
            chart.AddPlot(plot)
    _title(chart, chart_node)
    return view


def _plot(series: Any) -> vtk.vtkPlot | None:
    table = series.GetTableNode().GetTable() if series.GetTableNode() is not None else None
    if table is None or table.GetColumnByName(series.GetYColumnName() or "") is None:
        return None
    bars = series.GetPlotType() in (series.PlotTypeBar, series.PlotTypeScatterBar)
    plot = vtk.vtkPlotBar() if bars else vtk.vtkPlotLine()
    plot.SetColorF(*series.GetColor())
    plot.SetLabel(series.GetName())
    if not bars:
        plot.SetWidth(series.GetLineWidth())
        plot.GetPen().SetLineType(LINE_STYLES[series.GetLineStyleAsString(series.GetLineStyle())])
        plot.SetMarkerStyle(MARKER_STYLES[series.GetMarkerStyleAsString(series.GetMarkerStyle())])
        plot.SetMarkerSize(series.GetMarkerSize())
    x_column = table.GetColumnByName(series.GetXColumnName() or "")
    if series.IsXColumnRequired() and x_column is None:
        return None
    plot.SetUseIndexForXSeries(not series.IsXColumnRequired())
    plot.SetInputData(table, series.GetXColumnName() or series.GetYColumnName(), series.GetYColumnName())
    return plot


def _title(chart: vtk.vtkChartXY, node: Any) -> None:
    chart.SetTitle((node.GetTitle() or "") if node.GetTitleVisibility() else "")
    chart.SetShowLegend(node.GetLegendVisibility())
    chart.ForceAxesToBoundsOff()
    bottom, left = chart.GetAxis(vtk.vtkAxis.BOTTOM), chart.GetAxis(vtk.vtkAxis.LEFT)
    bottom.SetTitle((node.GetXAxisTitle() or "") if node.GetXAxisTitleVisibility() else "")
    left.SetTitle((node.GetYAxisTitle() or "") if node.GetYAxisTitleVisibility() else "")
    for axis, automatic, limits in (
        (bottom, node.GetXAxisRangeAuto(), node.GetXAxisRange()),
        (left, node.GetYAxisRangeAuto(), node.GetYAxisRange()),
    ):
        if not automatic:
            axis.SetBehavior(vtk.vtkAxis.FIXED)
            axis.SetRange(*limits)
