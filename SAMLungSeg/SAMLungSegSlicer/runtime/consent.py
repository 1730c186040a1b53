"""Consent to the terms of the bundled weights: asked once, before they are first used, and kept in Slicer's settings.

Their training data allow research only. Whoever does not agree uses other models.
"""

from __future__ import annotations

import qt
import slicer
from slicer.i18n import tr as _

from SAMLungSegLib.errors import LicenceError
from SAMLungSegLib.models.registry import ModelSpec, model_spec
from SAMLungSegLib.models.terms import ACCEPT_VARIABLE, are_accepted, set_before_use, terms_of

SETTING = "SAMLungSeg/AcceptedTerms"
BUNDLED = "lung-compact"


def isNeeded(model: str = BUNDLED, weights: object = None) -> bool:
    """Whether a model can only be used after consent that is not given yet.

    Args:
        model: a name of the registry.
        weights: of the user's, in place of the model's own; those that need the bundled ones beneath are noticed when
            they are loaded.
    Raises:
        ModelError: there is no such model.
    """
    return model_spec(model).is_bundled and not weights and not _isGiven()


def give() -> None:
    """Remember that the user accepts the terms, as they are now."""
    qt.QSettings().setValue(SETTING, _terms())


def ask() -> bool:
    """Ask the user, on the main thread, and remember a yes; in testing mode nobody is asked, and the answer is no."""
    if not _isGiven() and not slicer.app.testingEnabled() and _isAgreed():
        give()
    return _isGiven()


def require(model: str = BUNDLED, weights: object = None) -> None:
    """Refuse what needs consent that is not given; from any thread, and nobody is asked.

    Raises:
        LicenceError: it is needed; the message says how to give it.
        ModelError: there is no such model.
    """
    if isNeeded(model, weights):
        raise LicenceError(
            f"{_terms()} They were not accepted: press 'Segment volume' in the module SAMLungSeg, which asks, or call "
            f"SAMLungSegLogic().acceptWeightsLicence(), or set {ACCEPT_VARIABLE}=1; or choose another model."
        )


def _isGiven() -> bool:
    return are_accepted() or qt.QSettings().value(SETTING) == _terms()


def _isAgreed() -> bool:
    text = _(
        "{terms}\n\nNot a medical device, not for diagnosis or treatment. For other uses choose another model, such as "
        "SAM (Apache-2.0).\n\nDo you accept these terms? You are asked once."
    )
    return bool(slicer.util.confirmOkCancelDisplay(text.format(terms=_terms()), _("SAMLungSeg: bundled weights")))


def _terms() -> str:
    return terms_of(model_spec(BUNDLED))


def _refuse(spec: ModelSpec) -> None:
    require(spec.name)


set_before_use(_refuse)
