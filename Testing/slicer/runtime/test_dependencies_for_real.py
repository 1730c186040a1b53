"""That pip keeps what Slicer brought, and that each feature runs with nothing but what it installs."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from SAMLungSegSlicer.runtime import dependencies

REPOSITORY = Path(__file__).resolve().parents[3]
NOT_USED_IN_SLICER = {"tqdm"}


def _wheel(folder: Path, name: str, version: str, requires: str = "") -> None:
    """The smallest wheel that pip resolves."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + requires
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def test_pip_itself_refuses_a_package_that_wants_another_numpy(tmp_path: Path) -> None:
    _wheel(tmp_path, "greedy", "1.0", "Requires-Dist: numpy>=1000\n")
    _wheel(tmp_path, "numpy", "1000.0")
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("\n".join(dependencies._constraints(["greedy"])), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", f"--find-links={tmp_path}", "greedy"]
    free = subprocess.run(pip, capture_output=True, text=True, check=False)
    if "No module named pip" in free.stderr:
        pytest.skip("this Python has no pip")
    assert "Would install greedy-1.0 numpy-1000.0" in free.stdout
    kept = subprocess.run([*pip, "--constraint", constraints], capture_output=True, text=True, check=False)
    assert kept.returncode != 0
    assert "numpy==" in kept.stdout + kept.stderr


PATHS = {
    "phantom": "from SAMLungSegSlicer.sampledata import loadPhantomXray; loadPhantomXray()",
    "evaluate": "logic.evaluate(truth, truth, ct)",
    "segment": "logic.segmentVolume(ct); logic.segmentSlice(ct, points=[(-80, 0, -36)])",
    "batch": "print(logic.segmentFolder(sys.argv[1], sys.argv[1] + '/lungs').GetCellText(0, 1))",
}
SCRIPT = """
import sys
for name in {blocked}:
    sys.modules[name] = None
import bench
bench.start()
import SimpleITK as sitk
import slicer
from SAMLungSegLib.phantom import chest_ct
from SAMLungSegSlicer.logic import SAMLungSegLogic
logic = SAMLungSegLogic()
phantom = chest_ct(size_kji=(8, 48, 64), spacing_mm=(40, 8, 6))
ct = slicer.util.addVolumeFromArray(phantom.hu_kji, phantom.ijk_to_ras, "ct")
truth = slicer.util.addVolumeFromArray(phantom.labelmap_kji, phantom.ijk_to_ras, "t", "vtkMRMLLabelMapVolumeNode")
sitk.WriteImage(sitk.GetImageFromArray(phantom.hu_kji), sys.argv[1] + "/ct.nrrd")
{path}
"""


@pytest.mark.slow
@pytest.mark.parametrize("feature", PATHS)
def test_a_feature_runs_with_nothing_but_what_it_installs(feature: str, tmp_path: Path) -> None:
    importable = {"scikit-image": "skimage", "segment-anything": "segment_anything"}
    others = dependencies.REQUIREMENTS.keys() | NOT_USED_IN_SLICER
    blocked = sorted(importable.get(name, name) for name in others - set(dependencies._FEATURES[feature]))
    script = SCRIPT.format(blocked=blocked, path=PATHS[feature])
    folders = os.pathsep.join(str(REPOSITORY / name) for name in ("Testing", "SAMLungSeg", ""))
    environment = os.environ | {"PYTHONPATH": folders, "QT_QPA_PLATFORM": "offscreen"}
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert feature != "batch" or "done" in done.stdout.split()
