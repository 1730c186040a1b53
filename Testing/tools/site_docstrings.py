"""Docstrings as the API reference needs them: griffe tells a section by the empty line before it."""

from __future__ import annotations

import re
from typing import Any

import griffe

SECTION_AFTER_TEXT = re.compile(r"(?<=[^\n])\n(?=(?:Args|Attributes|Raises|Returns|Yields):\n)")


class SeparatedSections(griffe.Extension):
    """Puts an empty line before each section of a docstring that has none."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = separated_sections(obj.docstring.value)


def separated_sections(text: str) -> str:
    """A docstring without its indentation, with an empty line before each of its sections."""
    return SECTION_AFTER_TEXT.sub("\n\n", text)
