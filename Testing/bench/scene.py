"""The MRML scene and the logics that the application connects to it at its start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import slicer
import vtk

from bench.modules import LOGIC_CLASSES


def create(temporary_folder: str) -> tuple[Any, Any]:
    """An empty scene and its application logic."""
    scene, logic = slicer.vtkMRMLScene(), slicer.vtkSlicerApplicationLogic()
    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetCrosshairName("default")
    scene.AddNode(crosshair)
    logic.SetMRMLScene(scene)
    logic.SetTemporaryPath(temporary_folder)
    logic.GetColorLogic().SetMRMLScene(scene)
    logic.GetColorLogic().AddDefaultColorNodes()
    logic.SetSliceLogics(vtk.vtkCollection())
    logic.SetViewLogics(vtk.vtkCollection())
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    return scene, logic


def create_logics(scene: Any, application_logic: Any) -> dict[str, Any]:
    """The modules' logics by module name; each registers its node classes with the scene."""
    logics = {name: getattr(slicer, class_name)() for name, class_name in LOGIC_CLASSES.items()}
    for name, logic in logics.items():
        logic.SetMRMLApplicationLogic(application_logic)
        with _quiet():
            logic.SetMRMLScene(scene)
        application_logic.SetModuleLogic(name, logic)
    return logics


@contextmanager
def _quiet() -> Iterator[None]:
    """Without VTK's messages: the terminologies that Slicer ships are not in slicer-core, and their logic complains."""
    shown = vtk.vtkObject.GetGlobalWarningDisplay()
    vtk.vtkObject.GlobalWarningDisplayOff()
    try:
        yield
    finally:
        vtk.vtkObject.SetGlobalWarningDisplay(shown)


def abandon(scene: Any) -> None:
    """Removes every observer of a scene that is no longer used.

    The scene tells of its own end; without this, Python's garbage collector would call observers that it has half
    collected.
    """
    for index in range(scene.GetNumberOfNodes()):
        scene.GetNthNode(index).RemoveAllObservers()
    scene.RemoveAllObservers()


def enable_bundles(scene: Any, application_logic: Any, temporary_folder: str) -> tuple[Any, Any]:
    """The remote IO and data IO logics, without which no .mrb scene can be read; the caller keeps them."""
    remote = slicer.vtkMRMLRemoteIOLogic()
    remote.SetMRMLScene(scene)
    remote.SetMRMLApplicationLogic(application_logic)
    remote.GetCacheManager().SetRemoteCacheDirectory(str(Path(temporary_folder) / "cache"))
    data = slicer.vtkDataIOManagerLogic()
    data.SetMRMLScene(scene)
    data.SetMRMLApplicationLogic(application_logic)
    data.SetAndObserveDataIOManager(remote.GetDataIOManager())
    remote.AddDataIOToScene()
    return remote, data
