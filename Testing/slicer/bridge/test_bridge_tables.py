from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import slicer

from SAMLungSegSlicer import bridge

PER_SLICE = pd.DataFrame(
    {
        "slice": [0, 1, 2],
        "right lung": [np.nan, 0.5, 0.75],
        "left lung": [1.0, np.inf, 0.0],
        "empty": [True, False, False],
        "note": ["first", None, "last"],
    }
)


def columns_of(node):
    table = node.GetTable()
    return {table.GetColumnName(n): table.GetColumn(n) for n in range(table.GetNumberOfColumns())}


def series_of(chart):
    return [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]


def count(class_name):
    return slicer.mrmlScene.GetNumberOfNodesByClass(class_name)


def test_numbers_become_double_columns_and_keep_nan():
    node = bridge.tableFromDataFrame(PER_SLICE, "Dice per slice")
    assert node.GetName() == "Dice per slice"
    columns = columns_of(node)
    assert list(columns) == list(PER_SLICE.columns)
    for name in ("slice", "right lung", "left lung", "empty"):
        assert columns[name].GetClassName() == "vtkDoubleArray"
        values = slicer.util.arrayFromTableColumn(node, name)
        assert np.array_equal(values, PER_SLICE[name].astype(float), equal_nan=True)


def test_text_becomes_a_string_column_and_missing_text_is_empty():
    text = columns_of(bridge.tableFromDataFrame(PER_SLICE, "x"))["note"]
    assert text.GetClassName() == "vtkStringArray"
    assert [text.GetValue(n) for n in range(3)] == ["first", "", "last"]


def test_whole_numbers_that_may_be_missing_keep_their_gaps():
    frame = pd.DataFrame({"n": pd.array([1, None], dtype="Int64")})
    node = bridge.tableFromDataFrame(frame, "x")
    assert np.array_equal(slicer.util.arrayFromTableColumn(node, "n"), [1, np.nan], equal_nan=True)


def test_a_table_outlives_its_data_frame():
    frame = PER_SLICE.copy()
    node = bridge.tableFromDataFrame(frame, "x")
    frame["slice"] = 99
    del frame
    assert slicer.util.arrayFromTableColumn(node, "slice").tolist() == [0, 1, 2]


def test_a_table_that_is_given_is_filled_anew():
    node = bridge.tableFromDataFrame(PER_SLICE, "first")
    assert bridge.tableFromDataFrame(PER_SLICE[["slice"]].head(1), "second", node) is node
    assert (node.GetName(), list(columns_of(node)), node.GetNumberOfRows()) == ("second", ["slice"], 1)
    assert count("vtkMRMLTableNode") == 1


def test_a_frame_without_rows_keeps_its_columns():
    node = bridge.tableFromDataFrame(PER_SLICE.head(0), "x")
    assert list(columns_of(node)) == list(PER_SLICE.columns)
    assert node.GetNumberOfRows() == 0


@pytest.mark.parametrize("bars", [False, True])
def test_a_chart_has_one_series_for_each_lung_in_its_colour(bars):
    table = bridge.tableFromDataFrame(PER_SLICE, "x")
    chart = bridge.plotFromTable(table, "slice", ["right lung", "left lung"], "Agreement", "Dice", bars=bars)
    right, left = series_of(chart)
    assert (chart.GetTitle(), chart.GetXAxisTitle(), chart.GetYAxisTitle()) == ("Agreement", "Slice", "Dice")
    assert [one.GetYColumnName() for one in (right, left)] == ["right lung", "left lung"]
    assert all(one.GetTableNode() is table and one.GetXColumnName() == "slice" for one in (right, left))
    assert right.GetPlotType() == (right.PlotTypeScatterBar if bars else right.PlotTypeScatter)
    assert np.allclose(np.array(right.GetColor()) * 255, (197, 165, 145))
    assert np.allclose(np.array(left.GetColor()) * 255, (145, 178, 197))


def test_the_second_plot_of_a_table_uses_the_same_nodes():
    table = bridge.tableFromDataFrame(PER_SLICE, "x")
    chart = bridge.plotFromTable(table, "slice", ["right lung", "left lung"], "First")
    before = series_of(chart)
    bridge.tableFromDataFrame(PER_SLICE.rename(columns={"slice": "number"}), "x", table)
    assert bridge.plotFromTable(table, "number", ["left lung"], "Second") is chart
    assert series_of(chart) == before[:1]
    assert (chart.GetTitle(), before[0].GetXColumnName(), before[0].GetYColumnName()) == (
        "Second",
        "number",
        "left lung",
    )
    assert (count("vtkMRMLPlotChartNode"), count("vtkMRMLPlotSeriesNode")) == (1, 1)
    assert series_of(bridge.plotFromTable(table, "number", ["right lung", "left lung"], "Third"))[0] is before[0]
    assert (count("vtkMRMLPlotChartNode"), count("vtkMRMLPlotSeriesNode")) == (1, 2)


def test_a_chart_that_was_deleted_is_made_again():
    table = bridge.tableFromDataFrame(PER_SLICE, "x")
    slicer.mrmlScene.RemoveNode(bridge.plotFromTable(table, "slice", ["left lung"], "First"))
    assert len(series_of(bridge.plotFromTable(table, "slice", ["left lung"], "Second"))) == 1
    assert count("vtkMRMLPlotChartNode") == 1


def test_two_tables_have_charts_of_their_own():
    charts = [
        bridge.plotFromTable(bridge.tableFromDataFrame(PER_SLICE, name), "slice", ["left lung"], name) for name in "ab"
    ]
    assert charts[0] is not charts[1]
    assert count("vtkMRMLPlotSeriesNode") == 2


@pytest.mark.parametrize(
    ("name", "title", "unit"),
    [
        ("dice", "Dice", ""),
        ("hausdorff_95_mm", "HD95 (mm)", "mm"),
        ("volume_difference_ml", "Volume difference (ml)", "ml"),
        ("right_ml", "Right lung (ml)", "ml"),
        ("laa950_percent", "Below -950 HU (%)", "%"),
        ("left_voxels", "Left lung (voxels)", "voxels"),
        ("prediction_ml", "Segmentation (ml)", "ml"),
        ("dice_right", "Dice, right", ""),
        ("hausdorff_95_mm_both", "HD95 (mm), both", "mm"),
        ("seconds", "Time (s)", "s"),
        ("id", "Image", ""),
        ("array_index", "Array index", ""),
        ("right lung", "Right lung", ""),
    ],
)
def test_columns_have_titles_with_units_and_keep_their_names(name, title, unit):
    node = bridge.tableFromDataFrame(pd.DataFrame({name: [1.0]}), "x")
    assert node.GetColumnName(0) == name
    assert (node.GetColumnTitle(name), node.GetColumnUnitLabel(name)) == (title, unit)
    assert node.GetUseColumnTitleAsColumnHeader()
    assert slicer.util.arrayFromTableColumn(node, name)[0] == 1


def test_a_table_that_is_filled_anew_has_the_titles_of_its_new_columns():
    node = bridge.tableFromDataFrame(pd.DataFrame({"right_ml": [1.0]}), "x")
    bridge.tableFromColumns({"structure": ["right lung"], "mean_hu": [-800]}, "y", node)
    assert [node.GetColumnTitle(node.GetColumnName(n)) for n in (0, 1)] == ["Structure", "Mean density (HU)"]
    assert slicer.util.dataframeFromTable(node)["mean_hu"].tolist() == [-800]
