"""What is installed, what is asked, what pip gets, and what is never touched."""

from __future__ import annotations

import contextlib
import importlib.metadata
import subprocess
import sys
import threading
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import qt
import slicer
import slicer.packaging
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from SAMLungSegLib.errors import SAMLungSegError
from SAMLungSegSlicer.runtime import dependencies

REPOSITORY = Path(__file__).resolve().parents[3]
FROM_SLICER = {"numpy": "2.1.3", "scipy": "1.15.0", "SimpleITK": "2.5.2", "pydicom": "2.4.3"}
NOT_USED_IN_SLICER = {"tqdm"}
NEW = "99.0"


@dataclass
class Python:
    """Slicer's Python as far as `dependencies` sees it: what is installed, what was asked, what pip was given."""

    versions: dict[str, str] = field(default_factory=lambda: dict(FROM_SLICER))
    answer: bool = True
    questions: list[str] = field(default_factory=list)
    pip: list[list[str]] = field(default_factory=list)
    constraints: list[list[str]] = field(default_factory=list)
    torch: list[dict[str, Any]] = field(default_factory=list)
    breaks: Exception | None = None
    installs: bool = True

    def version(self, name: str) -> str:
        try:
            return self.versions[name]
        except KeyError:
            raise importlib.metadata.PackageNotFoundError(name) from None

    def ask(self, text: str, title: str) -> bool:
        self.questions.append(text)
        return self.answer

    def pipInstall(self, requirements: list[str], constraints: Path | None = None, **options: Any) -> None:
        if self.breaks is not None:
            raise self.breaks
        self.pip.append(list(requirements))
        if constraints is not None:
            self.constraints.append(Path(constraints).read_text(encoding="utf-8").split())
        if self.installs:
            self.versions.update({Requirement(text).name: NEW for text in requirements if not text.startswith("-")})

    def installTorch(self, **options: Any) -> None:
        self.torch.append(options)
        self.versions.update({"torch": "2.7.0+cu128", "torchvision": "0.22.0+cu128"})


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch) -> Python:
    python = Python()
    monkeypatch.setattr(importlib.metadata, "version", python.version)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", python.ask)
    monkeypatch.setattr(slicer.packaging, "pip_install", python.pipInstall)
    extension = types.SimpleNamespace(PyTorchUtilsLogic=lambda: python)
    monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
    return python


def everything() -> dict[str, str]:
    return FROM_SLICER | dict.fromkeys(dependencies.REQUIREMENTS, NEW)


@pytest.mark.parametrize("feature", ["segment", "sam", "batch", "evaluate", "phantom"])
def test_nothing_is_asked_or_installed_where_all_is_there(python: Python, feature: str) -> None:
    python.versions = everything()
    assert dependencies.ensure(feature)
    assert not python.questions + python.pip + python.torch


def test_one_question_says_what_is_missing_and_how_large(python: Python) -> None:
    python.versions = everything()
    del python.versions["pandas"], python.versions["scikit-image"]
    dependencies.ensure("evaluate")
    (question,) = python.questions
    assert "- pandas: about 13 MB" in question
    assert "- scikit-image: about 17 MB" in question
    assert "Together about 30 MB" in question
    assert "NVIDIA" not in question


def test_the_bundled_model_needs_a_few_small_packages_and_no_torch(python: Python) -> None:
    assert dependencies.ensure("segment")
    (question,) = python.questions
    assert "onnxruntime: about 25 MB" in question and "Together about 45 MB" in question
    assert "NVIDIA" not in question
    assert not python.torch
    names = {Requirement(text).name for text in python.pip[0]}
    assert names == {"onnxruntime", "scikit-image", "safetensors", "platformdirs", "filelock"}


@pytest.mark.parametrize(
    ("model", "weights", "expected"),
    [
        ("lung-compact", None, ("batch",)),
        ("lung-compact", "", ("batch",)),
        ("lung-compact", "tuned.safetensors", ("batch",)),
        ("lung-compact", "own.pth", ("batch", "sam")),
        ("sam-vit-b", None, ("batch", "sam")),
    ],
)
def test_pytorch_is_asked_for_with_the_models_and_weights_that_need_it(model, weights, expected) -> None:
    assert dependencies.withModel("batch", model, weights) == expected


