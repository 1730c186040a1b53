"""'Tune on my corrections': from accepted slices, in the background, taken only where held-out slices get better."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import qt
import slicer
from slicer.i18n import tr as _

from SAMLungSegSlicer.context import Context, setEnabledWithReason
from SAMLungSegSlicer.jobs import TuneJob
from SAMLungSegSlicer.jobs.tuning import FEWEST_SLICES, Accepted, acceptedKey, acceptedLungs, countAccepted
from SAMLungSegSlicer.panels.model import ModelPanel, longJobReason
from SAMLungSegSlicer.parameters import settingsOf
from SAMLungSegSlicer.runtime import dependencies

if TYPE_CHECKING:
    from SAMLungSegLib.training import TuneResult

CHANNEL, COUNTING = "tune", "count accepted"
_MODULES = ("torch", "pandas", "matplotlib.pyplot", "SAMLungSegLib.training.fine_tune", "SAMLungSegLib.models")


class TuningPanel:
    """Counts while the section is open; one button to tune, one question where to keep what is better."""

    def __init__(self, context: Context, model: ModelPanel) -> None:
        self._context = context
        self._model = model
        self._counted: tuple[tuple, Accepted] | None = None
        ui = context.ui
        ui.tuneButton.connect("clicked(bool)", self.onTune)
        ui.tuneCancelButton.connect("clicked(bool)", self.onCancel)
        ui.tuneCollapsibleButton.connect("contentsCollapsed(bool)", self._onCollapsed)

    def refresh(self) -> None:
        """Count anew if something has changed, and say what can be done."""
        ui, context = self._context.ui, self._context
        self._count()
        isBusy = context.longWorker.isBusy(CHANNEL) or context.worker.isBusy(CHANNEL)
        setEnabledWithReason(
            ui.tuneButton,
            self._unavailableReason(),
            _("Tune the chosen model on these slices; it is taken only if slices that it did not see get better."),
        )
        setEnabledWithReason(
            ui.tuneCancelButton, "" if isBusy else _("No tuning is running."), _("Stop; nothing is kept.")
        )
        ui.tuneProgressBar.visible = isBusy
        ui.tuneCountLabel.text = self._countWords()

    def onTune(self) -> None:
        """Tune, in the background; installs PyTorch after a question where it is missing."""
        context = self._context
        with context.guarded():
            if not context.hasConsent():
                return
            if not dependencies.ensure("tune"):
                return
            self._say(_("Starting..."))
            context.ui.tuneProgressBar.setRange(0, 0)
            context.afterImport(_MODULES, CHANNEL, self._submit, cancelled=self._onCancelled)
        context.changed()

    def onCancel(self) -> None:
        """Stop after the step that is under way."""
        self._say(_("Stopping..."))
        self._context.worker.cancel(CHANNEL)
        self._context.longWorker.cancel(CHANNEL)

    def _unavailableReason(self) -> str:
        context = self._context
        if reason := longJobReason(context, CHANNEL):
            return reason
        if self._counted is None:
            return _("The accepted slices are being counted.")
        count = self._counted[1].slices
        if count < FEWEST_SLICES:
            return _("{count} slices are accepted; tuning needs at least {fewest}: accept, lock or paint more.").format(
                count=count, fewest=FEWEST_SLICES
            )
        return self._model.unavailableReason()

    # ---- how many slices there are

    def _onCollapsed(self, _isCollapsed: bool) -> None:
        self._context.changed()

    def _count(self) -> None:
        context = self._context
        if context.parameters is None or context.ui.tuneCollapsibleButton.collapsed or slicer.mrmlScene.IsClosing():
            return
        key = acceptedKey()
        if (self._counted and self._counted[0] == key) or context.worker.isBusy(COUNTING):
            return
        lungs = acceptedLungs()
        if not lungs:
            self._counted = key, Accepted(0, 0)
            return
        context.worker.submit(
            lambda _progress, _cancelled: countAccepted(lungs),
            channel=COUNTING,
            done=partial(self._onCounted, key),
            background=True,
        )

    def _onCounted(self, key: tuple, accepted: Accepted) -> None:
        self._counted = key, accepted
        self._context.changed()

    def _countWords(self) -> str:
        if self._counted is None:
            return _("Slices that you accept, lock or paint are what is learned from.")
        slices, volumes = self._counted[1]
        said = _("Accepted slices: {slices}, of volumes: {volumes}.").format(slices=slices, volumes=volumes)
        if slices >= FEWEST_SLICES and volumes < FEWEST_SLICES:
            said += " " + _(
                "With fewer than {fewest} volumes, slices are held out of the same volumes: the verdict is for these, "
                "not for new patients."
            ).format(fewest=FEWEST_SLICES)
        return said

    # ---- tuning

    def _submit(self) -> None:
        context = self._context
        if context.parameters is None:
            return
        job = TuneJob(acceptedLungs(), settingsOf(context.parameters))
        context.longWorker.submit(
            job.run,
            channel=CHANNEL,
            done=partial(self._finish, job),
            failed=partial(self._onFailed, job),
            progress=self._onProgress,
            cancelled=partial(self._onCancelled, job),
        )

    def _onProgress(self, done: int, total: int) -> None:
        bar = self._context.ui.tuneProgressBar
        bar.setRange(0, total)
        bar.setValue(done)
        bar.setFormat(_("Epoch {done}, at most {total}").format(done=done, total=total))
        self._say(_("The rest of Slicer can be used meanwhile."))

    def _finish(self, job: TuneJob, result: TuneResult) -> None:
        try:
            with self._context.guarded():
                self._say(self._verdict(job, result))
        finally:
            job.discard()
        self._context.changed()

    def _verdict(self, job: TuneJob, result: TuneResult) -> str:
        held = _("Held-out slices: {comparison}.").format(comparison=result.comparison.to_text())
        if result.weights is None:
            return held + " " + _("Not better, so nothing is kept.")
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Keep the tuned weights in"))
        if not folder:
            return held + " " + _("It is better, and was not kept, as you wished.")
        path = job.keep(result, Path(folder))
        if self._context.parameters is not None:
            self._context.parameters.customWeights = str(path)
        return held + " " + _("Kept and in use: {path}. Weights are chosen under Advanced.").format(path=path)

    def _onFailed(self, job: TuneJob, error: BaseException) -> None:
        job.discard()
        self._say()
        self._context.show(error)

    def _onCancelled(self, job: TuneJob | None = None) -> None:
        if job is not None:
            job.discard()
        self._say(_("Stopped; nothing is kept."))
        self._context.changed()

    def _say(self, text: str = "") -> None:
        self._context.ui.tuneLabel.text = text
        self._context.ui.tuneLabel.visible = bool(text)
