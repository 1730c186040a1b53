"""What Windows does not have is not needed: locks, limits of processes, flags of files, UTF-8 by default."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import SimpleITK as sitk  # noqa: N813

from SAMLungSegLib.phantom import chest_ct

REPOSITORY = Path(__file__).resolve().parents[2]
WINDOWS_LIKE = """
import os, sys, warnings
sys.modules.update(fcntl=None, resource=None, pwd=None, grp=None)
for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_DIRECTORY", "O_CLOEXEC", "sched_getaffinity", "fork", "getuid"):
    if hasattr(os, name):
        delattr(os, name)
warnings.filterwarnings("error", category=EncodingWarning, module="SAMLungSegLib")
"""


@pytest.fixture
def command(tmp_path):
    """Runs the command in a process, and below it processes, without what only POSIX has."""
    (tmp_path / "sitecustomize.py").write_text(WINDOWS_LIKE, encoding="utf-8")
    paths = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    environment = os.environ | {
        "PYTHONPATH": paths,
        "SAMLUNGSEG_CACHE": str(tmp_path / "cache"),
        "PYTHONIOENCODING": "cp1252",
        "PYTHONWARNDEFAULTENCODING": "1",
    }

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "SAMLungSegLib", *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            encoding="cp1252",
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.slow
def test_an_image_is_segmented_and_measured(command, tmp_path):
    phantom = chest_ct(0, size_kji=(4, 48, 64), spacing_mm=(70, 8, 6))
    scan, lungs = tmp_path / "Lunge_ö_肺.nii.gz", tmp_path / "out" / "Lunge_ö_肺_lungs.nii.gz"
    image = sitk.GetImageFromArray(phantom.hu_kji)
    image.SetSpacing((6, 8, 70))
    sitk.WriteImage(image, str(scan))
    said = command("segment", scan.name, "-o", "out", "--format", "nii.gz")
    assert "Lunge_ö_" in said and "\\u80ba" in said
    assert set(sitk.GetArrayFromImage(sitk.ReadImage(str(lungs))).ravel().tolist()) == {0, 1, 2}
    command("evaluate", f"out/{lungs.name}", f"out/{lungs.name}", "-o", "report")
    assert (tmp_path / "report" / "summary.csv").is_file()
