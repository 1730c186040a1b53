"""A volume corrected by a few slices: doubtful ones first, locks, corrections carried to the others, undone."""

from __future__ import annotations

import chests
import numpy as np
import pytest
import qt
import slicer
import widgettools as tools

from SAMLungSegLib.interaction import Place
from SAMLungSegSlicer.promptnodes import ensurePoints
from SAMLungSegSlicer.sessions import sessionOf

SLICE = 4


pytestmark = pytest.mark.usefixtures("model")


@pytest.fixture(params=["axial", "oblique"])
def chest(request):
    node = chests.axialChest() if request.param == "axial" else chests.obliqueChest()
    node.SetSpacing([min(one, 5.0) for one in node.GetSpacing()])  # slices near enough to be of one piece of lung
    return tools.show(node)


@pytest.fixture
def window(chest, module_window):
    window = module_window(size=(1100, 900))
    for name in ("Red", "Green", "Yellow"):
        window.view(name).mrmlSliceNode().RotateToVolumePlane(chest)
    press(window, window.ui.segmentVolumeButton)
    return window


def press(window, button):
    window.click(button)
    settle(window)


def settle(window):
    tools.idle(window)
    window.wait(0.25)  # the strip reads the slices a little after the last edit
    tools.idle(window)


def lungs(window):
    return chests.lungsOf(window.ui.outputSelector.currentNode(), window.ui.inputSelector.currentNode())


def session(window):
    return sessionOf(window.ui.inputSelector.currentNode(), window.ui.outputSelector.currentNode())


def slices(window, array):
    return session(window).plane.to_display(array)


def show_slice(window, number):
    window.widget.slices.goTo(number)
    settle(window)


def correct(window, number=SLICE, positive=False):
    """A point in the lung of a slice, accepted; the model takes its surroundings away."""
    show_slice(window, number)
    plane = session(window).plane
    y, x = np.argwhere(slices(window, lungs(window))[number] == 1).mean(axis=0)
    volume = window.ui.inputSelector.currentNode()
    node = ensurePoints(window.widget.logic.getParameterNode(), positive)
    node.AddControlPointWorld(*tools.world(volume, plane.nxy_to_ijk((number, round(x), round(y)))))
    tools.settled(window)
    press(window, window.ui.acceptButton)
    press(window, window.ui.clearButton)


def test_a_correction_is_shown_on_all_slices_before_it_is_taken_and_undone_in_one_step(window):
    found = lungs(window)
    correct(window)
    corrected = lungs(window)
    assert (slices(window, corrected)[SLICE] != slices(window, found)[SLICE]).any()
    press(window, window.ui.propagateButton)
    assert window.widget.propagation.isShown
    np.testing.assert_array_equal(lungs(window), corrected)
    assert "would change" in window.ui.statusLabel.text
    press(window, window.ui.acceptButton)
    propagated = lungs(window)
    changed = np.flatnonzero((slices(window, propagated) != slices(window, corrected)).any(axis=(1, 2)))
    assert len(changed)
    assert SLICE not in changed
    assert not window.widget.propagation.isShown
    press(window, window.ui.undoButton)
    np.testing.assert_array_equal(lungs(window), corrected)
    press(window, window.ui.redoButton)
    np.testing.assert_array_equal(lungs(window), propagated)
    assert window.widget.slices.timeline.locked.nonzero()[0].tolist() == [SLICE]


def test_a_discarded_propagation_changes_nothing(window):
    correct(window)
    corrected = lungs(window)
    press(window, window.ui.propagateButton)
    press(window, window.ui.discardButton)
    np.testing.assert_array_equal(lungs(window), corrected)
    assert window.widget.propagation.node is None


def test_a_propagation_goes_when_the_lungs_are_changed_meanwhile(window):
    correct(window)
    press(window, window.ui.propagateButton)
    press(window, window.ui.undoButton)
    assert not window.widget.propagation.isShown
    assert not window.ui.acceptButton.enabled


def test_without_a_correction_it_says_what_to_do(window):
    press(window, window.ui.propagateButton)
    assert "No slice of this plane was corrected" in window.ui.statusLabel.text