def test_where_pytorch_is_installed_already_it_runs_the_bundled_model(python: Python) -> None:
    python.versions = everything()
    del python.versions["onnxruntime"]
    assert dependencies.missing("segment") == []
    del python.versions["torchvision"]
    assert dependencies.missing("segment") == ["onnxruntime"]


def test_what_two_features_need_is_asked_once(python: Python) -> None:
    assert dependencies.ensure("batch", "sam")
    (question,) = python.questions
    assert question.count("- scikit-image:") == 1 and "- torch:" in question and "- pandas:" in question


def test_the_question_tells_the_size_of_torch_with_and_without_a_graphics_card(python: Python) -> None:
    dependencies.ensure("sam")
    (question,) = python.questions
    assert "Together about 254 MB" in question
    assert "With an NVIDIA graphics card it is about 3054 MB" in question


def test_refusing_leaves_everything_as_it_was(python: Python) -> None:
    python.answer = False
    assert dependencies.ensure("sam") is False
    assert python.versions == FROM_SLICER
    assert len(python.questions) == 1
    assert not python.pip + python.torch


def test_torch_comes_by_the_pytorch_extension_and_only_the_rest_by_pip(python: Python) -> None:
    assert dependencies.ensure("sam")
    assert python.torch == [{"askConfirmation": False, "torchVersionRequirement": ">=2.2"}]
    names = {Requirement(text).name for text in python.pip[0]}
    assert names == {"onnxruntime", "segment-anything", "scikit-image", "safetensors", "platformdirs", "filelock"}
    assert len(python.pip) == 1


def test_pip_is_told_to_keep_what_slicer_and_the_pytorch_extension_brought(python: Python) -> None:
    dependencies.ensure("sam")
    assert set(python.constraints[0]) == {
        "numpy==2.1.3",
        "scipy==1.15.0",
        "SimpleITK==2.5.2",
        "pydicom==2.4.3",
        "torch==2.7.0+cu128",
        "torchvision==0.22.0+cu128",
    }


@pytest.mark.parametrize("feature", ["segment", "sam", "batch", "evaluate", "phantom"])
def test_numpy_and_simpleitk_of_slicer_are_never_asked_for(python: Python, feature: str) -> None:
    dependencies.ensure(feature)
    asked = {canonicalize_name(Requirement(text).name) for text in python.pip[0]}
    assert not asked & {"numpy", "scipy", "simpleitk", "torch"}
    assert {"numpy==2.1.3", "SimpleITK==2.5.2"} <= set(python.constraints[0])


def test_a_slicer_before_5_11_gets_the_same_constraints_by_the_older_call(
    python: Python, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []

    def pipInstall(arguments: list[str]) -> None:
        calls.append([*arguments[:-1], Path(arguments[-1]).read_text(encoding="utf-8")])
        python.pipInstall(arguments[:-2])

    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    monkeypatch.setattr(slicer.util, "pip_install", pipInstall)
    assert dependencies.ensure("phantom")
    kept = "numpy==2.1.3\nscipy==1.15.0\nSimpleITK==2.5.2\npydicom==2.4.3"
    assert calls == [["scikit-image>=0.21", "--constraint", kept]]


def test_a_package_that_is_too_old_is_missing_and_a_local_or_pre_release_version_is_not(python: Python) -> None:
    python.versions = everything() | {"pandas": "1.5.3", "scikit-image": "0.26.0rc1"}
    assert dependencies.missing("evaluate") == ["pandas"]
    python.versions = everything() | {"torch": "2.4.0+cu121"}
    assert dependencies.missing("sam") == []


def test_without_the_pytorch_extension_the_user_is_told_to_install_it_and_nothing_is_asked(
    python: Python, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    with pytest.raises(SAMLungSegError, match=r"extension 'PyTorch'.*Extensions Manager, restart Slicer"):
        dependencies.ensure("sam")
    assert not python.questions + python.pip


def test_the_pytorch_of_another_extension_is_not_replaced_when_it_is_too_old(python: Python) -> None:
    python.versions["torch"] = "1.13.1"
    with pytest.raises(SAMLungSegError, match=r"PyTorch 1\.13\.1 is too old, torch>=2\.2 .* PyTorch Utils"):
        dependencies.ensure("sam")
    assert not python.questions + python.pip + python.torch


def test_torchvision_alone_comes_by_pip_for_the_torch_that_is_there(python: Python) -> None:
    python.versions = everything() | {"torch": "2.7.0"}
    del python.versions["torchvision"]
    assert dependencies.ensure("sam")
    assert python.pip == [["torchvision>=0.17"]]
    assert "torch==2.7.0" in python.constraints[0]
    assert not python.torch


def test_a_worker_thread_never_installs(python: Python) -> None:
    caught: list[Exception] = []

    def work() -> None:
        try:
            dependencies.ensure("sam")
        except SAMLungSegError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])
    assert not python.questions + python.pip + python.torch


