"""Typed parameters of a parameter node, with the bench's stand-in or with Slicer's own wrapper (SLICER_PYTHON_DIR)."""

from __future__ import annotations

import enum
import pathlib
from typing import Annotated, Optional, Union

import ctk
import pytest
import qt
import slicer
from PySide6.QtTest import QTest
from slicer.parameterNodeWrapper import Choice, Decimals, Default, WithinRange, parameterNodeWrapper


class Side(enum.Enum):
    RIGHT = 1
    LEFT = 2


@parameterNodeWrapper
class Parameters:
    volume: slicer.vtkMRMLScalarVolumeNode
    reference: Union[slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007
    model: Annotated[str, Choice(["compact", "sam"])] = "sam"
    name: str
    live: bool
    count: Annotated[int, WithinRange(0, 9), Default(3)]
    threshold: Annotated[float, WithinRange(0.05, 0.95), Decimals(2)] = 0.5
    weights: pathlib.Path
    side: Side
    tolerance: Optional[float]  # noqa: UP045


@pytest.fixture
def node():
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")


@pytest.fixture
def parameters(node):
    return Parameters(node)


def test_parameters_start_with_their_defaults(parameters):
    values = (parameters.volume, parameters.reference, parameters.model, parameters.name, parameters.live)
    assert values == (None, None, "sam", "", False)
    assert (parameters.count, parameters.threshold, parameters.tolerance) == (3, 0.5, None)
    assert (parameters.weights, parameters.side) == (pathlib.Path(), Side.RIGHT)


def test_values_are_kept_in_the_node(parameters, node):
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    labelmap = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    parameters.volume, parameters.reference, parameters.model = volume, labelmap, "compact"
    parameters.live, parameters.threshold, parameters.side = True, 0.75, Side.LEFT
    parameters.weights, parameters.tolerance = pathlib.Path("models/lung.pt"), 2.5
    again = Parameters(node)
    assert (again.volume, again.reference, again.model) == (volume, labelmap, "compact")
    assert (again.live, again.threshold, again.side) == (True, 0.75, Side.LEFT)
    assert (again.weights, again.tolerance) == (pathlib.Path("models/lung.pt"), 2.5)
    assert node.GetParameter("side") == "LEFT"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "unknown"),
        ("count", 10),
        ("threshold", 0.0),
        ("live", 1),
        ("side", 1),
        ("name", None),
        ("weights", "x"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(parameters, name, value):
    before = getattr(parameters, name)
    with pytest.raises((ValueError, TypeError)):
        setattr(parameters, name, value)
    assert getattr(parameters, name) == before


def test_a_node_of_another_class_is_refused(parameters):
    with pytest.raises(TypeError):
        parameters.volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")


def test_a_union_of_node_classes_needs_none_among_them(node):
    @parameterNodeWrapper
    class WithoutNone:
        reference: Union[slicer.vtkMRMLSegmentationNode, slicer.vtkMRMLLabelMapVolumeNode]  # noqa: UP007

    with pytest.raises(TypeError):
        WithoutNone(node)


def test_a_node_that_left_the_scene_is_none(parameters):
    parameters.volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    slicer.mrmlScene.RemoveNode(parameters.volume)
    assert parameters.volume is None


def test_parameters_come_back_with_the_scene(parameters, tmp_path):
    parameters.volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "chest")
    parameters.count = 7
    assert slicer.util.saveScene(str(tmp_path / "case.mrb"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "case.mrb"))
    again = Parameters(slicer.util.getNode("vtkMRMLScriptedModuleNode*"))
    assert (again.volume.GetName(), again.count) == ("chest", 7)


class Panel:
    """Widgets as `slicer.util.childWidgetVariables` gives them."""

    def __init__(self):
        self.volume, self.model, self.name = slicer.qMRMLNodeComboBox(), qt.QComboBox(), qt.QLineEdit()
        self.live, self.count, self.threshold = qt.QCheckBox(), qt.QSpinBox(), ctk.ctkSliderWidget()
        self.weights, self.side = ctk.ctkPathLineEdit(), qt.QComboBox()
        for name, widget in vars(self).items():
            widget.setProperty("SlicerParameterName", name)
        self.volume.noneEnabled = True
        self.volume.setMRMLScene(slicer.mrmlScene)


@pytest.fixture
def panel(parameters):
    panel = Panel()
    tag = parameters.connectGui(panel)
    yield panel
    parameters.disconnectGui(tag)


def test_widgets_show_the_parameters(parameters, panel):
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    parameters.volume, parameters.model, parameters.name, parameters.live = volume, "compact", "case 1", True
    parameters.count, parameters.threshold, parameters.side = 9, 0.25, Side.LEFT
    parameters.weights = pathlib.Path("w.pt")
    assert (panel.volume.currentNode(), panel.model.currentText, panel.name.text) == (volume, "compact", "case 1")
    assert (panel.live.checked, panel.count.value, panel.threshold.value) == (True, 9, 0.25)
    assert (panel.side.currentText, panel.weights.currentPath) == ("LEFT", "w.pt")


def test_what_a_person_sets_becomes_the_parameter(parameters, panel):
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    panel.volume.setCurrentNode(volume)
    panel.model.currentIndex = 0
    panel.live.click()
    panel.threshold.value = 0.615
    panel.weights.currentPath = "models/other.pt"
    panel.side.currentIndex = 1
    QTest.keyClicks(panel.name, "case 2")
    assert (parameters.volume, parameters.model, parameters.live) == (volume, "compact", True)
    assert parameters.threshold in (0.61, 0.62), "two decimals"
    assert (parameters.weights, parameters.side) == (pathlib.Path("models/other.pt"), Side.LEFT)
    assert parameters.name == "case 2"


def test_widgets_take_their_limits_and_entries_from_the_types(panel):
    assert (panel.count.minimum, panel.count.maximum) == (0, 9)
    assert (panel.threshold.minimum, panel.threshold.maximum, panel.threshold.decimals) == (0.05, 0.95, 2)
    assert [panel.model.itemText(row) for row in range(panel.model.count)] == ["compact", "sam"]
    assert panel.volume.nodeTypes == ("vtkMRMLScalarVolumeNode",)


def test_a_disconnected_widget_no_longer_follows(parameters):
    panel = Panel()
    tag = parameters.connectGui(panel)
    parameters.disconnectGui(tag)
    parameters.name = "new"
    panel.count.value = 1
    assert panel.name.text == ""
    assert parameters.count == 3


def test_a_widget_that_cannot_show_the_type_is_refused(parameters):
    with pytest.raises(RuntimeError, match="GUI connector"):
        parameters.connectParametersToGui({"threshold": qt.QLabel()})
    with pytest.raises(ValueError, match="absent"):
        parameters.connectParametersToGui({"absent": qt.QLabel()})


def test_one_change_of_several_parameters_is_told_once(parameters, node):
    told = []
    node.AddObserver("ModifiedEvent", lambda caller, event: told.append(event))
    with slicer.util.NodeModify(parameters):
        parameters.name, parameters.live, parameters.count = "a", True, 1
    assert len(told) == 1


def test_a_logic_finds_its_one_parameter_node_again():
    from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

    class DemoLogic(ScriptedLoadableModuleLogic):
        pass

    node = DemoLogic().getParameterNode()
    assert DemoLogic().getParameterNode() is node
    assert (node.GetAttribute("ModuleName"), node.GetSingletonTag()) == ("Demo", "Demo")
