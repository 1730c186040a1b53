"""The Segment Editor for effects written in Python: Slicer's real editor node and editor logic, no widget of its own.

Stands in for qMRMLSegmentEditorWidget, qSlicerSegmentEditorScriptedEffect and the factory, as far as Slicer's sources
say what they do. An effect that uses anything else of them gets an AttributeError.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import qt
import slicer
import vtk

EFFECTS_MODULE, BASE_MODULE = "qSlicerSegmentationsEditorEffectsPythonQt", "SegmentEditorEffects"
PRIORITY = 1.0
EVENTS = (
    "LeftButtonPressEvent",
    "LeftButtonReleaseEvent",
    "LeftButtonDoubleClickEvent",
    "RightButtonPressEvent",
    "RightButtonReleaseEvent",
    "MouseMoveEvent",
    "KeyPressEvent",
    "KeyReleaseEvent",
    "EnterEvent",
    "LeaveEvent",
)
NOT_CONFIRMED, WITHOUT_DIALOG, WITH_DIALOG = range(3)


class AbstractScriptedSegmentEditorEffect:
    """The base class of effects written in Python."""

    def __init__(self, scriptedEffect: Any) -> None:
        self.scriptedEffect = scriptedEffect

    def register(self) -> None:
        slicer.qSlicerSegmentEditorEffectFactory.instance().registerEffect(self.scriptedEffect)

    def cleanup(self) -> None:
        """For effects to override."""


class qSlicerSegmentEditorScriptedEffect:
    """An effect as the editor sees it."""

    _settable = ("name", "title", "perSegment", "requireSegments", "showEffectCursorInSliceView")

    def __init__(self, parent: Any = None) -> None:
        vars(self).update(name="UnnamedScriptedEffect", title="", perSegment=True, requireSegments=True)
        vars(self).update(_editor=None, _source="", _self=None, _frame=qt.QFrame(), _active=False)
        qt.QFormLayout(self._frame)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._settable:
            raise AttributeError(f"qSlicerSegmentEditorScriptedEffect has no property {name!r} that can be set")
        vars(self)[name] = value

    def setPythonSource(self, path: str) -> bool:
        """Loads the file under the name of its folder, and instantiates the class that is called as the file."""
        if "\\" in path or not path.endswith(".py"):
            return False
        name = Path(path).parent.name
        if not hasattr(sys.modules.get(name), Path(path).stem):
            spec = importlib.util.spec_from_file_location(name, path)
            sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[name])
        vars(self).update(_source=path, _self=getattr(sys.modules[name], Path(path).stem)(self))
        return True

    def pythonSource(self) -> str:
        return self._source

    def self(self) -> Any:
        return self._self

    def active(self) -> bool:
        return self._active

    def parameterSetNode(self) -> Any:
        return self._editor and self._editor.node

    def saveStateForUndo(self) -> None:
        self._editor.logic.SaveStateForUndo()

    def confirmCurrentSegmentVisible(self) -> int:
        return self._editor.confirm_visible()

    def optionsFrame(self) -> Any:
        return self._frame

    def addOptionsWidget(self, widget: Any) -> None:
        self._frame.layout().addRow(widget)

    def addLabeledOptionsWidget(self, label: str, widget: Any) -> Any:
        self._frame.layout().addRow(label, widget)
        return self._frame.layout().labelForField(widget)


class qSlicerSegmentEditorEffectFactory:
    """The registered effects; one of it."""

    _instance: qSlicerSegmentEditorEffectFactory | None = None

    def __init__(self) -> None:
        self._effects: dict[str, qSlicerSegmentEditorScriptedEffect] = {}

    @classmethod
    def instance(cls) -> qSlicerSegmentEditorEffectFactory:
        cls._instance = cls._instance or cls()
        return cls._instance

    def registerEffect(self, effect: qSlicerSegmentEditorScriptedEffect) -> bool:
        if not effect.name or effect.name in self._effects:
            return False
        self._effects[effect.name] = effect
        return True

    def registeredEffects(self) -> list[qSlicerSegmentEditorScriptedEffect]:
        return list(self._effects.values())


def install() -> None:
    """Makes what effects import importable, with no effect registered."""
    for name, members in {
        EFFECTS_MODULE: (qSlicerSegmentEditorScriptedEffect,),
        BASE_MODULE: (AbstractScriptedSegmentEditorEffect,),
    }.items():
        sys.modules[name] = types.ModuleType(name)
        for member in members:
            setattr(sys.modules[name], member.__name__, member)
    qSlicerSegmentEditorEffectFactory._instance = None
    slicer.qSlicerSegmentEditorEffectFactory = qSlicerSegmentEditorEffectFactory
    slicer.qMRMLSegmentEditorWidget = qMRMLSegmentEditorWidget


class qMRMLSegmentEditorWidget:
    """One open editor, without anything to be seen of it.

    Attributes:
        node: the real vtkMRMLSegmentEditorNode.
        logic: the real vtkSlicerSegmentEditorLogic: masks, overwriting, undo.
        answer: of the person where the editor asks whether to edit a hidden segment; None where it must not ask.
    """

    def __init__(self) -> None:
        self.node: Any = None
        self.logic = slicer.vtkSlicerSegmentEditorLogic()
        self.answer: bool | None = None
        self._active: qSlicerSegmentEditorScriptedEffect | None = None
        self._tags: list[tuple[Any, int]] = []
        factory = qSlicerSegmentEditorEffectFactory.instance()
        self._effects = {effect.name: effect.self().clone() for effect in factory.registeredEffects()}
        for effect in self._effects.values():
            vars(effect)["_editor"] = self
            effect.self().setupOptionsFrame()

    def setMRMLScene(self, scene: Any) -> None:
        self.logic.SetMRMLScene(scene)

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        self.node = node
        self.logic.SetSegmentEditorNode(node)
        for effect in self._effects.values():
            effect.self().setMRMLDefaults()
        self._observe(node, "ModifiedEvent", self._on_node_modified)

    def setSegmentationNode(self, node: Any) -> None:
        self.logic.SetSegmentationNode(node)

    def setSourceVolumeNode(self, node: Any) -> None:
        self.logic.SetSourceVolumeNode(node)

    def activeEffect(self) -> qSlicerSegmentEditorScriptedEffect | None:
        return self._active

    def setActiveEffectByName(self, name: str) -> None:
        """Chooses an effect; none where there is no such."""
        if self._active is not None:
            vars(self._active)["_active"] = False
            self._active.optionsFrame().visible = False
            self._active.self().deactivate()
        self._active = self._effects.get(name)
        self.node.SetActiveEffectName(name if self._active is not None else "")
        if self._active is not None:
            vars(self._active)["_active"] = True
            self._active.optionsFrame().visible = True
            self._active.self().updateGUIFromMRML()
            self._active.self().activate()

    def undo(self) -> None:
        """The editor's own undo."""
        self.logic.Undo()

    def redo(self) -> None:
        """The editor's own redo."""
        self.logic.Redo()

    def confirm_visible(self) -> int:
        """Asks the person where the selected segment is hidden."""
        if not self.node.GetSelectedSegmentID() or self.logic.IsSelectedSegmentVisible():
            return WITHOUT_DIALOG
        if self.answer is None:
            raise RuntimeError("the editor asks whether to edit a hidden segment, and nobody expects that")
        return WITH_DIALOG if self.answer else NOT_CONFIRMED

    def close(self) -> None:
        """The editor goes."""
        self.setActiveEffectByName("")
        for observed, tag in self._tags:
            observed.RemoveObserver(tag)
        for effect in self._effects.values():
            effect.self().cleanup()
            effect.optionsFrame().delete()
        self._effects, self._tags = {}, []

    def _on_node_modified(self, _node: Any, _event: str) -> None:
        if self._active is not None:
            self._active.self().updateGUIFromMRML()

    def setupViewObservations(self) -> None:
        """Passes what happens in the slice views on to the chosen effect."""
        manager = slicer.app.layoutManager()
        for name in manager.sliceViewNames():
            widget = manager.sliceWidget(name)
            for event in EVENTS:
                self._observe_interaction(widget, event)

    def _observe_interaction(self, widget: Any, event: str) -> None:
        interactor, tags = widget.sliceView().interactor(), []

        def on_event(caller: Any, name: str) -> None:
            if self._active is None:
                return
            event_id = vtk.vtkCommand.GetEventIdFromString(name)
            if self._active.self().processInteractionEvents(caller, event_id, widget):
                caller.GetCommand(tags[0]).SetAbortFlag(1)

        tags.append(self._observe(interactor, event, on_event))

    def _observe(self, observed: Any, event: str, call: Any) -> int:
        tag = observed.AddObserver(event, call, PRIORITY)
        self._tags.append((observed, tag))
        return tag
