"""The modules of the application that the bench has: their logics on the real scene."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LOGIC_CLASSES = {
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "Colors": "vtkMRMLColorLogic",
    "Units": "vtkSlicerUnitsLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Annotations": "vtkSlicerAnnotationModuleLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Models": "vtkSlicerModelsLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Texts": "vtkSlicerTextsLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "Data": "vtkSlicerDataModuleLogic",
}


@dataclass
class Module:
    """One entry of ``slicer.modules``."""

    name: str
    moduleLogic: Any = None
    path: str = ""
    widget: Any = None

    def logic(self) -> Any:
        return self.moduleLogic

    def widgetRepresentation(self) -> Any:
        return self.widget


class ScriptedModule(Module):
    """A module written in Python (``slicer.qSlicerScriptedLoadableModule``)."""


class SignalTable:
    """Signals by their C++ signature, for objects of the bench that are no QObject."""

    def __init__(self) -> None:
        self._slots: list[tuple[str, Callable]] = []

    def connect(self, signal: str, slot: Callable) -> bool:
        self._slots.append((signal, slot))
        return True

    def disconnect(self, signal: str, slot: Callable) -> bool:
        connected = (signal, slot) in self._slots
        if connected:
            self._slots.remove((signal, slot))
        return connected

    def emit(self, signal: str, *arguments: Any) -> None:
        """Calls the signal's slots, in the order of their connection."""
        for name, slot in list(self._slots):
            if name == signal:
                slot(*arguments)

    def connected(self) -> list[tuple[str, Callable]]:
        """The connections that stand."""
        return list(self._slots)


class ModuleManager(SignalTable):
    """``slicer.app.moduleManager()``."""

    def __init__(self) -> None:
        super().__init__()
        self._modules: dict[str, Module] = {}

    def add(self, module: Module) -> Module:
        self._modules[module.name] = module
        return module

    def module(self, name: str) -> Module | None:
        return self._modules.get(name)

    def modulesNames(self) -> list[str]:
        return list(self._modules)

    def all(self) -> list[Module]:
        return list(self._modules.values())
