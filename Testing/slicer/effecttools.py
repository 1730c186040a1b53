"""The Segment Editor effect, as Slicer loads it when it starts."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import slicer
from bench import segmenteditor
from bench.modules import ScriptedModule

EFFECT = Path(__file__).resolve().parents[2] / "SegmentEditorSAMLungs"
NAME = EFFECT.name


def register(monkeypatch: pytest.MonkeyPatch) -> list[segmenteditor.qSlicerSegmentEditorScriptedEffect]:
    """Load the hidden module and end the start; the effects that are registered then."""
    segmenteditor.install()
    monkeypatch.syspath_prepend(str(EFFECT))
    for name in (NAME, f"{NAME}Lib"):
        sys.modules.pop(name, None)
    parent = ScriptedModule(NAME, None, str(EFFECT / f"{NAME}.py"))
    getattr(importlib.import_module(NAME), NAME)(parent)
    slicer.app.publish_module(parent)
    slicer.app.finishStartup()
    return segmenteditor.qSlicerSegmentEditorEffectFactory.instance().registeredEffects()


def opened(volume, segmentation) -> segmenteditor.qMRMLSegmentEditorWidget:
    """An editor of a volume's segmentation, with the effect chosen."""
    editor = segmenteditor.qMRMLSegmentEditorWidget()
    editor.setMRMLScene(slicer.mrmlScene)
    editor.setMRMLSegmentEditorNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode"))
    editor.setSegmentationNode(segmentation)
    editor.setSourceVolumeNode(volume)
    editor.setupViewObservations()
    editor.setActiveEffectByName("SAM lungs")
    return editor
