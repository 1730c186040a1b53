"""What jobs keep for the next one: models, voxels; and the download of weights."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading

import bridge_nodes as nodes
import chests
import numpy as np
import pytest
import slicer

from SAMLungSegLib import load_model
from SAMLungSegLib.errors import ModelError, VolumeError
from SAMLungSegLib.models import choice
from SAMLungSegLib.models.capabilities import COMPACT
from SAMLungSegLib.models.registry import bundled_file
from SAMLungSegSlicer.jobs import DownloadJob, Settings, releaseMemory
from SAMLungSegSlicer.jobs.caches import imageOf

pytestmark = pytest.mark.usefixtures("nothing_kept")

WEIGHTS = "lung-compact.safetensors"


class Loaded:
    """Stands for a model that takes no time to load."""

    device = "cpu"
    capabilities = COMPACT


@pytest.fixture
def loaded(monkeypatch) -> list[tuple]:
    """What was loaded, without loading it."""
    calls = []

    def load(name, *, weights, device, **options):
        calls.append((name, weights, device))
        return Loaded()

    monkeypatch.setattr("SAMLungSegLib.models.load_model", load)
    monkeypatch.setattr(choice, "note_origin", lambda model, choice: None)
    return calls


# ---- models


def test_a_model_is_loaded_once_whatever_else_is_asked(loaded):
    first = Settings().loadedModel()
    assert Settings(lungs="right", window="bone", threshold=0.3, device="auto").loadedModel() is first
    assert loaded == [("lung-compact", None, "auto")]


def test_other_weights_or_another_device_are_another_model(loaded, tmp_path):
    weights = tmp_path / "own.safetensors"
    weights.write_bytes(b"one")
    for settings in (Settings(), Settings(device="cpu"), Settings(weights=weights), Settings(model="sam-vit-b")):
        settings.loadedModel()
    assert len(loaded) == 4
    weights.write_bytes(b"another")
    Settings(weights=weights).loadedModel()
    Settings(weights=str(weights)).loadedModel()
    assert len(loaded) == 5
    weights.with_suffix(".json").write_text("{}")  # the card says how the weights are used
    Settings(weights=weights).loadedModel()
    Settings(weights=weights).loadedModel()
    assert len(loaded) == 6


def test_only_the_models_used_last_stay(loaded):
    for name in ("lung-compact", "sam-vit-b", "lung-compact", "sam-vit-l", "lung-compact", "sam-vit-b"):
        Settings(model=name).loadedModel()
    assert [name for name, _, _ in loaded] == ["lung-compact", "sam-vit-b", "sam-vit-l", "sam-vit-b"]


def test_models_are_let_go_of(loaded):
    first = Settings().loadedModel()
    releaseMemory()
    assert Settings().loadedModel() is not first


def test_two_threads_that_ask_at_once_get_one_model(monkeypatch, loaded):
    entered, calls, got = threading.Barrier(2), [], []

    def load(name, **options):
        calls.append(name)
        threading.Event().wait(0.05)
        return Loaded()

    monkeypatch.setattr("SAMLungSegLib.models.load_model", load)

    def ask() -> None:
        entered.wait()
        got.append(Settings().loadedModel())

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert got[0] is got[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(model="lung-huge"), "choose one of lung-compact"),
        (Settings(weights="/absent.pth"), "no weights at /absent.pth"),
        (Settings(device="tpu"), "not available"),
    ],
)
def test_a_model_that_cannot_be_loaded_says_why_and_is_not_kept(settings, message):
    for _ in range(2):
        with pytest.raises(ModelError, match=message):
            settings.loadedModel()


def test_the_users_own_weights_answer_as_the_librarys_loader_has_them(tmp_path):
    own = shutil.copy(bundled_file(WEIGHTS), tmp_path / "own.safetensors")
    image = chests.xray()
    expected = load_model(weights=own, device="cpu").encode([image])[0].features[0]
    got = Settings(weights=str(own), device="cpu").loadedModel().encode([image])[0].features[0]
    assert np.array_equal(got, expected)


# ---- voxels


def test_voxels_are_copied_once_until_they_change():
    volumeNode = chests.axialChest()
    first = imageOf(volumeNode)
    volumeNode.SetName("renamed")
    assert imageOf(volumeNode) is first
    slicer.util.arrayFromVolume(volumeNode)[0] = 7
    assert (first.volume.array_kji[0] != 7).any()
    slicer.util.arrayFromVolumeModified(volumeNode)
    second = imageOf(volumeNode)
    assert (second.volume.array_kji[0] == 7).all()
    volumeNode.SetAndObserveTransformNodeID(nodes.add_transform(chests.MOVED).GetID())
    assert np.allclose(imageOf(volumeNode).volume.ijk_to_ras, chests.MOVED @ second.volume.ijk_to_ras)


def test_a_volume_that_takes_the_id_of_another_is_not_taken_for_it():
    volumeNode = chests.axialChest()
    first = imageOf(volumeNode)
    slicer.mrmlScene.Clear(0)
    again = nodes.add_volume(np.ones((8, 96, 96), np.int16), chests.phantom().ijk_to_ras)
    assert again.GetID() == volumeNode.GetID()
    assert imageOf(again).volume.array_kji.max() == 1
    assert first.volume.array_kji.max() > 1


def test_copies_are_let_go_of():
    volumeNode = chests.axialChest()
    first = imageOf(volumeNode)
    releaseMemory()
    assert imageOf(volumeNode) is not first


# ---- downloads


def test_a_download_hands_on_its_progress_and_the_wish_to_stop(monkeypatch, tmp_path):
    asked = {}

    def fetch(spec, *, progress, cancelled):
        asked.update(name=spec.name, cancelled=cancelled())
        progress(3, 10)
        return tmp_path / spec.file_name

    monkeypatch.setattr("SAMLungSegLib.models.checkpoints.fetch", fetch)
    job, told = DownloadJob("sam-vit-b"), []
    path = job.finish(job.run(lambda *bytes: told.append(bytes), lambda: True))
    assert asked == {"name": "sam-vit-b", "cancelled": True}
    assert told == [(3, 10)]
    assert path.name == "sam_vit_b_01ec64.pth"


def test_the_bundled_model_needs_no_download():
    job = DownloadJob("lung-compact")
    assert job.finish(job.run(lambda *bytes: None, lambda: False)).samefile(bundled_file(WEIGHTS))


def test_a_model_that_does_not_exist_cannot_be_downloaded():
    with pytest.raises(ModelError, match="no model 'lung-huge'"):
        DownloadJob("lung-huge")


def test_no_image_can_be_had_of_no_volume():
    with pytest.raises(VolumeError, match="choose or load one"):
        imageOf(None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "ready", ["Settings(model='sam-vit-b').loadedModel()", "importQuietly(('torch', 'segment_anything'))"]
)
def test_a_model_can_be_loaded_after_a_view_was_drawn(ready):
    """Mesa's OpenGL and triton each bring an LLVM, which must not mix: the process would end."""
    pytest.importorskip("triton")
    script = (
        "import bench; bench.start();"
        "from bench import offscreen; offscreen.render_window(9, 9).Render();"
        "from SAMLungSegSlicer.runtime.imports import importQuietly;"
        "from SAMLungSegSlicer.jobs import Settings;"
        "from SAMLungSegLib.errors import ModelError;"
        "from contextlib import suppress\n"
        f"with suppress(ModelError): {ready}\n"
        "import triton"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "SAMLUNGSEG_CACHE": "nowhere"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
