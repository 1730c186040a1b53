"""Python packages that Slicer does not bring: what is missing, how large it is, one question, the installation.

PyTorch is needed for SAM's models only. It comes by Slicer's PyTorch extension, which picks the build that suits the
computer, the rest by pip. What Slicer brings itself (numpy, scipy, SimpleITK, pydicom) is never asked for, and a
constraints file keeps pip from replacing it.
"""

from __future__ import annotations

import importlib
import logging
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import slicer
from slicer.i18n import tr as _

from SAMLungSegLib.errors import SAMLungSegError

Feature = Literal["segment", "sam", "batch", "evaluate", "measure", "phantom", "tune", "dicom"]

REQUIREMENTS = {
    "onnxruntime": ">=1.18",
    "torch": ">=2.2",
    "torchvision": ">=0.17",
    "segment-anything": ">=1.0",
    "scikit-image": ">=0.21",
    "safetensors": ">=0.4",
    "pandas": ">=2.0",
    "matplotlib": ">=3.7",
    "platformdirs": ">=3.0",
    "filelock": ">=3.12",
    "highdicom": ">=0.25",
}
DOWNLOAD_MB = {  # with what each needs itself and Slicer lacks
    "onnxruntime": 25,
    "torch": 200,
    "torchvision": 8,
    "segment-anything": 1,
    "scikit-image": 17,
    "safetensors": 1,
    "pandas": 13,
    "matplotlib": 16,
    "platformdirs": 1,
    "filelock": 1,
    "highdicom": 4,
}
TORCH_MB_WITH_CUDA = 3000
NEVER_REPLACED = ("numpy", "scipy", "SimpleITK", "pydicom", "torch", "torchvision")

_TORCH = ("torch", "torchvision", "segment-anything")
_INFERENCE = ("onnxruntime", "scikit-image", "safetensors", "platformdirs", "filelock")
_FEATURES: dict[Feature, tuple[str, ...]] = {
    "segment": _INFERENCE,
    "sam": (*_TORCH, *_INFERENCE),
    "batch": (*_INFERENCE, "pandas", "matplotlib"),
    "evaluate": ("pandas", "scikit-image"),
    "measure": ("scikit-image",),
    "phantom": ("scikit-image",),
    "tune": (*_TORCH, *_INFERENCE, "pandas", "matplotlib"),
    "dicom": ("highdicom",),  # segmentations as files; RT Structure Sets need pydicom alone
}

logger = logging.getLogger(__name__)


def withModel(feature: Feature, model: str, weights: Path | str | None = None) -> tuple[Feature, ...]:
    """A feature, and 'sam' as well where PyTorch is needed for the model or for a file of weights.

    Raises:
        ModelError: there is no such model.
    """
    from SAMLungSegLib.models.engines import needs_torch

    return (feature, "sam") if needs_torch(model, weights) else (feature,)


def missing(*features: Feature) -> list[str]:
    """Names of the packages that features need and that are absent or too old.

    Where PyTorch is installed already, it runs what ONNX Runtime would.

    Raises:
        SAMLungSegError: there is no such feature.
    """
    for feature in features:
        if feature not in _FEATURES:
            raise SAMLungSegError(f"There is no feature {feature!r}; choose one of {', '.join(_FEATURES)}.")
    names = dict.fromkeys(name for feature in features for name in _FEATURES[feature])
    if all(map(_isSatisfied, _TORCH)):
        names.pop("onnxruntime", None)
    return [name for name in names if not _isSatisfied(name)]


def ensure(*features: Feature) -> bool:
    """Install what features need, after one question that says what and how large.

    To be called on the main thread, in the handler of the action that needs the packages, before importing them.

    Returns:
        True when everything is there; False when the user declined, and then nothing has changed.
    Raises:
        SAMLungSegError: not on the main thread, the PyTorch extension is missing, or the installation failed.
    """
    if threading.current_thread() is not threading.main_thread():
        raise SAMLungSegError("Packages were to be installed in a worker thread; call ensure() on the main thread.")
    names = missing(*features)
    if not names:
        return True
    if slicer.app.testingEnabled():
        raise SAMLungSegError(f"Python packages are missing ({', '.join(names)}); none is installed in testing mode.")
    torchLogic = _torchLogic() if "torch" in names else None
    if not slicer.util.confirmOkCancelDisplay(_question(names), _("SAMLungSeg: Python packages")):
        return False
    if torchLogic is not None:
        _installTorch(torchLogic)
    _installByPip(missing(*features))
    _checkInstalled(features)
    return True


