"""The command `samlungseg propagate`: objects shown in one slice, through an oblique volume, with their names."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk  # noqa: N813
from tiny_sams import grey

from SAMLungSegLib.cli import main
from SAMLungSegLib.models.base import Embedding, Prediction
from SAMLungSegLib.models.capabilities import Capabilities
from SAMLungSegLib.volume import read_volume
from SAMLungSegLib.volume.itk import image_of

BALLS = {"liver": ((60, 50, 5), 1), "thing": ((24, 22, 3), 2)}
SPACING_MM = (0.7, 1.4, 5.0)


class Connected:
    """Predicts the bright region that the prompt lies in, or whose box it is."""

    name, device, capabilities = "connected", "cpu", Capabilities(prompts=("points", "box"))

    def encode(self, views):
        return [Embedding((view.grey_hw,), view.grey_hw.shape) for view in views]

    def decode(self, embedding, prompts):
        from scipy import ndimage

        prompts.check_inside(embedding.size_hw)
        regions, _ = ndimage.label(embedding.features[0] > 127)
        if prompts.points:
            x, y = prompts.points[0].xy
        else:
            left, top, right, bottom = prompts.box.xyxy
            x, y = (left + right) / 2, (top + bottom) / 2
        number = regions[min(round(y), regions.shape[0] - 1), min(round(x), regions.shape[1] - 1)]
        found = np.where((regions == number) & (number > 0), 5.0, -5.0).astype(np.float32)
        return Prediction(found, 0.1, found)


@pytest.fixture
def connected(monkeypatch):
    monkeypatch.setattr("SAMLungSegLib.models.choice.ModelChoice.load", lambda self, device: Connected())


@pytest.fixture
def scan(tmp_path):
    """Two balls of 14 mm in slices 5 mm apart, turned by 20 degrees, stored from superior to inferior, mirrored."""
    k, j, i = np.indices((9, 90, 100))
    hu = np.full(k.shape, -1000, np.int16)
    for middle, _ in BALLS.values():
        hu[np.linalg.norm((np.stack([i, j, k], -1) - middle) * SPACING_MM, axis=-1) <= 14] = 1000
    angle = np.deg2rad(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    ijk_to_ras = np.eye(4)
    ijk_to_ras[:3, :3] = turn @ np.diag([0.7, 1.4, -5.0])
    sitk.WriteImage(image_of(hu, ijk_to_ras), str(tmp_path / "scan.nii.gz"))
    return tmp_path / "scan.nii.gz", hu > 0


def run(*arguments: object) -> int:
    return main(["propagate", *(str(argument) for argument in arguments)])


def test_each_object_is_a_named_segment_where_it_was(scan, tmp_path, connected, capsys):
    path, bright = scan
    shown = ("--object", "Liver 60,50,5,+", "--object", "thing 8,12,3,40,32,3")
    assert run(path, "-o", tmp_path / "out", *shown) == 0
    image = sitk.ReadImage(str(tmp_path / "out" / "scan_objects.seg.nrrd"))
    labels = sitk.GetArrayFromImage(image)
    assert np.allclose(image.GetDirection(), sitk.ReadImage(str(path)).GetDirection())
    assert not labels[~bright].any() and (labels > 0).sum() >= 0.95 * bright.sum()
    for (i, j, k), label in BALLS.values():
        assert labels[k, j, i] == label and labels[k - 1, j, i] == label
    names = {image.GetMetaData(f"Segment{number}_Name") for number in range(2)}
    assert names == {"liver", "thing"}
    assert any("10200004^Liver" in image.GetMetaData(f"Segment{number}_Tags") for number in range(2))
    table = pd.read_csv(tmp_path / "out" / "scan_objects.csv").set_index("object")
    assert table.loc["liver", "voxels"] == (labels == 1).sum()
    assert table.loc["liver", "volume_ml"] == pytest.approx((labels == 1).sum() * 0.7 * 1.4 * 5 / 1000)
    assert table.loc["liver", ["first_slice", "last_slice"]].tolist() == [
        1,
        5,
    ]  # 5 of 9 from above is 3 from below, +-2
    assert "liver: " in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "scan_objects.json").read_text())
    assert record["objects"][0] == {"label": 1, "key": "liver", "given": "Liver 60,50,5,+"}
    assert read_volume(tmp_path / "out" / "scan_objects.seg.nrrd").structure_labels


def test_a_picture_has_its_object_in_a_png(tmp_path, connected):
    sitk.WriteImage(sitk.GetImageFromArray((grey((60, 80)) > 40).astype(np.uint8) * 255), str(tmp_path / "x.png"))
    assert run(tmp_path / "x.png", "-o", tmp_path, "--object", "patch 5,5,75,55") == 0
    assert {"x_objects.png", "x_objects.csv", "x_objects.json"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["liver"], "is not a name and its prompts; give, for example, 'liver 120,80,42,+'"),
        (["60,50,5,+"], "is not a name and its prompts"),
        (["liver 60,50,5,+ 60,50,4,+"], "Object 1 is prompted in 3, 4; show it in one slice"),
        (["liver 50,40,3,70,60,5"], "Object 1 is prompted in 3, 4, 5; show it in one slice"),
        (["liver 50,40,5,70,60,5 20,20,5,30,30,5"], "Object 1 has 2 boxes; give one, or several objects"),
        (["liver 60,50,5,+", "Liver 24,22,3,+"], "give each a name of its own"),
        (["liver 60,50,99,+"], "Voxel 60,50,99 is outside"),
    ],
)
def test_what_is_no_object_is_refused(scan, tmp_path, connected, capsys, given, message):
    options = [word for one in given for word in ("--object", one)]
    assert run(scan[0], "-o", tmp_path / "out", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_results_and_the_input_are_not_replaced(scan, tmp_path, connected, capsys):
    for options, code in (([], 0), ([], 2), (["--overwrite"], 0)):
        assert run(scan[0], "-o", tmp_path / "out", "--object", "liver 60,50,5,+", *options) == code
    assert "exists already; add --overwrite" in capsys.readouterr().err


def test_an_object_of_which_nothing_is_found_is_said(scan, tmp_path, connected, capsys):
    assert run(scan[0], "-o", tmp_path / "out", "--object", "air 5,80,5,+") == 0
    printed = capsys.readouterr()
    assert "air: nothing was found" in printed.out and "nothing of object 1 was found in slice 3" in printed.err
    assert pd.read_csv(tmp_path / "out" / "scan_objects.csv")["voxels"].tolist() == [0]
