"""Importing large packages in a thread without the window noticing."""

from __future__ import annotations

import ctypes
import gc
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_TORCH_LIBRARIES = ("libtorch_cuda.so", "libtorch_cpu.so", "libtorch_cpu.dylib")


def importQuietly(names: tuple[str, ...], isCancelled: Callable[[], bool] = lambda: False) -> None:
    """Import modules on any thread, holding the interpreter lock for short moments only.

    A plain import of PyTorch holds it for about half a second three times: while its libraries are loaded, and twice
    while garbage is looked for among half a million new objects.

    Args:
        names: full names of modules, 'torch' among them where others import it.
        isCancelled: asked before each.
    """
    with _withoutCollection():
        if "torch" in names:
            keepTritonApart()
            _loadTorchLibraries()
        for name in names:
            if isCancelled():
                return
            importlib.import_module(name)


@cache
def keepTritonApart() -> None:
    """Load triton's library, where PyTorch brought one, bound to its own symbols first.

    Mesa's OpenGL drivers make their LLVM visible to every library that is loaded later. Triton's own LLVM would mix
    with it, and importing triton, which torchvision does, would end Slicer.
    """
    if sys.platform != "linux" or "triton" in sys.modules:
        return
    spec = importlib.util.find_spec("triton")
    library = Path(spec.origin).parent / "_C" / "libtriton.so" if spec is not None and spec.origin else None
    if library is not None and library.is_file():
        ctypes.CDLL(str(library), mode=os.RTLD_NOW | os.RTLD_DEEPBIND)


@contextmanager
def _withoutCollection() -> Iterator[None]:
    """Count what the block makes as old objects, which are looked through for garbage later and rarely."""
    wasEnabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # together with unfreeze: all objects become old at no cost
        if wasEnabled:
            gc.enable()
        gc.unfreeze()


def _loadTorchLibraries() -> None:
    """Load PyTorch's libraries as a foreign call, for which ctypes lets go of the lock; an import does not.

    On Windows PyTorch does so by itself. What cannot be loaded here is left to the import to explain.
    """
    if "torch" in sys.modules or sys.platform == "win32":
        return
    spec = importlib.util.find_spec("torch")
    if spec is None:
        return
    folder = Path(spec.origin).parent / "lib"
    loader = ctypes.CDLL(None).dlopen
    loader.argtypes, loader.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    for path in (folder / name for name in _TORCH_LIBRARIES):
        if path.is_file():
            loader(os.fsencode(path), os.RTLD_NOW | os.RTLD_LOCAL)
