"""The public API as a type checker sees it in a user's script."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import SAMLungSegLib
from SAMLungSegLib.options import Options, OptionValues

REPOSITORY = Path(__file__).resolve().parents[2]

SCRIPT = """\
import numpy as np

from SAMLungSegLib import Options, VolumePoint, evaluate, load_model, read_volume, segment, segment_volume

volume = read_volume("chest.nii.gz")
options = Options(points=(VolumePoint((140, 210, 55)),), threshold=0.6, window="bone")
result = segment_volume(volume, load_model(device="cpu"), options, progress=lambda done, total: None)
labelmap: np.ndarray = result.labelmap_kji
spacing: tuple[float, float, float] = result.volume.spacing_mm
segment("chest.nii.gz", modality="CT", every=2).save("lungs.seg.nrrd")

segment("chest.nii.gz", treshold=0.5)
segment_volume("chest.nii.gz", load_model())
Options(threshold="high")
result.labelmap_ijk
number: int = result.scores
"""
FIRST_WRONG_LINE = SCRIPT.splitlines().index('segment("chest.nii.gz", treshold=0.5)') + 1


@pytest.mark.slow
def test_a_script_of_right_calls_passes_and_each_wrong_one_is_told(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "script.py").write_text(SCRIPT)
    settings = ["--config-file", str(REPOSITORY / "pyproject.toml"), "--cache-dir", str(REPOSITORY / ".mypy_cache")]
    command = [sys.executable, "-m", "mypy", "--no-color-output", *settings, str(tmp_path / "script.py")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    told = [line.partition("script.py:")[2] for line in done.stdout.splitlines() if ": error: " in line]
    wrong = range(FIRST_WRONG_LINE, FIRST_WRONG_LINE + 5)
    assert [int(line.split(":")[0]) for line in told] == list(wrong), done.stdout + done.stderr


def test_all_that_is_exported_is_shown_to_type_checkers():
    source = Path(SAMLungSegLib.__file__).read_text(encoding="utf-8")
    assert [name for name in SAMLungSegLib.__all__ if f"{name} as {name}" not in source] == []


def test_the_keywords_of_segment_are_the_fields_of_options():
    assert OptionValues.__annotations__.keys() == Options.__dataclass_fields__.keys()
    assert list(OptionValues.__annotations__) == list(Options.__dataclass_fields__)


def test_the_package_says_that_it_is_typed():
    assert (REPOSITORY / "SAMLungSegLib" / "py.typed").is_file()
    assert "  py.typed\n" in (REPOSITORY / "SAMLungSegLib" / "CMakeLists.txt").read_text()
