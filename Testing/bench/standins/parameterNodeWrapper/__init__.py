"""Stand-in for ``slicer.parameterNodeWrapper``: typed parameters in a node of the scene, bound to widgets.

Types: MRML nodes and unions of them, int, float, str, bool, pathlib.Path, enums and Optional of these. Others (lists,
dicts, parameter packs) are refused.
"""

from __future__ import annotations

from slicer.parameterNodeWrapper.annotations import (
    Choice,
    Decimals,
    Default,
    Exclude,
    IsInstance,
    Maximum,
    Minimum,
    NotNone,
    SingleStep,
    Validator,
    WithinRange,
)
from slicer.parameterNodeWrapper.connectors import GuiConnector, createGuiConnector, parameterNodeGuiConnector
from slicer.parameterNodeWrapper.wrapper import (
    SlicerParameterNamePropertyName,
    findChildWidgetForParameter,
    isParameterNodeWrapper,
    parameterNodeWrapper,
)

__all__ = [
    "Choice",
    "Decimals",
    "Default",
    "Exclude",
    "GuiConnector",
    "IsInstance",
    "Maximum",
    "Minimum",
    "NotNone",
    "SingleStep",
    "SlicerParameterNamePropertyName",
    "Validator",
    "WithinRange",
    "createGuiConnector",
    "findChildWidgetForParameter",
    "isParameterNodeWrapper",
    "parameterNodeGuiConnector",
    "parameterNodeWrapper",
]
