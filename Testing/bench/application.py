"""``slicer.app`` for the test bench, on the real MRML scene and module logics."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

from bench import qtlayer

TESTING = Path(__file__).resolve().parents[1]
STANDINS = Path(__file__).resolve().parent / "standins"
SLICER_PYTHON_DIR = "SLICER_PYTHON_DIR"
ACCEPT_VARIABLE = "SAMLUNGSEG_ACCEPT_WEIGHTS_LICENCE"  # nobody sits at the bench who could be asked

_application: Application | None = None


def start() -> Application:
    """Makes ``import slicer``, ``qt`` and ``ctk`` work as in Slicer's Python; the same application at every call.

    With the environment variable ``SLICER_PYTHON_DIR`` set to a genuine ``Base/Python/slicer`` folder, Slicer's own
    ScriptedLoadableModule, parameterNodeWrapper, i18n and packaging are used; otherwise the bench's stand-ins.

    Raises:
        ImportError: slicer-core or PySide6 is not installed.
    """
    global _application
    if _application is None:
        os.environ.setdefault(ACCEPT_VARIABLE, "1")
        qt_application = qtlayer.install()
        slicer = _import_slicer()
        slicer.__path__.append(os.environ.get(SLICER_PYTHON_DIR) or str(STANDINS))
        importlib.import_module("bench.qtlayer.mrml").publish()
        _application = Application(qt_application)
        slicer.app = _application
        _application.reset()
    return _application


def _import_slicer() -> types.ModuleType:
    # slicer-core imports every module of every folder called 'slicer' on the path: not those of our own tests.
    path = list(sys.path)
    sys.path[:] = [folder for folder in path if Path(folder).resolve() != TESTING]
    try:
        slicer = importlib.import_module("slicer")
        importlib.import_module("slicer.util")
    finally:
        sys.path[:] = path
    return slicer


class ModuleSelector:
    """The part of qSlicerModuleSelectorToolBar that `slicer.util.selectModule` uses; nothing but the choice is kept.

    Attributes:
        selectedModule: name of the module that was chosen last.
    """

    def __init__(self, modules: Any) -> None:
        self._modules, self.selectedModule = modules, ""

    def selectModule(self, name: str) -> None:
        """Chooses a module.

        Raises:
            ValueError: there is no such module.
        """
        if self._modules.module(name) is None:
            raise ValueError(f"the application has no module {name!r}")
        self.selectedModule = name


class Application:
    """The part of qSlicerApplication that scripted modules use."""

    applicationName = mainApplicationName = "Slicer"
    majorVersion, minorVersion, revision = 5, 12, "bench"
    documentationBaseUrl = "https://slicer.readthedocs.io/"

    def __init__(self, qt_application: Any) -> None:
        from bench.iomanager import IOManager
        from bench.modules import ModuleManager, SignalTable

        self.qt = qt_application
        self._folder = tempfile.TemporaryDirectory(prefix="slicer-bench-")
        self.temporaryPath = self.slicerHome = self._folder.name
        self._signals = SignalTable()
        self._ioManager = IOManager(self)
        self._keepSettingsAside()
        self._moduleManager = ModuleManager()
        self._scene = self._layoutManager = self._mainWindow = None

    def _keepSettingsAside(self) -> None:
        """The user's own settings are neither read nor changed."""
        from PySide6.QtCore import QSettings

        self.qt.setOrganizationName("bench")
        QSettings.setDefaultFormat(QSettings.Format.IniFormat)
        QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, self.temporaryPath)

    def reset(self) -> None:
        """A new, empty scene, with logics, modules, views and signals of its own."""
        import slicer

        from bench import scene
        from bench.layout import LayoutManager
        from bench.modules import Module, ModuleManager, SignalTable

        self._closeViews()
        self._testing = False
        self.settings().clear()
        if self._scene is not None:
            scene.abandon(self._scene)
        self._signals = SignalTable()
        self._moduleManager = ModuleManager()
        self._scene, self._logic = scene.create(self.temporaryPath)
        self._remote = scene.enable_bundles(self._scene, self._logic, self.temporaryPath)
        slicer.mrmlScene = self._scene
        for name, logic in scene.create_logics(self._scene, self._logic).items():
            self._moduleManager.add(Module(name, logic))
        self._layoutManager = LayoutManager(self._logic, self._scene)
        self._publish_modules()

    def _publish_modules(self) -> None:
        import slicer

        for attribute in ("modules", "moduleNames"):
            module = types.ModuleType(f"slicer.{attribute}")
            sys.modules[module.__name__] = module
            setattr(slicer, attribute, module)
        for module in self._moduleManager.all():
            self.publish_module(module)

    def publish_module(self, module: Any) -> None:
        """Adds a module to ``slicer.modules``."""
        import slicer

        self._moduleManager.add(module)
        setattr(slicer.modules, module.name.lower(), module)
        setattr(slicer.moduleNames, module.name, module.name)

    def mrmlScene(self) -> Any:
        return self._scene

    def applicationLogic(self) -> Any:
        return self._logic

    def coreIOManager(self) -> Any:
        return self._ioManager

    ioManager = coreIOManager

    def moduleManager(self) -> Any:
        return self._moduleManager

    def moduleLogic(self, name: str) -> Any:
        return self._moduleManager.module(name).logic()

    def _closeViews(self) -> None:
        if self._layoutManager is not None:
            self._layoutManager.close()
        if self._mainWindow is not None:
            self._mainWindow.delete()
        self._layoutManager = self._mainWindow = None

    def layoutManager(self) -> Any:
        """The slice views."""
        return self._layoutManager

    def mainWindow(self) -> Any:
        """The application's window, which `slicer.util.mainWindow()` finds; made when first asked for."""
        import qt

        if self._mainWindow is None:
            self._mainWindow = qt.QMainWindow()
            self._mainWindow.name = "qSlicerMainWindow"
            selector = ModuleSelector(self._moduleManager)
            self._mainWindow.moduleSelector = lambda: selector
        return self._mainWindow

    def topLevelWidgets(self) -> list:
        return [self.mainWindow(), *self.qt.topLevelWidgets()]

    def finishStartup(self) -> None:
        """Tells the modules, as the application does when all of them are loaded."""
        self._signals.emit("startupCompleted()")

    def connect(self, signal: str, slot: Any) -> bool:
        return self._signals.connect(signal, slot)

    def disconnect(self, signal: str, slot: Any) -> bool:
        return self._signals.disconnect(signal, slot)

    def connections(self) -> list[tuple[str, Any]]:
        """The slots of the application and of its module manager, with their signals."""
        return self._signals.connected() + self._moduleManager.connected()

    def testingEnabled(self) -> bool:
        """False, as for a person; `setTestingEnabled` makes it as with Slicer's --testing."""
        return self._testing

    def setTestingEnabled(self, enabled: bool) -> None:
        self._testing = enabled

    def processEvents(self, *arguments: Any) -> None:
        self.qt.processEvents()

    def pauseRender(self) -> None:
        """Views of the bench draw only when painted."""

    def resumeRender(self) -> None:
        """See `pauseRender`."""

    def setOverrideCursor(self, cursor: Any) -> None:
        import qt

        self.qt.setOverrideCursor(qt.QCursor(cursor))

    def restoreOverrideCursor(self) -> None:
        self.qt.restoreOverrideCursor()

    def forgetOverrideCursors(self) -> bool:
        """Restores every cursor that was left; whether there was any."""
        left = self.qt.overrideCursor() is not None
        while self.qt.overrideCursor() is not None:
            self.qt.restoreOverrideCursor()
        return left

    def translate(self, context: str, text: str, *arguments: Any) -> str:
        return text

    def moduleDocumentationUrl(self, moduleName: str) -> str:
        return f"{self.documentationBaseUrl}en/latest/user_guide/modules/{moduleName.lower()}.html"

    def settings(self) -> Any:
        import qt

        return qt.QSettings()

    userSettings = settings
