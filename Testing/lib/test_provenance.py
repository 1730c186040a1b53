"""How a result was made is kept with it, and makes it again."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from safetensors.torch import load_file, save_file
from small_images import labels, run, write_images

from SAMLungSegLib.errors import VolumeError
from SAMLungSegLib.intensity import Window
from SAMLungSegLib.models.choice import ModelChoice
from SAMLungSegLib.models.engines import chosen_engine
from SAMLungSegLib.models.registry import MODELS, bundled_file
from SAMLungSegLib.pipeline import Options, VolumeBox, VolumePoint, segment_volume
from SAMLungSegLib.provenance import provenance_of, provenance_path, read_provenance, save, voxels_sha256
from SAMLungSegLib.volume import Volume, read_volume


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """A folder with a small oblique CT and an X-ray."""
    return write_images(tmp_path_factory.mktemp("images"), direction=(0.8, 0, 0.6, 0, -1, 0, -0.6, 0, 0.8))


# ---- the record


def full_options() -> Options:
    return Options(
        modality="CT",
        window=Window(-650, 1500.5),
        points=(VolumePoint((10.0, 20.0, 3.0)), VolumePoint((1.5, 2.0, 3.0), positive=False)),
        boxes=(VolumeBox((1.0, 2.0, 1.0), (30.0, 40.0, 4.0)),),
        threshold=0.4,
        lungs="left",
    )


@pytest.fixture(scope="module")
def segmentation(images):
    return segment_volume(read_volume(images / "chest.nii.gz"), ModelChoice().load("cpu"), Options(modality="CT"))


@pytest.mark.parametrize("extension", ["seg.nrrd", "nrrd", "nii.gz"])
def test_a_record_comes_back_as_it_was(segmentation, images, tmp_path, extension):
    made = provenance_of(
        segmentation.volume, full_options(), ModelChoice(), "cpu", image=images / "chest.nii.gz", series="1.2"
    )
    path = tmp_path / f"chest_lungs.{extension}"
    save(segmentation.labelmap_kji, segmentation.volume, path, made)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["chest_lungs.json", path.name]
    assert read_provenance(path) == made
    assert read_provenance(tmp_path / "chest_lungs.json") == made
    assert made.options == full_options() and made.series == "1.2"


def test_slicers_segmentation_carries_its_provenance_alone(segmentation, tmp_path):
    made = provenance_of(segmentation.volume, segmentation.options, ModelChoice(), "cuda:1")
    save(segmentation.labelmap_kji, segmentation.volume, tmp_path / "chest.seg.nrrd", made)
    (tmp_path / "chest.json").unlink()
    (tmp_path / "chest.seg.nrrd").rename(tmp_path / "renamed.seg.nrrd")
    assert read_provenance(tmp_path / "renamed.seg.nrrd") == made
    assert made.device == "cuda" and made.options.modality == "CT" and made.image == ""


def test_the_record_lies_beside_its_result():
    assert provenance_path(Path("a/b.c_lungs.seg.nrrd")) == Path("a/b.c_lungs.json")
    assert provenance_path(Path("x_lungs.NII.GZ")) == Path("x_lungs.json")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": "samlungseg-recipe/99"}', "no JSON"])
def test_what_is_no_record_is_refused(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(VolumeError, match="does not say how it was made"):
        read_provenance(tmp_path / "x.json")


def test_a_labelmap_without_provenance_is_refused(tmp_path):
    sitk.WriteImage(sitk.Image(4, 4, sitk.sitkUInt8), str(tmp_path / "x.png"))
    with pytest.raises(VolumeError, match="does not say how it was made"):
        read_provenance(tmp_path / "x.png")


def test_voxels_are_known_by_type_size_and_values():
    zeros = np.zeros((2, 3, 4), np.int16)
    first = voxels_sha256(Volume(zeros, np.eye(4), "a"))
    assert first == voxels_sha256(Volume(np.zeros((4, 3, 2), np.int16).T, np.diag([2, 2, 2, 1]), "b"))
    changed = zeros.copy()
    changed[1, 2, 3] = 1
    others = [zeros.astype(np.uint16), zeros.reshape(3, 2, 4), changed]
    assert len({first, *(voxels_sha256(Volume(array, np.eye(4))) for array in others)}) == 4


def test_another_place_is_another_image(segmentation):
    made = provenance_of(segmentation.volume, segmentation.options, ModelChoice(), "cpu")
    moved = segmentation.volume.ijk_to_ras.copy()
    moved[0, 3] += 1e-7
    made.check_image(replace(segmentation.volume, ijk_to_ras=moved))
    moved[0, 3] += 1
    with pytest.raises(VolumeError, match="at another place"):
        made.check_image(replace(segmentation.volume, ijk_to_ras=moved))


# ---- segment --replay


def test_a_result_with_prompts_is_made_again_exactly(images, tmp_path):
    prompts = ("--point", "10,30,3,+", "--point", "5,5,3,-", "--box", "5,10,1,30,50,4", "--window", "1400/-500")
    first, second = tmp_path / "first", tmp_path / "second"
    assert run("segment", images / "chest.nii.gz", "-o", first, "--lungs", "right", *prompts) == 0
    assert run("segment", "--replay", first / "chest_lungs.seg.nrrd", "-o", second) == 0
    made = labels(second / "chest_lungs.seg.nrrd")
    assert np.array_equal(made, labels(first / "chest_lungs.seg.nrrd")) and set(np.unique(made)) == {0, 1}
    assert read_provenance(second / "chest_lungs.json") == read_provenance(first / "chest_lungs.json")


def test_an_image_that_moved_is_given_and_known_again(images, tmp_path):
    shutil.copy(images / "frontal.png", tmp_path / "a.png")
    run("segment", tmp_path / "a.png", "-o", tmp_path / "first")
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    made = tmp_path / "first" / "a_lungs.json"
    assert run("segment", "--replay", made, "-o", tmp_path / "second") == 2
    assert run("segment", "--replay", made, tmp_path / "b.png", "-o", tmp_path / "second") == 0
    assert np.array_equal(labels(tmp_path / "second" / "b_lungs.png"), labels(tmp_path / "first" / "a_lungs.png"))


def test_another_image_is_refused(images, tmp_path, capsys):
    run("segment", images / "frontal.png", "-o", tmp_path / "first")
    code = run("segment", "--replay", tmp_path / "first" / "frontal_lungs.png", images / "chest.nii.gz", "-o", tmp_path)
    assert code == 2 and "has other voxels than the image" in capsys.readouterr().err


def test_other_weights_are_refused(images, tmp_path, capsys):
    state = load_file(bundled_file("lung-compact.safetensors"))
    weights = tmp_path / "mine.safetensors"
    save_file(state, weights)
    run("segment", images / "frontal.png", "-o", tmp_path / "first", "--weights", weights)
    again = ("segment", "--replay", tmp_path / "first" / "frontal_lungs.png", "-o")
    assert run(*again, tmp_path / "second") == 0
    save_file({key: value * 0.5 for key, value in state.items()}, weights)
    assert run(*again, tmp_path / "third") == 2
    assert "weights of own are not those" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--window", "bone"), "leave out --window"),
        (("--point", "1,2,+"), "leave out --point"),
        (("a.png", "b.png"), "give one"),
    ],
)
def test_what_the_record_decides_is_not_asked_twice(images, tmp_path, capsys, arguments, message):
    run("segment", images / "frontal.png", "-o", tmp_path / "first")
    assert run("segment", "--replay", tmp_path / "first" / "frontal_lungs.json", "-o", tmp_path, *arguments) == 2
    assert message in capsys.readouterr().err


def test_nothing_to_segment_is_told(tmp_path, capsys):
    assert run("segment", "-o", tmp_path) == 2
    assert "No INPUT was given" in capsys.readouterr().err


def test_another_kind_of_device_is_told(images, tmp_path, caplog):
    run("segment", images / "frontal.png", "-o", tmp_path / "first")
    path = tmp_path / "first" / "frontal_lungs.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"device": "cuda"}))
    with caplog.at_level(logging.WARNING):
        assert run("segment", "--replay", path, "-o", tmp_path / "second", "--device", "cpu") == 0
    engine = chosen_engine(MODELS["lung-compact"])
    assert f"Made by {engine} on cuda, replayed by {engine} on cpu" in caplog.text


def test_another_engine_is_told_and_records_from_before_there_were_two_are_of_pytorch(images, tmp_path, caplog):
    pytest.importorskip("onnxruntime")
    run("segment", images / "frontal.png", "-o", tmp_path / "first")
    path = tmp_path / "first" / "frontal_lungs.json"
    fields = json.loads(path.read_text())
    assert fields.pop("engine") == "onnx"
    path.write_text(json.dumps(fields))
    assert read_provenance(path).engine == "torch"
    with caplog.at_level(logging.WARNING):
        assert run("segment", "--replay", path, "-o", tmp_path / "second") == 0
    assert "Made by torch on cpu, replayed by onnx on cpu: single voxels may differ" in caplog.text
