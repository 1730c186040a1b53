"""Settings that had other names once: files and options of users keep working, and a training stays the same one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger(__name__)

NAMES = {
    "asked": "prompt_prob",
    "averaging": "ema_decay",
    "corrected": "correction_prob",
    "decoder_share": "decoder_lr_scale",
    "shares": "sampling_weights",
}
VALUES = {"loss": {"correct": "sigmoid", "paper": "raw_logits"}}
_EARLIER_NAMES = {new: old for old, new in NAMES.items()}
_EARLIER_VALUES = {name: {new: old for old, new in values.items()} for name, values in VALUES.items()}


def in_todays_names(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Settings as a user gave them, by the names that they have now; a note says which had another one.

    Args:
        settings: with names of today or of before; where both are given, the earlier one stays as it is.
        where: they were given, for the note.
    """
    old = [name for name in settings if name in NAMES and NAMES[name] not in settings]
    if old:
        renamed = ", ".join(f"{name} is {NAMES[name]}" for name in old)
        logger.warning("%s has settings by earlier names, which are read as before: now %s.", where, renamed)
    return {NAMES[name] if name in old else name: value for name, value in settings.items()}


def todays_value(setting: str, value: str) -> str:
    """The value of a setting by the name that it has now."""
    return VALUES[setting].get(value, value)


def in_earlier_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as earlier versions wrote them, for the fingerprints of runs that these began."""
    return {
        _EARLIER_NAMES.get(name, name): _EARLIER_VALUES[name].get(value, value) if name in _EARLIER_VALUES else value
        for name, value in settings.items()
    }
