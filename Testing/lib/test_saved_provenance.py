"""What Python saves says how it was made, as what the command writes does."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scripted_models import BrightThings
from small_images import labels, run, write_images

from SAMLungSegLib import VolumeBox, VolumePoint, load_model, read_volume, segment, segment_volume
from SAMLungSegLib.models.base import Prediction
from SAMLungSegLib.models.choice import ModelChoice
from SAMLungSegLib.models.registry import MODELS
from SAMLungSegLib.pipeline import Options
from SAMLungSegLib.provenance import read_provenance


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """A folder with a small CT and an X-ray."""
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.mark.parametrize("file", ["chest_lungs.seg.nrrd", "chest_lungs.nii.gz", "frontal_lungs.png"])
def test_python_writes_the_files_of_the_command_byte_for_byte(images, tmp_path, file):
    image, extension = images / ("frontal.png" if "png" in file else "chest.nii.gz"), file.partition(".")[2]
    assert run("segment", image, "-o", tmp_path / "command", "--format", extension, "--device", "cpu") == 0
    (tmp_path / "python").mkdir()
    assert segment(str(image), device="cpu").save(str(tmp_path / "python" / file)) == tmp_path / "python" / file
    names = sorted(path.name for path in (tmp_path / "command").iterdir())
    assert names == sorted([file, f"{file.partition('.')[0]}.json"])
    for name in names:
        assert (tmp_path / "python" / name).read_bytes() == (tmp_path / "command" / name).read_bytes(), name


def test_prompts_are_kept_and_the_command_makes_the_result_again(images, tmp_path):
    points, boxes = (VolumePoint((10, 30, 3)),), (VolumeBox((5, 10, 1), (30, 50, 4)),)
    found = segment(images / "chest.nii.gz", points=points, boxes=boxes, lungs="right", window="1400/-500")
    found.save(tmp_path / "mine.seg.nrrd")
    made = read_provenance(tmp_path / "mine.seg.nrrd")
    assert (made.options.points, made.options.boxes, made.options.lungs) == (points, boxes, "right")
    assert made.options.modality == "CT"  # which was guessed
    assert run("segment", "--replay", tmp_path / "mine.seg.nrrd", "-o", tmp_path / "again") == 0
    again = labels(tmp_path / "again" / "chest_lungs.seg.nrrd")
    assert np.array_equal(again, found.labelmap_kji) and set(np.unique(again)) == {0, 1}


def test_an_image_of_memory_has_no_path_and_is_known_by_its_voxels(images, tmp_path, capsys):
    found = segment(sitk.ReadImage(str(images / "chest.nii.gz")))
    found.save(tmp_path / "mine.nrrd")
    assert json.loads((tmp_path / "mine.json").read_text())["image"] == ""
    assert run("segment", "--replay", tmp_path / "mine.nrrd", "-o", tmp_path / "again") == 2
    assert "give the image as INPUT" in capsys.readouterr().err
    replayed = ("segment", "--replay", tmp_path / "mine.nrrd", images / "chest.nii.gz", "-o", tmp_path / "again")
    assert run(*replayed) == 0
    assert np.array_equal(labels(tmp_path / "again" / "chest_lungs.seg.nrrd"), found.labelmap_kji)


def test_a_model_that_was_loaded_for_many_volumes_is_named_with_its_weights(images):
    made = segment_volume(read_volume(images / "frontal.png"), load_model(device="cpu")).provenance()
    assert made.model == ModelChoice(keeps_embeddings=False)
    assert made.weights_sha256 == {"lung-compact": MODELS["lung-compact"].sha256}
    assert (made.image, made.device, made.options.modality) == ("", "cpu", "XRAY")


def test_a_choice_is_a_model_too(images):
    made = segment(images / "frontal.png", model=ModelChoice(keeps_embeddings=False), device="cpu").provenance()
    assert made.model == ModelChoice(keeps_embeddings=False)


class OfTheUser(BrightThings):
    """A model that was loaded by nothing of ours."""

    def decode(self, embedding, prompts):
        logits = embedding.features[0] - 128
        return Prediction(logits, 0.5, logits)


def test_of_a_model_of_the_users_own_the_labelmap_is_written_alone(images, tmp_path):
    volume = read_volume(images / "frontal.png")
    found = segment_volume(volume, OfTheUser(), Options(boxes=(VolumeBox((10, 10), (60, 100)),)))
    found.save(tmp_path / "mine.nrrd")
    assert found.provenance() is None
    assert [path.name for path in tmp_path.iterdir()] == ["mine.nrrd"]


def test_a_json_file_of_somebody_else_stays_and_one_of_ours_is_replaced(images, tmp_path, caplog):
    found = segment(images / "chest.nii.gz")
    (tmp_path / "chest.json").write_text('{"Modality": "CT"}')
    with caplog.at_level(logging.WARNING):
        found.save(tmp_path / "chest.seg.nrrd")
    assert (tmp_path / "chest.json").read_text() == '{"Modality": "CT"}'
    assert "chest.json is no provenance record and stays as it is" in caplog.text
    assert read_provenance(tmp_path / "chest.seg.nrrd") == found.provenance()
    for lungs in ("left", "right"):
        segment(images / "chest.nii.gz", lungs=lungs).save(tmp_path / "mine.nii.gz")
    assert read_provenance(tmp_path / "mine.nii.gz").options.lungs == "right"
