"""The terms of the bundled weights in Slicer: asked once, remembered; without consent nothing runs, in words."""

from __future__ import annotations

import chests
import pytest
import qt
import slicer
import widgettools as tools

from SAMLungSegLib import load_model, models
from SAMLungSegLib.errors import LicenceError
from SAMLungSegLib.models.choice import forget_models
from SAMLungSegLib.models.terms import ACCEPT_VARIABLE
from SAMLungSegSlicer.logic import SAMLungSegLogic
from SAMLungSegSlicer.runtime import consent


@pytest.fixture(autouse=True)
def not_accepted(monkeypatch):
    """A user who was never asked; the bench itself accepts by the variable."""
    monkeypatch.delenv(ACCEPT_VARIABLE)


def test_a_user_is_asked_once_and_the_volume_is_segmented(window, model, dialogs):
    dialogs.answer("Ok")
    window.click(window.ui.segmentVolumeButton)
    tools.idle(window)
    (question,) = dialogs.take()
    assert "CC BY-NC-SA 4.0" in question.text and "research use only" in question.text
    assert window.ui.outputSelector.currentNode() is not None
    window.click(window.ui.segmentVolumeButton)
    tools.idle(window)
    assert not dialogs.take()


def test_after_a_no_nothing_runs_and_the_next_press_asks_again(window, model, dialogs):
    for _ in range(2):
        dialogs.answer("Cancel")
        window.click(window.ui.segmentVolumeButton)
        tools.idle(window)
        assert len(dialogs.take()) == 1
    assert window.ui.outputSelector.currentNode() is None
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    assert "terms of the bundled weights were not accepted" in window.ui.statusLabel.text


def test_a_prompt_is_not_predicted_from_before_consent_and_is_after_it(window, model, chest, dialogs):
    ijk = tools.middle(chests.phantom().labelmap_kji == 1)
    tools.place(window, window.ui.positiveButton, "Red", tools.world(chest, ijk))
    tools.idle(window)
    assert not window.widget.preview.isShown
    consent.give()
    window.widget.preview.refresh()
    window.wait_until(lambda: window.widget.preview.isShown)
    assert not dialogs.take()


@pytest.mark.usefixtures("nothing_kept")
def test_the_console_asks_nobody_and_says_how_to_accept(dialogs, tmp_path):
    logic, volumeNode = SAMLungSegLogic(), chests.axialChest()
    for call in (
        lambda: logic.segmentVolume(volumeNode),
        lambda: logic.segmentSlice(volumeNode),
        lambda: logic.segmentFolder(tmp_path, tmp_path / "out"),
    ):
        with pytest.raises(LicenceError, match=r"research use only.*acceptWeightsLicence\(\).*LICENCE=1"):
            call()
    assert not dialogs.take() and not (tmp_path / "out").exists()
    logic.acceptWeightsLicence()
    assert SAMLungSegLogic().segmentVolume(volumeNode) is not None


@pytest.mark.usefixtures("nothing_kept")
def test_the_variable_accepts_for_one_session_and_is_not_remembered(monkeypatch, model):
    monkeypatch.setenv(ACCEPT_VARIABLE, "1")
    assert SAMLungSegLogic().segmentVolume(chests.axialChest()) is not None
    monkeypatch.setenv(ACCEPT_VARIABLE, "0")
    with pytest.raises(LicenceError):
        SAMLungSegLogic().segmentVolume(chests.axialChest())


def test_whoever_loads_the_bundled_weights_in_slicer_needs_consent():
    with pytest.raises(LicenceError):
        load_model("lung-compact", device="cpu")
    consent.give()
    assert load_model("lung-compact", device="cpu").name == "lung-compact"


def test_other_models_and_weights_of_ones_own_need_none_beforehand():
    assert consent.isNeeded("lung-compact")
    assert not consent.isNeeded("sam-vit-b")
    assert not consent.isNeeded("lung-compact", "mine.safetensors")


def test_bundled_weights_found_missing_consent_on_the_way_are_asked_for_then(window, dialogs, monkeypatch):
    """As of a tuned decoder on top of them, which only loading shows."""

    def load(*_arguments, **_options):
        consent.require()
        raise AssertionError("loaded without consent")

    monkeypatch.setattr(models, "load_model", load)
    forget_models()
    window.widget.logic.getParameterNode().customWeights = "tuned.safetensors"
    dialogs.answer("Ok")
    window.click(window.ui.segmentVolumeButton)
    tools.idle(window)
    assert len(dialogs.take()) == 1
    assert "begin again" in window.ui.statusLabel.text
    assert not consent.isNeeded()


def test_other_terms_are_asked_for_anew(monkeypatch):
    consent.give()
    assert not consent.isNeeded()
    qt.QSettings().setValue(consent.SETTING, "The bundled weights are licensed under other terms.")
    assert consent.isNeeded()


def test_in_testing_mode_nobody_is_asked_and_the_answer_is_no(slicer_app, dialogs):
    slicer_app.setTestingEnabled(True)
    assert not consent.ask()
    assert not dialogs.take()
