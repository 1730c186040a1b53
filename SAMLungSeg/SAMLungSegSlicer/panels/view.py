"""The slice view whose slice is segmented and previewed."""

from __future__ import annotations

import re

from slicer.i18n import tr as _

from SAMLungSegSlicer.context import Context
from SAMLungSegSlicer.parameters import viewNames


class ViewPanel:
    """Offers the slice views of the scene, whichever layouts have made them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        context.ui.viewSelector.connect("activated(int)", self.onChoose)

    def refresh(self) -> None:
        """List the views, and show which one is chosen."""
        parameters, selector = self._context.parameters, self._context.ui.viewSelector
        if parameters is None:
            return
        names = list(dict.fromkeys([*viewNames(), parameters.sliceView]))  # a view that has gone stays chosen
        if names != [selector.itemData(index) for index in range(selector.count)]:
            selector.clear()
            for name in names:
                selector.addItem(viewTitle(name), name)
        selector.setCurrentIndex(names.index(parameters.sliceView))

    def onChoose(self, index: int) -> None:
        """Work in another view."""
        if self._context.parameters is not None:
            self._context.parameters.sliceView = self._context.ui.viewSelector.itemData(index)


def viewTitle(name: str) -> str:
    """What a person reads in place of the layout name of a slice view: 'Compare 2' for 'Compare2'."""
    standard = {"Red": _("Red"), "Green": _("Green"), "Yellow": _("Yellow")}
    return standard.get(name) or re.sub(r"(?<=[^\d\s])(?=\d+$)", " ", name)
