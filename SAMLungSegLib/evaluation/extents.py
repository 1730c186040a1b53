"""Two labelmaps of lungs on an X-ray as one extent: visible fields, or whole lungs; what the files say is noted."""

from __future__ import annotations

from dataclasses import replace

from SAMLungSegLib.structures import HIDDEN_LUNGS, ExtentChoice
from SAMLungSegLib.volume import Volume

_TITLES: dict[ExtentChoice, str] = {"visible": "visible lung fields", "whole": "whole lungs"}


def with_one_extent(prediction: Volume, reference: Volume) -> tuple[Volume, Volume, list[str]]:
    """Both labelmaps, and notes on which lungs of an X-ray they hold, where one says it.

    One that holds visible fields and hidden parts counts as whole lungs where the other one says that it is of these,
    else as visible fields.
    """
    is_whole = "whole" in (prediction.extent, reference.extent)
    notes = [
        f"The {role} holds visible lung fields and hidden parts: "
        f"{'both count' if is_whole else 'the fields count, hidden parts are left out'}."
        for role, one in (("prediction", prediction), ("reference", reference))
        if one.extent == "both"
    ]
    prediction, reference = (_as_one(one, is_whole) for one in (prediction, reference))
    return prediction, reference, [*notes, *_on_difference(prediction.extent, reference.extent)]


def _as_one(labelmap: Volume, is_whole: bool) -> Volume:
    labels = labelmap.structure_labels
    if labelmap.extent != "both" or labels is None:
        return labelmap
    if is_whole:
        return replace(labelmap, extent="whole")
    hidden = {value for key in HIDDEN_LUNGS.keys for value in labels.get(key, ())}
    fields = {key: tuple(value for value in values if value not in hidden) for key, values in labels.items()}
    return replace(labelmap, extent="visible", structure_labels={key: left for key, left in fields.items() if left})


def _on_difference(prediction: ExtentChoice | None, reference: ExtentChoice | None) -> list[str]:
    if prediction == reference:
        return []
    if prediction and reference:
        return [
            f"The prediction is of {_TITLES[prediction]}, the reference of {_TITLES[reference]}: what lies behind "
            "heart and diaphragm counts as a difference."
        ]
    said, silent = ("prediction", "reference") if prediction else ("reference", "prediction")
    extent = _TITLES[prediction or reference]
    return [f"The {said} is of {extent} on an X-ray; the {silent} does not say whether it is, too."]