def _isSatisfied(name: str) -> bool:
    from packaging.specifiers import SpecifierSet

    version = _installedVersion(name)
    return version is not None and SpecifierSet(REQUIREMENTS[name]).contains(version, prereleases=True)


def _installedVersion(name: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _question(names: list[str]) -> str:
    lines = [_("- {name}: about {size} MB").format(name=name, size=DOWNLOAD_MB[name]) for name in names]
    total = sum(DOWNLOAD_MB[name] for name in names)
    together = _("Together about {total} MB are downloaded once.").format(total=total)
    if "torch" in names:
        cuda = total - DOWNLOAD_MB["torch"] + TORCH_MB_WITH_CUDA
        together += " " + _("With an NVIDIA graphics card it is about {total} MB.").format(total=cuda)
    return "\n".join(
        [
            _("Python packages that Slicer does not have are needed:"),
            "",
            *lines,
            "",
            together,
            _("This can take some minutes. What Slicer has is not replaced. Install them now?"),
        ]
    )


def _torchLogic() -> Any:
    version = _installedVersion("torch")
    if version is not None:
        raise SAMLungSegError(
            f"PyTorch {version} is too old, torch{REQUIREMENTS['torch']} is needed; uninstall it in the module "
            "PyTorch Utils, restart Slicer and try again."
        )
    try:
        import PyTorchUtils
    except ImportError as error:
        raise SAMLungSegError(
            "PyTorch is needed and Slicer's extension 'PyTorch' is not there; install it in the Extensions Manager, "
            "restart Slicer and try again."
        ) from error
    return PyTorchUtils.PyTorchUtilsLogic()


def _installTorch(torchLogic: Any) -> None:
    size = DOWNLOAD_MB["torch"] + DOWNLOAD_MB["torchvision"]
    text = _("Installing PyTorch: about {size} MB, or {cuda} MB with an NVIDIA graphics card.")
    try:
        with _shown(text.format(size=size, cuda=size - DOWNLOAD_MB["torch"] + TORCH_MB_WITH_CUDA)):
            torchLogic.installTorch(askConfirmation=False, torchVersionRequirement=REQUIREMENTS["torch"])
    except Exception as error:  # what another extension raises is not known
        raise _failure("torch", error) from error
    importlib.invalidate_caches()


def _installByPip(names: list[str]) -> None:
    if not names:
        return
    requirements = [name + REQUIREMENTS[name] for name in names]
    logger.info("Installing %s", ", ".join(requirements))
    with tempfile.TemporaryDirectory(prefix="SAMLungSeg-") as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("\n".join(_constraints(names)), encoding="utf-8")
        try:
            _pip(requirements, constraints)
        except Exception as error:  # CalledProcessError, or whatever else the application makes of it
            raise _failure(", ".join(names), error) from error
    importlib.invalidate_caches()


def _pip(requirements: list[str], constraints: Path) -> None:
    """In view, either by `pip_ensure` itself or by a message."""
    try:
        from slicer.packaging import pip_ensure
    except ImportError:  # before Slicer 5.11
        with _shown(_("Installing {names}.").format(names=", ".join(requirements))):
            slicer.util.pip_install([*requirements, "--constraint", str(constraints)])
        return
    pip_ensure(requirements, constraints=constraints, prompt_install=False, requester="SAMLungSeg")


@contextmanager
def _shown(text: str) -> Iterator[None]:
    """A message in view as long as an installation blocks the window."""
    patience = _("This can take some minutes, in which Slicer does not respond.")
    with slicer.util.MessageDialog(f"{text}\n{patience}"), slicer.util.WaitCursor():
        yield


def _constraints(names: list[str]) -> list[str]:
    versions = {name: _installedVersion(name) for name in NEVER_REPLACED if name not in names}
    return [f"{name}=={version}" for name, version in versions.items() if version is not None]


def _checkInstalled(features: tuple[Feature, ...]) -> None:
    names = missing(*features)
    if names:
        raise SAMLungSegError(
            f"These packages are still missing after the installation: {', '.join(names)}; look for the reason in "
            "Slicer's Python console, then restart Slicer and try again."
        )


def _failure(names: str, error: Exception) -> SAMLungSegError:
    return SAMLungSegError(
        f"Installing {names} failed ({error}); check the network connection and the messages in Slicer's Python "
        "console, then try again."
    )
