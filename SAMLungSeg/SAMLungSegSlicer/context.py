"""What the panels share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import slicer
from slicer.i18n import tr as _

from SAMLungSegLib.errors import LicenceError, SAMLungSegError, is_out_of_memory, memory_advice
from SAMLungSegSlicer.logic import SAMLungSegLogic
from SAMLungSegSlicer.parameters import SAMLungSegParameterNode
from SAMLungSegSlicer.runtime import consent, dependencies
from SAMLungSegSlicer.runtime.imports import importQuietly
from SAMLungSegSlicer.runtime.worker import InferenceWorker

SEGMENT = "segment"
PROPAGATE = "propagate"
_BY_ONNX = ("SAMLungSegLib.models.compact.onnx_loading", "SAMLungSegLib.pipeline", "onnxruntime")
_BY_TORCH = ("torch", "SAMLungSegLib.models.torch_loading", "SAMLungSegLib.pipeline")
EVALUATING = ("SAMLungSegLib.evaluation",)

logger = logging.getLogger(__name__)


class Context:
    """The module as its panels see it.

    Attributes:
        ui: the widgets of the .ui file by name.
        longWorker: for work of minutes to hours, beside which the other worker serves what the user does.
        parameters: the user's choices; None while there is no scene to keep them in.
        changed: to be called when something has changed that decides which buttons can work.
    """

    def __init__(self, ui: Any, logic: SAMLungSegLogic, worker: InferenceWorker, changed: Callable[[], None]) -> None:
        self.ui = ui
        self.logic = logic
        self.worker = worker
        self.longWorker = InferenceWorker()
        self.changed = changed
        self.parameters: SAMLungSegParameterNode | None = None
        self._imported: set[str] = set()

    @property
    def segmenting(self) -> dependencies.Feature:
        """What must be installed: 'sam' where the chosen model or weights need PyTorch, else 'segment'."""
        parameters = self.parameters
        return dependencies.withModel("segment", parameters.model, parameters.customWeights)[-1]

    @property
    def segmentingModules(self) -> tuple[str, ...]:
        """What must be imported once it is installed, for `afterImport`.

        Raises:
            ModelError: it is not installed.
        """
        from SAMLungSegLib.models.engines import chosen_engine
        from SAMLungSegLib.models.registry import model_spec

        engine = chosen_engine(model_spec(self.parameters.model), self.parameters.device)
        return _BY_TORCH if engine == "torch" or self.segmenting == "sam" else _BY_ONNX

    @property
    def needsConsent(self) -> bool:
        """Whether the chosen model has the bundled weights, and their terms are not accepted yet."""
        return consent.isNeeded(self.parameters.model, self.parameters.customWeights)

    def hasConsent(self) -> bool:
        """Whether the chosen model may be used; asks where the bundled weights need it, and says so after a no."""
        if not self.needsConsent or consent.ask():
            return True
        self.say("⚠ " + _("The terms of the bundled weights were not accepted, so nothing was run."))
        return False

    def say(self, text: str = "") -> None:
        """Tell the user `text` in the status line."""
        self.ui.statusLabel.text = text
        self.ui.statusLabel.visible = bool(text)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Errors that a user can act on go to the status line; any other also is shown with its details and raised."""
        with slicer.util.tryWithErrorDisplay(_("The lung segmentation module failed.")):
            try:
                yield
            except SAMLungSegError as error:
                logger.info("%s", error)
                self.say("⚠ " + str(error))
            except Exception as error:
                if is_out_of_memory(error):
                    logger.info("%s", error)
                    self.say("⚠ " + memory_advice(error))
                    return
                self.say("⚠ " + _("That failed: {error}").format(error=error))
                raise

    def show(self, error: BaseException) -> None:
        """Show an error that happened on the worker's thread; where consent was missing, ask for it."""
        self.changed()
        if isinstance(error, LicenceError) and consent.ask():
            self.say(_("The terms are accepted; begin again what has stopped."))
            return
        with self.guarded():
            raise error

    def afterImport(
        self,
        names: tuple[str, ...],
        channel: str,
        action: Callable[[], None],
        *,
        failed: Callable[[BaseException], None] | None = None,
        cancelled: Callable[[], None] | None = None,
    ) -> None:
        """Do `action` once modules are imported: at once, or after some seconds, in which the worker's thread does it.

        Args:
            names: full names of modules.
            channel: of the worker.
            action: its errors are shown.
            failed: gets the error of an import, which is shown where this is not given.
            cancelled: called instead when the channel was cancelled.
        """

        def onImported(_result: object) -> None:
            self._imported.update(names)
            with self.guarded():
                action()
            self.changed()

        if self._imported.issuperset(names):
            action()
            return
        self.worker.submit(
            lambda _progress, isCancelled: importQuietly(names, isCancelled),
            channel=channel,
            done=onImported,
            failed=failed or self.show,
            cancelled=cancelled or self.changed,
        )


def setEnabledWithReason(button: Any, reason: str, tip: str) -> None:
    """Enable a button if there is no reason against it; its tooltip says what it does or why it cannot."""
    button.enabled = not reason
    button.toolTip = reason or tip


def keptParts(pixels: int) -> list[str]:
    """What to say, if anything, where that many pixels of a slice stay as they were painted."""
    if not pixels:
        return []
    return [_("What was painted in it is kept; untick 'Keep edited slices' to replace it.")]


def setItemTitles(combo: Any, choices: tuple[str, ...], titles: dict[str, str]) -> None:
    """Show words in place of the parameter's values; the items stay in the order of `choices`."""
    for index, choice in enumerate(choices):
        combo.setItemText(index, titles.get(choice, choice))


def fitHeight(table: Any) -> None:
    """Make a table as high as its rows, however large the letters are."""
    rows = sum(table.rowHeight(row) for row in range(table.model().rowCount()))
    header, bar = table.horizontalHeader().sizeHint.height(), table.horizontalScrollBar().sizeHint.height()
    table.setFixedHeight(header + rows + bar + 2 * table.frameWidth)
