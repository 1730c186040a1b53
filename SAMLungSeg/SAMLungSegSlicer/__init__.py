"""The Slicer side of SAMLungSeg: everything that knows MRML, VTK or Qt."""

from __future__ import annotations

import sys

PACKAGES = ("SAMLungSegSlicer", "SAMLungSegLib")


def forgetImports() -> None:
    """Have the next import of the module's packages read the files again, for the developer's Reload button.

    To be called before ``slicer.util.reloadScriptedModule``, which runs only the module's own script again.
    """
    for name in list(sys.modules):
        if name.partition(".")[0] in PACKAGES:
            del sys.modules[name]