def test_a_locked_neighbour_is_not_changed_and_can_be_unlocked(window):
    correct(window)
    before = lungs(window)
    show_slice(window, SLICE + 1)
    press(window, window.ui.lockButton)
    assert window.ui.lockButton.checked
    assert window.widget.slices.marks.views == ("Red",)
    assert window.widget.slices.timeline.locked.nonzero()[0].tolist() == [SLICE, SLICE + 1]
    press(window, window.ui.propagateButton)
    press(window, window.ui.acceptButton)
    np.testing.assert_array_equal(slices(window, lungs(window))[SLICE + 1 :], slices(window, before)[SLICE + 1 :])
    press(window, window.ui.lockButton)
    assert not window.ui.lockButton.checked
    assert window.widget.slices.marks.views == ()
    assert session(window).locks.held == {Place.of(session(window).plane, SLICE)}


def test_the_strip_leads_to_a_slice_that_is_clicked(window):
    label = window.ui.stripLabel
    assert label.visible
    count = session(window).plane.size_nhw[0]
    position = qt.QPoint(int((2 + 0.5) * label.width / count), 20)
    tools.QTest.mouseClick(label, qt.Qt.LeftButton, qt.Qt.NoModifier, position)
    settle(window)
    assert "Slice 3 of" in label.toolTip


def test_locks_and_what_was_found_are_there_in_a_scene_that_is_opened_again(window, tmp_path):
    correct(window)
    press(window, window.ui.propagateButton)
    press(window, window.ui.acceptButton)
    propagated, ranks = slices(window, lungs(window)).copy(), window.widget.slices.timeline.ranks
    path = tmp_path / "scene.mrb"
    assert slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(path))
    window.process_events()
    settle(window)
    assert window.widget.slices.timeline.locked.nonzero()[0].tolist() == [SLICE]
    np.testing.assert_array_equal(window.widget.slices.timeline.ranks, ranks)
    show_slice(window, SLICE)
    press(window, window.ui.propagateButton)
    assert "change no other slice" in window.ui.statusLabel.text
    np.testing.assert_array_equal(slices(window, lungs(window)), propagated)


def test_keys_do_what_their_buttons_do_and_only_while_the_module_is_open(window):
    correct(window)
    corrected = lungs(window)
    window.press_key(qt.Qt.Key_X)
    settle(window)
    assert window.widget.propagation.isShown
    window.press_key(qt.Qt.Key_A)
    settle(window)
    propagated = lungs(window)
    assert (propagated != corrected).any()
    window.press_key(qt.Qt.Key_Z)
    settle(window)
    np.testing.assert_array_equal(lungs(window), corrected)
    window.press_key(qt.Qt.Key_Y)
    settle(window)
    np.testing.assert_array_equal(lungs(window), propagated)
    window.press_key(qt.Qt.Key_Q)
    assert window.ui.positiveButton.checked
    window.press_key(qt.Qt.Key_Escape)
    assert not window.ui.positiveButton.checked
    window.leave()
    window.press_key(qt.Qt.Key_Z)
    settle(window)
    np.testing.assert_array_equal(lungs(window), propagated)


def test_in_a_view_that_is_oblique_to_the_volume_the_buttons_say_why_they_do_not_work(window):
    window.view("Red").mrmlSliceNode().SetOrientation("Axial")
    matrix = slicer.util.arrayFromVTKMatrix(window.view("Red").mrmlSliceNode().GetSliceToRAS())
    turn = np.array([[1, 0, 0], [0, 0.9, -0.435889894], [0, 0.435889894, 0.9]])
    matrix[:3, :3] = turn @ matrix[:3, :3]
    window.view("Red").mrmlSliceNode().GetSliceToRAS().DeepCopy(slicer.util.vtkMatrixFromArray(matrix))
    window.view("Red").mrmlSliceNode().UpdateMatrices()
    settle(window)
    assert not window.ui.propagateButton.enabled
    assert "along its slices" in window.ui.propagateButton.toolTip


def test_an_image_of_one_slice_has_nowhere_to_go_and_nothing_to_propagate_to(module_window):
    tools.show(slicer.util.addVolumeFromArray(chests.xray()[None], ijkToRAS=np.diag([-3.0, -3, 1, 1]), name="frontal"))
    window = module_window(size=(1100, 900))
    press(window, window.ui.segmentVolumeButton)
    assert not window.ui.stripLabel.visible
    assert not window.ui.nextDoubtfulButton.enabled
    assert window.ui.propagateButton.toolTip == "There is no other slice."
