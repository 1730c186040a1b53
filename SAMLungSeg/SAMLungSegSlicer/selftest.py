"""The self-test that a user runs in Slicer with one click: the module's jobs on a generated chest."""

from __future__ import annotations

import logging
import unittest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleTest

from SAMLungSegLib.models.terms import ACCEPT_VARIABLE
from SAMLungSegSlicer import bridge, sampledata
from SAMLungSegSlicer.logic import SAMLungSegLogic
from SAMLungSegSlicer.runtime import consent, dependencies

if TYPE_CHECKING:
    import numpy as np

EFFECT_MODULE = "SegmentEditorSAMLungs"
LEAST_DICE = 0.9
LUNGS = {1: "right lung", 2: "left lung"}

logger = logging.getLogger(__name__)


class SAMLungSegTest(ScriptedLoadableModuleTest):
    """The panel, segmenting, prompting, measuring, saving and cancelling; closes the scene that is open.

    Run it by *Reload and Test* in developer mode, by the module *Self Tests*, or in the Python console::

        slicer.selfTests["SAMLungSeg"]()

    Skipped where the user does not accept the terms of the bundled weights, or the Python packages are missing and the
    user does not install them, or Slicer runs as `--testing`.
    """

    messageDelay: int | None = None

    def runTest(self) -> None:
        """Every test, whatever became of those before; the reasons of skipped ones are logged.

        Slicer's own loop knows no skipping, and leaves the scene of a test that fails as it is.

        Raises:
            AssertionError: tests failed; it has all their tracebacks.
        """
        suite = unittest.defaultTestLoader.loadTestsFromTestCase(type(self))
        for test in suite:
            test.messageDelay = self.messageDelay
        result = suite.run(unittest.TestResult())
        for test, reason in result.skipped:
            logger.warning("Skipped %s: %s", test, reason)
        failed = result.failures + result.errors
        if failed:
            raise AssertionError("\n".join(f"{test}\n{trace}" for test, trace in failed))

    @classmethod
    def setUpClass(cls) -> None:
        """Ask once for all tests."""
        _requireConsentAndPackages()

    def setUp(self) -> None:
        """An empty scene with the phantom's CT and its true lungs."""
        _requireConsentAndPackages()
        slicer.mrmlScene.Clear()
        self.logic = SAMLungSegLogic()
        self.volumeNode, self.truthNode = sampledata.loadPhantomCT()

    def tearDown(self) -> None:
        """An empty scene."""
        slicer.mrmlScene.Clear()

    def test_panelOpens(self) -> None:
        """The panel is built, and a chosen volume is all that the main button needs."""
        if slicer.util.mainWindow() is None:
            self.skipTest("Slicer runs without its window")
        self.delayDisplay("Opening the module")
        slicer.util.selectModule("SAMLungSeg")
        self.logic.getParameterNode().inputVolume = self.volumeNode
        slicer.app.processEvents()
        button = slicer.util.getModuleWidget("SAMLungSeg").ui.segmentVolumeButton
        self.assertTrue(button.enabled, button.toolTip)

    def test_volumeIsSegmentedAndMeasured(self) -> None:
        """Both lungs of the CT without a prompt, as segments with the standard names, and how well they agree."""
        self.delayDisplay("Segmenting the phantom's CT; this takes half a minute on a laptop")
        segmentationNode = self.logic.segmentVolume(self.volumeNode)
        segmentation = segmentationNode.GetSegmentation()
        names = [segmentation.GetNthSegment(n).GetName() for n in range(segmentation.GetNumberOfSegments())]
        self.assertEqual(names, list(LUNGS.values()))
        self.delayDisplay("Measuring against the true lungs")
        nodes = self.logic.evaluate(segmentationNode, self.truthNode, self.volumeNode)
        measured = slicer.util.arrayFromTableColumn(nodes.summaryTable, "dice")
        found, truth = self._labels(segmentationNode), self._labels(self.truthNode)
        for row, (label, name) in enumerate(LUNGS.items()):
            counted = dice(found == label, truth == label)
            self.assertGreater(counted, LEAST_DICE, name)
            self.assertAlmostEqual(measured[row], counted, msg=name)

    def test_pointSegmentsOneSlice(self) -> None:
        """A point in the right lung gives the right lung in the slice of the red view, and nothing anywhere else."""
        self.delayDisplay("Segmenting one slice by a point")
        truth = self._labels(self.truthNode)
        k, j, i = self._middleOfTheRightLung(truth)
        ras = (bridge.ijkToWorldMatrix(self.volumeNode) @ (i, j, k, 1))[:3]
        sliceNode = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
        sliceNode.SetOrientation("Axial")
        sliceNode.JumpSliceByOffsetting(*ras)
        segmentationNode = self.logic.segmentSlice(self.volumeNode, sliceNode, points=[ras], lungs="right")
        found = self._labels(segmentationNode)
        self.assertEqual(found[k, j, i], 1)
        self.assertGreater(dice(found[k] == 1, truth[k] == 1), LEAST_DICE)
        self.assertEqual((found > 0).sum(), (found[k] == 1).sum())

    def test_effectWritesWhatIsDrawn(self) -> None:
        """The Segment Editor's effect previews a stroke, applies it, and the editor undoes it."""
        from SAMLungSegLib.interaction import Stroke

        if EFFECT_MODULE not in slicer.app.moduleManager().modulesNames():
            self.skipTest(f"The module {EFFECT_MODULE} is not loaded; add its folder to the additional module paths")
        self.delayDisplay("Drawing by the Segment Editor's effect")
        segmentationNode = bridge.ensureSegmentation(self.volumeNode)
        editor = self._editorOf(segmentationNode)
        try:
            self.assertIsNotNone(editor.activeEffect(), "the effect is not registered")
            lungs = editor.activeEffect().self().lungs
            sliceNode = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
            sliceNode.SetOrientation("Axial")
            sliceNode.JumpSliceByOffsetting(*(bridge.ijkToWorldMatrix(self.volumeNode) @ (10, 10, 10, 1))[:3])
            lungs.preview.draw(sliceNode, Stroke("lasso", ((10.0, 10.0), (20.0, 10.0), (20.0, 20.0), (10.0, 20.0))))
            self.assertTrue(lungs.preview.isShown)
            lungs.apply()
            self.assertTrue(self._labels(segmentationNode)[10].any())
            editor.undo()
            self.assertFalse(bool(bridge.stampOf(segmentationNode)), "the editor has not undone it")
        finally:
            editor.setActiveEffectByName("")

    def _editorOf(self, segmentationNode: slicer.vtkMRMLSegmentationNode) -> Any:
        """A Segment Editor with the effect chosen."""
        editor = slicer.qMRMLSegmentEditorWidget()
        editor.setMRMLScene(slicer.mrmlScene)
        editor.setMRMLSegmentEditorNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode"))
        editor.setSegmentationNode(segmentationNode)
        editor.setSourceVolumeNode(self.volumeNode)
        editor.setActiveEffectByName("SAM lungs")
        return editor

    def test_sceneComesBack(self) -> None:
        """Segments, points and settings, saved in a bundle and opened again."""
        self.delayDisplay("Saving the scene and opening it again")
        names, before = (self.volumeNode.GetName(), self.truthNode.GetName()), self._labels(self.truthNode)
        points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Right lung points")
        points.AddControlPoint(1, 2, 3)
        parameters = self.logic.getParameterNode()
        parameters.positivePoints, parameters.lungs = points, "right"
        self._saveAndReopen()
        parameters = SAMLungSegLogic().getParameterNode()
        self.assertEqual(parameters.lungs, "right")
        self.assertEqual(tuple(parameters.positivePoints.GetNthControlPointPosition(0)), (1, 2, 3))
        self.volumeNode, self.truthNode = map(slicer.util.getNode, names)
        self.assertTrue((self._labels(self.truthNode) == before).all())

    def test_cancellingChangesNothing(self) -> None:
        """A job that is stopped after some slices leaves the segmentation as it was."""
        from SAMLungSegLib.pipeline import CancelledError

        self.delayDisplay("Cancelling")
        before = self._labels(self.truthNode)
        slices: list[int] = []
        with self.assertRaises(CancelledError):
            self.logic.segmentVolume(
                self.volumeNode,
                self.truthNode,
                progress=lambda done, total: slices.append(done),
                cancelled=lambda: len(slices) >= 3,
            )
        self.assertTrue((self._labels(self.truthNode) == before).all())

    def _labels(self, segmentationNode: slicer.vtkMRMLSegmentationNode) -> np.ndarray:
        return bridge.labelmapFromNode(segmentationNode, self.volumeNode).array_kji

    def _middleOfTheRightLung(self, labelmap_kji: np.ndarray) -> tuple[int, int, int]:
        """The voxel of its largest slice that is nearest to that slice's centre of mass."""
        right = labelmap_kji == 1
        k = int(right.sum(axis=(1, 2)).argmax())
        j, i = right[k].nonzero()
        nearest = ((j - j.mean()) ** 2 + (i - i.mean()) ** 2).argmin()
        return k, int(j[nearest]), int(i[nearest])

    def _saveAndReopen(self) -> None:
        bundle = Path(slicer.app.temporaryPath) / "SAMLungSegTest.mrb"
        try:
            self.assertTrue(slicer.util.saveScene(str(bundle)))
            slicer.mrmlScene.Clear()
            slicer.util.loadScene(str(bundle))
        finally:
            bundle.unlink(missing_ok=True)


def _requireConsentAndPackages() -> None:
    """Raise SkipTest where the bundled weights or Python packages may not be used, or not be installed."""
    if not consent.ask():
        raise unittest.SkipTest(f"the terms of the bundled weights were not accepted; set {ACCEPT_VARIABLE}=1")
    names = ", ".join(dependencies.missing("batch"))
    if names and slicer.app.testingEnabled():
        raise unittest.SkipTest(f"Python packages are missing ({names}), and none is installed in testing mode")
    if not dependencies.ensure("batch"):
        raise unittest.SkipTest("the Python packages were not installed")


def dice(mask: np.ndarray, other: np.ndarray) -> float:
    """Overlap of two masks, counted here so that the test does not lean on what it tests."""
    return 2 * (mask & other).sum() / (mask.sum() + other.sum())
