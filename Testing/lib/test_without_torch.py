"""What runs where PyTorch is not installed, and what says that it is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from SAMLungSegLib.errors import ModelError
from SAMLungSegLib.models import engines, onnx_graphs
from SAMLungSegLib.models.checkpoints import load_arrays
from SAMLungSegLib.models.engines import chosen_engine
from SAMLungSegLib.models.onnx_graphs import chosen_device
from SAMLungSegLib.models.registry import MODELS
from SAMLungSegLib.phantom import chest_ct, chest_xray

REPOSITORY = Path(__file__).resolve().parents[2]
COMPACT = MODELS["lung-compact"]
MAIN = """
from SAMLungSegLib.cli import main
import sys
for command in sys.argv[1].split(";"):
    assert main(command.split()) == 0, command
"""


@pytest.fixture
def run(tmp_path):
    """Runs a script with arguments in a process in which, and below which, what `engines.FROM_EXTRAS` names is not."""
    absent = dict.fromkeys(engines.FROM_EXTRAS)
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules.update({absent})\n")
    paths = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    environment = os.environ | {"PYTHONPATH": paths, "SAMLUNGSEG_CACHE": str(tmp_path / "cache")}

    def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script, *arguments]
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False
        )

    return run


@pytest.mark.slow
def test_lungs_are_segmented_prompted_measured_and_in_batches(run, tmp_path):
    pytest.importorskip("onnxruntime")
    phantom = chest_ct(0, size_kji=(8, 48, 64), spacing_mm=(40, 8, 6))
    (tmp_path / "in").mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(phantom.hu_kji), str(tmp_path / "in" / "ct.nii.gz"))
    sitk.WriteImage(sitk.GetImageFromArray(chest_xray(phantom, (128, 128))[0]), str(tmp_path / "in" / "frontal.png"))
    done = run(
        MAIN,
        "segment in/ct.nii.gz in/frontal.png -o lungs --overlay;"
        "segment in/ct.nii.gz -o prompted --point 20,30,3,+ --box 4,4,2,40,40,4;"
        "segment --replay lungs/ct_lungs.json -o again;"
        "evaluate prompted/ct_lungs.seg.nrrd lungs/ct_lungs.seg.nrrd -o report;"
        "batch in -o cohort;"
        "models export -o exported;"
        "cache size",
    )
    assert done.returncode == 0, done.stderr
    lungs = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "lungs" / "ct_lungs.seg.nrrd")))
    again = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "again" / "ct_lungs.seg.nrrd")))
    assert set(np.unique(lungs)) == {0, 1, 2} and np.array_equal(again, lungs)
    assert "2 cases: 2 done" in done.stdout


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("segment in.png -o out --model sam-vit-b", "Model sam-vit-b runs by PyTorch, which is not installed; run: "
         "pip install 'samlungseg[sam]'"),
        ("train smoke . -o out", "train needs torch; run: pip install 'samlungseg[train]'"),
        ("automatic in.png -o out", "automatic needs torch; run: pip install 'samlungseg[sam]'"),
    ],
)  # fmt: skip
def test_what_needs_pytorch_says_how_to_install_it(run, tmp_path, command, message):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((40, 40), np.uint8)), str(tmp_path / "in.png"))
    done = run("import sys; from SAMLungSegLib.cli import main; sys.exit(main(sys.argv[1].split()))", command)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def installed(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: object() if name in packages else None)


TORCH = ("torch", "segment_anything")


@pytest.mark.parametrize(
    ("packages", "providers", "device", "expected"),
    [
        (("onnxruntime",), ["CPUExecutionProvider"], "auto", "onnx"),
        (("onnxruntime", *TORCH), ["CPUExecutionProvider"], "auto", "onnx"),
        (("onnxruntime", *TORCH), ["CPUExecutionProvider"], "cuda:1", "torch"),
        (("onnxruntime", *TORCH), ["CUDAExecutionProvider", "CPUExecutionProvider"], "cuda:1", "onnx"),
        (TORCH, [], "auto", "torch"),
    ],
)
def test_onnx_runtime_is_taken_where_it_can_and_pytorch_otherwise(monkeypatch, packages, providers, device, expected):
    installed(monkeypatch, *packages)
    if providers:
        onnxruntime = pytest.importorskip("onnxruntime")
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
        monkeypatch.setattr(onnx_graphs, "works", lambda _provider: True)
    assert chosen_engine(COMPACT, device) == expected


def test_where_nothing_is_installed_the_smaller_is_named(monkeypatch):
    installed(monkeypatch)
    with pytest.raises(ModelError, match="pip install onnxruntime"):
        chosen_engine(COMPACT)


@pytest.mark.parametrize(
    ("providers", "device", "expected"),
    [
        (["CPUExecutionProvider"], "auto", "cpu"),
        (["CoreMLExecutionProvider", "CPUExecutionProvider"], "auto", "cpu"),
        (["CoreMLExecutionProvider", "CPUExecutionProvider"], "mps", "mps"),
        (["DmlExecutionProvider", "CPUExecutionProvider"], "auto", "dml"),
        (["CUDAExecutionProvider", "CPUExecutionProvider"], "auto", "cuda"),
        (["CUDAExecutionProvider", "CPUExecutionProvider"], "cuda:1", "cuda:1"),
    ],
)
def test_the_device_follows_the_providers(monkeypatch, providers, device, expected):
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr(onnx_graphs, "works", lambda _provider: True)
    assert str(chosen_device(device)) == expected


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_without_its_device_is_as_good_as_absent(monkeypatch):
    """As where ONNX Runtime for CUDA is installed on a machine without a card: the real one says so here."""
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine may have a card")
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    assert onnx_graphs.works("CPUExecutionProvider") and str(chosen_device("auto")) == "cpu"
    with pytest.raises(ModelError, match="'cuda' is not available"):
        chosen_device("cuda")


@pytest.mark.parametrize("device", ["cuda", "cpu:", "cpu:one", "gpu"])
def test_a_device_without_a_provider_is_refused(monkeypatch, device):
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ModelError, match="not available here to ONNX Runtime; choose auto or one of cpu"):
        chosen_device(device)


def test_a_pickled_checkpoint_is_read_by_pytorch_alone(monkeypatch, tmp_path):
    (tmp_path / "own.pth").write_bytes(b"weights")
    installed(monkeypatch, "onnxruntime")
    with pytest.raises(ModelError, match=r"own.pth is read by PyTorch, which is not installed"):
        load_arrays(tmp_path / "own.pth")
