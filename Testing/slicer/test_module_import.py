"""Loading the module as Slicer does: quickly, with nothing that Slicer does not bring, from source and reloaded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import slicer
from bench import sampledata as sample_data
from takes import takes

import SAMLungSeg

REPOSITORY = Path(__file__).resolve().parents[2]
MODULE = REPOSITORY / "SAMLungSeg"
MOST_SECONDS = 0.2
HEAVY = {"torch", "SimpleITK", "pandas", "scipy", "skimage", "matplotlib", "monai"}
NOT_IN_SLICER = HEAVY - {"SimpleITK", "scipy"} | {
    "torchvision",
    "segment_anything",
    "safetensors",
    "platformdirs",
    "filelock",
    "tqdm",
}

MEASURE = """
import json, sys, time, types
import bench
bench.start()
before = set(sys.modules)
start = time.process_time()  # a busy machine does not count
import SAMLungSeg
seconds = time.process_time() - start
SAMLungSeg.SAMLungSeg(types.SimpleNamespace(path=SAMLungSeg.__file__))
print(json.dumps({
    "seconds": seconds,
    "new": sorted(set(sys.modules) - before),
    "old": sorted(before),
    "library": sys.modules["SAMLungSegLib"].__file__,
    "repository": sys.path[0],
}))
"""

WITHOUT_PACKAGES = """
import sys
for name in {names}:
    sys.modules[name] = None
import bench
bench.start()
import SAMLungSeg
from bench.window import ModuleWindow
window = ModuleWindow(SAMLungSeg.SAMLungSegWidget, SAMLungSeg.__file__)
window.widget.logic.getParameterNode().model = "sam-vit-b"
window.process_events()
print(window.ui.segmentVolumeButton.toolTip)
"""

RELOAD = """
import importlib.util, sys
from pathlib import Path
import bench
bench.start()
import SAMLungSeg
from SAMLungSegSlicer import forgetImports
root = Path(sys.argv[1])
assert Path(SAMLungSeg.__file__).is_relative_to(root)
for path in (root / "SAMLungSegLib/errors.py", root / "SAMLungSeg/SAMLungSegSlicer/selftest.py"):
    path.write_text(path.read_text(encoding="utf-8") + "\\nEDITED = True\\n", encoding="utf-8")
forgetImports()
spec = importlib.util.spec_from_file_location("SAMLungSeg", SAMLungSeg.__file__)  # as slicer.util does it
again = importlib.util.module_from_spec(spec)
sys.modules["SAMLungSeg"] = again
spec.loader.exec_module(again)
import SAMLungSegLib.errors
assert SAMLungSegLib.errors.EDITED and sys.modules[again.SAMLungSegTest.__module__].EDITED
assert again.SAMLungSegWidget is not SAMLungSeg.SAMLungSegWidget
"""


def fresh(script: str, *arguments: str, folders: tuple[Path, ...] = (MODULE,)) -> str:
    """What a new interpreter prints, with the bench and the module's folder on its path as Slicer has them."""
    paths = os.pathsep.join(str(folder) for folder in (REPOSITORY / "Testing", *folders))
    environment = os.environ | {"PYTHONPATH": paths, "QT_QPA_PLATFORM": "offscreen"}
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1] if done.stdout else ""


def measured() -> dict[str, Any]:
    return json.loads(fresh(MEASURE))


@pytest.mark.slow
def test_the_module_is_imported_and_made_in_no_time_and_without_anything_heavy() -> None:
    def seconds() -> float:
        one = measured()
        assert not HEAVY & {name.partition(".")[0] for name in one["new"]}
        return one["seconds"]

    assert min(takes(seconds, MOST_SECONDS)) < MOST_SECONDS


@pytest.mark.slow
def test_run_from_source_the_library_of_the_same_repository_is_taken() -> None:
    one = measured()
    assert Path(one["repository"]) == REPOSITORY
    assert Path(one["library"]) == REPOSITORY / "SAMLungSegLib" / "__init__.py"


@pytest.mark.slow
def test_the_panel_appears_in_a_slicer_that_has_none_of_the_packages_yet() -> None:
    assert fresh(WITHOUT_PACKAGES.format(names=sorted(NOT_IN_SLICER))) == "Choose a volume first."


@pytest.mark.slow
def test_the_reload_button_runs_the_files_as_they_are_now(tmp_path: Path) -> None:
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("SAMLungSeg", "SAMLungSegLib"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=ignore)
    fresh(RELOAD, str(tmp_path), folders=(tmp_path / "SAMLungSeg",))


@pytest.fixture
def module(slicer_app: Any) -> types.SimpleNamespace:
    """What Slicer knows of the module once it is made."""
    parent = types.SimpleNamespace(path=SAMLungSeg.__file__)
    SAMLungSeg.SAMLungSeg(parent)
    return parent


def test_slicer_finds_the_classes_by_the_modules_name() -> None:
    for suffix in ("", "Widget", "Logic", "Test"):
        assert isinstance(getattr(SAMLungSeg, f"SAMLungSeg{suffix}"), type)
    assert SAMLungSeg.SAMLungSegWidget.__name__ == "SAMLungSegWidget"  # Slicer derives the module's name from it
    assert SAMLungSeg.SAMLungSegLogic.__name__ == "SAMLungSegLogic"


def test_the_module_says_what_it_is_and_that_it_is_for_research(module: types.SimpleNamespace) -> None:
    assert module.title == "SAMLungSeg"
    assert module.categories == ["Segmentation"]
    assert module.contributors
    assert SAMLungSeg.HOMEPAGE in module.helpText
    assert "research only" in module.helpText
    assert "Segment Anything" in module.acknowledgementText


def test_the_module_has_its_icon(module: types.SimpleNamespace) -> None:
    assert not module.icon.isNull()


def test_sample_data_are_registered_when_slicer_has_started(
    module: types.SimpleNamespace, slicer_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "SampleData", sample_data)
    registered = sample_data.SampleDataLogic.sampleDataSourcesByCategory()
    assert not registered
    slicer_app.finishStartup()
    names = [source.sampleName for source in registered["SAMLungSeg"]]
    assert names == ["SAMLungSegPhantomCT", "SAMLungSegPhantomXray", "CTChest"]


def test_the_self_test_is_found_where_slicer_lists_them(module: types.SimpleNamespace) -> None:
    assert slicer.selfTests["SAMLungSeg"].__self__.moduleName == "SAMLungSeg"
