"""Adapters: small trained modules in the blocks of an image encoder whose own weights stay as they are.

`base` says what an adapter is and where the encoder calls it, each other file has a method; see docs/adapters.md.
"""

from __future__ import annotations

from SAMLungSegLib.adapters.registry import adapter_class, adapter_from, adapter_names, register_adapter

__all__ = ["adapter_class", "adapter_from", "adapter_names", "register_adapter"]
