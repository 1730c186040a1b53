"""Fixtures for tests on Slicer's real MRML classes: every test starts with a new, empty scene."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import chests
    import slicer
    from bench.application import Application
    from bench.dialogs import Dialogs
    from bench.faults import Faults

    from SAMLungSegSlicer.runtime.worker import InferenceWorker

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
MODULE = REPOSITORY / "SAMLungSeg" / "SAMLungSeg.py"
for _folder in (REPOSITORY, HERE.parent, MODULE.parent):
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))

try:
    importlib.import_module("bench").start()
    imports = importlib.import_module("SAMLungSegSlicer.runtime.imports")
    imports.keepTritonApart()  # tests load models without the module, too
    MISSING = ""
except ImportError as _error:
    MISSING = f"slicer-core and PySide6 are needed ({_error})"


class _Absent(pytest.Module):
    """Stands for a test file that cannot be imported, so that its absence is seen."""

    def collect(self) -> Iterator[pytest.Item]:
        yield pytest.Function.from_parent(self, name="test_slicer_is_absent", callobj=lambda: pytest.skip(MISSING))


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Skips the files of this folder, with a reason, where there is no slicer-core."""
    return _Absent.from_parent(parent, path=module_path) if MISSING else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test of this folder."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("slicer")


@pytest.fixture
def dialogs() -> Dialogs:
    """Answers dialogs in the place of a person (`bench.dialogs.Dialogs`)."""
    from bench.dialogs import dialogs as recorder

    return recorder


@pytest.fixture
def faults() -> Faults:
    """The exceptions of Qt slots and VTK observers (`bench.faults.Faults`)."""
    from bench.faults import faults as collector

    return collector


@pytest.fixture
def worker() -> Iterator[InferenceWorker]:
    """An inference worker that is stopped afterwards."""
    from SAMLungSegSlicer.runtime.worker import InferenceWorker

    worker = InferenceWorker()
    yield worker
    worker.stop()


@pytest.fixture(autouse=True)
def slicer_app(request: pytest.FixtureRequest) -> Iterator[Application | None]:
    """``slicer.app`` with a new, empty scene.

    The test fails at its end where a dialog was opened that it did not expect, an error was displayed that it did not
    take, a slot or observer raised an exception that no dialog told of, or a wait cursor was left on.
    """
    if MISSING:
        yield None
        return
    import bench
    from bench.dialogs import dialogs as recorder
    from bench.faults import faults as collector

    application = bench.start()
    application.reset()
    recorder.reset()
    with collector:
        yield application
        application.processEvents()
    problems = recorder.problems() + collector.untold(recorder.texts)
    collector.take()
    if application.forgetOverrideCursors():
        problems.append("the wait cursor was left on")
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.fixture
def module_window(slicer_app: Application) -> Iterator[Callable[..., Any]]:
    """Opens the module's window (`bench.window.ModuleWindow`); it is closed after the test."""
    from bench.window import ModuleWindow

    opened: list[ModuleWindow] = []

    def open_window(widget_class: type | None = None, module_path: Path = MODULE, **options: Any) -> ModuleWindow:
        if widget_class is None:
            widget_class = importlib.import_module("SAMLungSeg").SAMLungSegWidget
        opened.append(ModuleWindow(widget_class, module_path, **options))
        return opened[-1]

    yield open_window
    for window in opened:
        window.close()


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> chests.DarknessModel:
    """The model that every job gets: it predicts at once."""
    import widgettools

    return widgettools.answer_at_once(monkeypatch)


@pytest.fixture
def nothing_kept() -> Iterator[None]:
    """No model and no image of another test, nor any that is left for the next one."""
    from SAMLungSegSlicer.jobs import releaseMemory

    releaseMemory()
    yield
    releaseMemory()


@pytest.fixture
def chest() -> slicer.vtkMRMLScalarVolumeNode:
    """A small chest CT in the slice views."""
    import chests
    import widgettools

    return widgettools.show(chests.axialChest())


@pytest.fixture
def window(chest: slicer.vtkMRMLScalarVolumeNode, module_window: Callable[..., Any]) -> Any:
    """The module's window with the chest."""
    return module_window(size=(1100, 800))
