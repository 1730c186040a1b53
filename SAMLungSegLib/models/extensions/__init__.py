"""What a training gives a model beyond weights of its own parts and adapters: more tokens, another head, more masks.

`base` says what an extension is, each other file has one; see docs/adaptation.md.
"""

from __future__ import annotations

from SAMLungSegLib.models.extensions.base import (
    Extension,
    extend,
    extension_from,
    extension_names,
    register_extension,
)

__all__ = ["Extension", "extend", "extension_from", "extension_names", "register_extension"]
