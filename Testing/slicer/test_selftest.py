"""The self-test that users run in Slicer passes here too, and fails where it should."""

from __future__ import annotations

import unittest
from collections.abc import Iterator

import effecttools
import numpy as np
import pytest
import slicer
from bench.window import ModuleWindow

import SAMLungSeg
from SAMLungSegSlicer import selftest
from SAMLungSegSlicer.runtime import dependencies

JOBS = [name for name in dir(SAMLungSeg.SAMLungSegTest) if name.startswith("test_")]


@pytest.fixture(autouse=True)
def window(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Messages pass at once, and selecting the module opens it in the bench's window."""
    opened: list[ModuleWindow] = []

    def open_window(name: str) -> None:
        opened.append(ModuleWindow(SAMLungSeg.SAMLungSegWidget, SAMLungSeg.__file__))

    effecttools.register(monkeypatch)
    monkeypatch.setattr(slicer.util, "delayDisplay", lambda *arguments, **options: None)
    monkeypatch.setattr(slicer.util, "selectModule", open_window)
    yield
    for one in opened:
        one.close()


def run(name: str) -> unittest.TestResult:
    result = unittest.TestResult()
    SAMLungSeg.SAMLungSegTest(name).run(result)
    return result


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_each_part_of_the_self_test_passes(name: str) -> None:
    result = run(name)
    assert result.testsRun == 1
    assert not result.failures + result.errors + result.skipped


def test_one_click_runs_every_part(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    for name in (*JOBS, "setUp", "tearDown"):
        monkeypatch.setattr(SAMLungSeg.SAMLungSegTest, name, lambda self, name=name: ran.append(name))
    SAMLungSeg.SAMLungSegTest().runTest()
    assert [name for name in ran if name in JOBS] == JOBS
    assert ran.count("setUp") == ran.count("tearDown") == len(JOBS) == 6


def test_a_wrong_result_fails_the_self_test(monkeypatch: pytest.MonkeyPatch) -> None:
    array, labels = np.zeros((4, 5, 6), np.int16), np.zeros((4, 5, 6), np.uint8)
    labels[1:3, 1:4, 1:3] = 1
    labels[1:3, 1:4, 4:] = 2
    monkeypatch.setattr(selftest.sampledata, "_ctCase", lambda: (array, labels, np.diag([-1.0, -1.0, 1.0, 1.0])))

    def shifted(self: object, volumeNode: object, **options: object) -> object:
        node = selftest.bridge.ensureSegmentation(volumeNode)
        selftest.bridge.writeLabelmap(node, np.roll(labels, 1, axis=1), volumeNode)
        return node

    monkeypatch.setattr(selftest.SAMLungSegLogic, "segmentVolume", shifted)
    ((_test, failure),) = run("test_volumeIsSegmentedAndMeasured").failures
    assert "right lung" in failure


def test_without_the_packages_it_is_skipped_and_the_scene_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependencies, "ensure", lambda feature: False)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode")
    ((_test, reason),) = run("test_sceneComesBack").skipped
    assert "not installed" in reason
    assert slicer.mrmlScene.IsNodePresent(node)


def test_without_the_effects_module_its_part_is_skipped_and_says_what_to_add(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slicer.app.moduleManager(), "modulesNames", lambda: ["SAMLungSeg"])
    ((_test, reason),) = run("test_effectWritesWhatIsDrawn").skipped
    assert "SegmentEditorSAMLungs" in reason
    assert "add its folder" in reason