def test_testing_mode_installs_nothing_and_says_so(python: Python, slicer_app: Any) -> None:
    slicer_app.setTestingEnabled(True)
    try:
        with pytest.raises(SAMLungSegError, match=r"scikit-image.*testing mode"):
            dependencies.ensure("phantom")
    finally:
        slicer_app.setTestingEnabled(False)
    assert not python.questions + python.pip


def test_a_failed_installation_is_one_line_that_names_the_packages(python: Python) -> None:
    python.breaks = subprocess.CalledProcessError(1, ["pip"])
    with pytest.raises(SAMLungSegError, match="Installing pandas, scikit-image failed") as caught:
        dependencies.ensure("evaluate")
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is python.breaks


def test_a_pytorch_extension_that_fails_stops_before_pip(python: Python, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**options: Any) -> None:
        raise ValueError("no backend")

    monkeypatch.setattr(python, "installTorch", fail)
    with pytest.raises(SAMLungSegError, match=r"Installing torch failed \(no backend\)"):
        dependencies.ensure("sam")
    assert not python.pip


def inView() -> list[str]:
    """Texts of the messages that the user sees."""
    boxes = [one for one in qt.QApplication.topLevelWidgets() if isinstance(one, qt.QMessageBox)]
    return [box.text for box in boxes if box.visible]


@pytest.mark.parametrize("error", [None, ValueError("no backend")])
def test_a_message_is_in_view_while_pytorch_is_installed_and_not_longer(
    python: Python, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    seen: list[str] = []

    def installTorch(**options: Any) -> None:
        seen.extend(inView())
        assert qt.QApplication.overrideCursor() is not None
        if error is not None:
            raise error
        Python.installTorch(python, **options)

    monkeypatch.setattr(python, "installTorch", installTorch)
    with contextlib.nullcontext() if error is None else pytest.raises(SAMLungSegError):
        dependencies.ensure("sam")
    (message,) = seen
    assert "Installing PyTorch: about 208 MB, or 3008 MB with an NVIDIA graphics card" in message
    assert "some minutes" in message
    assert not inView()
    assert qt.QApplication.overrideCursor() is None


def test_a_message_is_in_view_while_the_older_call_of_pip_installs(
    python: Python, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    monkeypatch.setattr(slicer.util, "pip_install", lambda arguments: seen.extend(inView()))
    with pytest.raises(SAMLungSegError, match="still missing"):
        dependencies.ensure("phantom")
    (message,) = seen
    assert "Installing scikit-image>=0.21" in message
    assert not inView()


def test_an_installation_that_left_something_out_is_reported(python: Python) -> None:
    python.installs = False
    with pytest.raises(SAMLungSegError, match="still missing after the installation: scikit-image"):
        dependencies.ensure("phantom")


def test_an_unknown_feature_is_refused() -> None:
    with pytest.raises(SAMLungSegError, match="no feature 'paint'"):
        dependencies.ensure("paint")


def test_the_versions_agree_with_pyproject() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python before 3.11 reads no TOML")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    required = [Requirement(text) for text in (*project["dependencies"], *extras["sam"], *extras["dicom"])]
    declared = {one.name: str(one.specifier) for one in required if one.marker is None or one.marker.evaluate()}
    ours = dependencies.REQUIREMENTS
    assert ours == {name: declared[name] for name in ours}
    assert declared.keys() - ours.keys() == set(FROM_SLICER) | NOT_USED_IN_SLICER
    assert dependencies.DOWNLOAD_MB.keys() == ours.keys()
