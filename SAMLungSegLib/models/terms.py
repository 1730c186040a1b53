"""The terms of the bundled weights, and what a program does before it first reads them.

The command line says them once, 3D Slicer asks for consent; the library by itself does neither.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from SAMLungSegLib.models.registry import ModelSpec

ACCEPT_VARIABLE = "SAMLUNGSEG_ACCEPT_WEIGHTS_LICENCE"

Action = Callable[[ModelSpec], None]

_action: Action | None = None


def terms_of(spec: ModelSpec) -> str:
    """One sentence that says on which terms the weights of `spec` may be used."""
    return f"The bundled weights of {spec.name} are licensed under {spec.licence}."


def are_accepted() -> bool:
    """Whether the environment says so, by SAMLUNGSEG_ACCEPT_WEIGHTS_LICENCE=1."""
    return os.environ.get(ACCEPT_VARIABLE) == "1"


def set_before_use(action: Action | None) -> Action | None:
    """Have `action` called before bundled weights are read in this process; None for nothing.

    It is called on the thread that loads the model, as long as the environment does not accept the terms. What it
    raises keeps the weights from being read.

    Returns:
        What was called until now, to be put back.
    """
    global _action
    previous, _action = _action, action
    return previous


def before_use(spec: ModelSpec) -> None:
    """To be called before the weights of `spec` are read.

    Raises:
        LicenceError: the program wants consent, and there is none.
    """
    if _action is not None and spec.is_bundled and not are_accepted():
        _action(spec)
