"""Which network predicts, whether its weights are on this machine, and how they get there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slicer.i18n import tr as _

from SAMLungSegLib.models.registry import MODELS, ModelSpec
from SAMLungSegSlicer.context import Context, setEnabledWithReason, setItemTitles
from SAMLungSegSlicer.jobs import DownloadJob
from SAMLungSegSlicer.runtime import dependencies

if TYPE_CHECKING:
    from SAMLungSegLib.models.checkpoints import Status

STATES = "model states"
DOWNLOAD = "download"


class ModelPanel:
    """The model selector, and the download row, which shows only for a model without good weights."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._states: dict[str, Status] = {}
        ui = context.ui
        ui.downloadButton.connect("clicked(bool)", self.onDownload)
        ui.cancelDownloadButton.connect("clicked(bool)", self.onCancelDownload)

    def enter(self) -> None:
        """Look, in the background, which weights are here; hashing those of other origin takes a while."""
        self._context.worker.submit(_states, channel=STATES, done=self._onStates, failed=self._onNoStates)

    def refresh(self) -> None:
        """Titles, download row."""
        parameters, ui = self._context.parameters, self._context.ui
        setItemTitles(ui.modelSelector, tuple(MODELS), {name: self._title(spec) for name, spec in MODELS.items()})
        if parameters is None:
            return
        spec = MODELS[parameters.model]
        isDownloading = self._context.worker.isBusy(DOWNLOAD)
        ui.modelSelector.toolTip = _("{title}. Licence: {licence}.").format(title=spec.title, licence=spec.licence)
        ui.modelStateLabel.text = spec.title
        ui.modelStateLabel.visible = not isDownloading
        ui.downloadButton.visible = not isDownloading and not spec.is_trained_here
        ui.downloadProgressBar.visible = ui.cancelDownloadButton.visible = isDownloading
        ui.downloadWidget.visible = isDownloading or bool(self.unavailableReason())
        setEnabledWithReason(ui.downloadButton, "", _("Download the weights and verify them (SHA-256)."))

    def unavailableReason(self) -> str:
        """Why the chosen model cannot predict; empty if it can, or if that is not known yet."""
        parameters = self._context.parameters
        spec = MODELS[parameters.model]
        if spec.is_bundled or parameters.customWeights:
            return ""
        state = self._states.get(spec.name)
        if state == "absent" and spec.is_trained_here:
            return _("Give a file with weights for this model; they are not downloaded, but trained.")
        if state == "absent":
            return _("Download the weights of this model first.")
        if state == "wrong hash":
            return _("The weights of this model are damaged; download them again.")
        return ""

    def onDownload(self) -> None:
        """Fetch the weights of the chosen model."""
        context = self._context
        with context.guarded():
            if not dependencies.ensure("sam"):
                return
            job = DownloadJob(context.parameters.model)
            context.ui.downloadProgressBar.setRange(0, 0)
            context.worker.submit(
                job.run,
                channel=DOWNLOAD,
                done=self._onDownloaded,
                failed=self._onDownloadFailed,
                progress=self._onProgress,
                cancelled=self._onDownloadCancelled,
            )
            context.say()
        context.changed()

    def onCancelDownload(self) -> None:
        """Stop the download; what has arrived is kept."""
        self._context.worker.cancel(DOWNLOAD)

    def _onProgress(self, doneBytes: int, totalBytes: int) -> None:
        bar = self._context.ui.downloadProgressBar
        bar.setRange(0, 100)
        bar.setValue(100 * doneBytes // totalBytes if totalBytes else 0)
        bar.setFormat(_("{done} of {total}").format(done=sizeText(doneBytes), total=sizeText(totalBytes)))

    def _onDownloaded(self, _path: object) -> None:
        self._context.say(_("The model is ready."))
        self.enter()
        self._context.changed()

    def _onDownloadFailed(self, error: BaseException) -> None:
        self._context.changed()
        self._context.show(error)

    def _onDownloadCancelled(self) -> None:
        self._context.say(_("The download was stopped; it goes on from there the next time."))
        self._context.changed()

    def _onStates(self, states: dict[str, Status]) -> None:
        self._states = states
        self._context.changed()

    def _onNoStates(self, _error: BaseException) -> None:
        """Packages are not installed yet: every model may be asked for, and the first action installs them."""
        self._states = {}

    def _title(self, spec: ModelSpec) -> str:
        if spec.is_bundled:
            return _("{name} (bundled)").format(name=spec.name)
        if spec.is_trained_here:
            return spec.name
        about = ", ".join(part for part in (sizeText(spec.size_bytes), self._state(spec)) if part)
        return f"{spec.name} ({about})"

    def _state(self, spec: ModelSpec) -> str:
        """In words; empty where it is not known yet."""
        words = {
            "ok": _("ready"),
            "unverified": _("ready"),
            "absent": _("not downloaded"),
            "wrong hash": _("damaged"),
        }
        return words.get(self._states.get(spec.name), "")


def sizeText(sizeBytes: int) -> str:
    """A file size in words: '375 MB', '2.6 GB'."""
    return f"{sizeBytes / 1e9:.1f} GB" if sizeBytes >= 1e9 else f"{sizeBytes / 1e6:.0f} MB"


def _states(_progress: object, _cancelled: object) -> dict[str, Status]:
    from SAMLungSegLib.models.checkpoints import verify

    return {name: verify(spec) for name, spec in MODELS.items()}


def longJobReason(context: Context, channel: str) -> str:
    """Why no job that goes on beside the rest of the panel can begin; empty where one can.

    Args:
        context: of the module.
        channel: of the worker, on which the job's imports run.
    """
    if context.parameters is None:
        return _("The scene is closing.")
    if context.longWorker.isBusy() or context.worker.isBusy(channel):
        return _("Something of this kind is running; wait or cancel it.")
    if context.worker.isBusy(DOWNLOAD):
        return _("A download is running; wait or cancel it.")
    return ""
