"""Processes that tests kill."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext

# Not the modules of the tests: the server does not know their folder.
IMPORTED_BEFORE = ["pytest", "pydicom", "safetensors.torch", "SAMLungSegLib.batch", "SAMLungSegLib.models.cached"]


def ready_processes() -> ForkServerContext:
    """Makes processes that have imported what they need: only the first one takes seconds to begin.

    All tests share one server, and what the first of them asks it to import is all that it imports.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED_BEFORE)
    return context
