"""Settings that most users leave alone."""

from __future__ import annotations

from slicer.i18n import tr as _

from SAMLungSegSlicer.context import Context, setItemTitles
from SAMLungSegSlicer.parameters import DEVICES, EXTENTS, LUNGS, MODALITIES, WINDOWS, offersExtents


class AdvancedPanel:
    """Words for the choices, the custom window, the path of the user's own weights."""

    def __init__(self, context: Context) -> None:
        self._context = context
        context.ui.weightsPathLineEdit.connect("currentPathChanged(QString)", self._onWeights)

    def refresh(self) -> None:
        """Show what the parameters say."""
        parameters, ui = self._context.parameters, self._context.ui
        setItemTitles(ui.lungsSelector, LUNGS, {"both": _("both"), "right": _("right"), "left": _("left")})
        setItemTitles(ui.extentSelector, EXTENTS, _extentTitles())
        setItemTitles(ui.modalitySelector, MODALITIES, {"auto": _("automatic"), "XRAY": _("X-ray")})
        setItemTitles(
            ui.deviceSelector, DEVICES, {"auto": _("automatic"), "cpu": "CPU", "cuda": "CUDA", "mps": "Apple MPS"}
        )
        setItemTitles(ui.windowSelector, WINDOWS, _windowTitles())
        if parameters is None:
            return
        ui.extentSelector.visible = ui.extentLabel.visible = offersExtents(parameters)
        isCustom = parameters.window == "custom"
        ui.customWindow.visible = ui.customWindowLabel.visible = isCustom
        ui.windowSelector.enabled = parameters.modality != "XRAY"
        if ui.weightsPathLineEdit.currentPath != parameters.customWeights:
            ui.weightsPathLineEdit.currentPath = parameters.customWeights

    def _onWeights(self, path: str) -> None:
        if self._context.parameters is not None:
            self._context.parameters.customWeights = path.strip()


def _extentTitles() -> dict[str, str]:
    return {"visible": _("visible fields"), "whole": _("whole lungs"), "both": _("fields, and what is hidden")}


def _windowTitles() -> dict[str, str]:
    return {
        "lung": _("lung (1500 / -600 HU)"),
        "lung-zero-shot": _("lung of the zero-shot study (1500 / -650 HU)"),
        "mediastinum": _("mediastinum (400 / 40 HU)"),
        "bone": _("bone (1800 / 400 HU)"),
        "custom": _("custom"),
    }
