"""Functions that run in a process of their own, whose death, memory and time cost the caller nothing.

Files come from anywhere, and some end the process that reads them: `call` runs what reads them in a child that is kept
between calls and replaced after its death.
"""

from SAMLungSegLib.isolation.budget import Budget, announce, announce_decoding, memory_of_machine
from SAMLungSegLib.isolation.pool import ReaderDeathError, call, interrupt, prepare

__all__ = [
    "Budget",
    "ReaderDeathError",
    "announce",
    "announce_decoding",
    "call",
    "interrupt",
    "memory_of_machine",
    "prepare",
]
