"""How much time and memory a call may take, by the size of its files and by what their headers announce."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

try:
    import resource
except ImportError:  # Windows, where only the caller's watch over the time is left
    resource = None  # type: ignore[assignment]

_BASE_SECONDS, _SECONDS_PER_FILE, _SECONDS_PER_BYTE = 4.0, 0.05, 1e-7
_HEADER_SECONDS = 3.0
_BASE_BYTES, _BYTES_PER_BYTE = 5 << 27, 12  # of memory for each byte of a compressed series
_SECONDS_PER_VALUE_BYTE, _BYTES_PER_VALUE_BYTE = 4e-8, 4
_DECODING_SECONDS_PER_VALUE_BYTE, _DECODING_SECONDS_PER_BYTE = 1.5e-7, 2e-6  # JPEG 2000
_MOST_EXPANSION = 100  # of a format for single slices
_MOST_SECONDS = 1800.0
_WAIT = 3 if resource else 2  # seconds of waiting for the disk and for others, for each second of computing


@dataclass(frozen=True)
class Budget:
    """What one call may take.

    Attributes:
        cpu_seconds: of computing.
        memory_bytes: more than the process has when it is idle.
    """

    cpu_seconds: float
    memory_bytes: int

    @classmethod
    def of_files(cls, paths: Iterable[Path]) -> Budget:
        """For files of which some may be absent."""
        sizes = [_size(path) for path in paths]
        seconds = _BASE_SECONDS + _SECONDS_PER_FILE * len(sizes) + _SECONDS_PER_BYTE * sum(sizes)
        return cls(min(seconds, _MOST_SECONDS), _BASE_BYTES + _BYTES_PER_BYTE * sum(sizes))

    @classmethod
    def of_headers(cls, count: int) -> Budget:
        """For the headers of so many files."""
        return cls(_HEADER_SECONDS + _SECONDS_PER_FILE * count, _BASE_BYTES)

    def with_values(self, value_bytes: int, extra_seconds: float = 0.0) -> Budget:
        """The same with voxels of so many bytes, which may take much less on the disk."""
        seconds = self.cpu_seconds + _SECONDS_PER_VALUE_BYTE * value_bytes + extra_seconds
        return Budget(min(seconds, _MOST_SECONDS), self.memory_bytes + _BYTES_PER_VALUE_BYTE * value_bytes)

    @property
    def wall_seconds(self) -> float:
        """How long a caller waits."""
        return _WAIT * self.cpu_seconds


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0


def memory_of_machine() -> int | None:
    """Bytes of main memory; None where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


class Limits:
    """Holds this process to a budget, where the system can: it ends the process that computes for longer."""

    def __init__(self, budget: Budget, tell: Callable[[Budget], None], idle_bytes: int | None) -> None:
        """Start to count.

        Args:
            budget: to begin with.
            tell: called with each new budget.
            idle_bytes: `virtual_bytes` of this process before its first call.
        """
        self._budget, self._tell = budget, tell
        self._cpu, self._virtual = time.process_time(), idle_bytes
        self._apply()

    def announce(self, value_bytes: int, extra_seconds: float) -> None:
        """Allow what voxels of so many bytes need."""
        self._budget = self._budget.with_values(value_bytes, extra_seconds)
        self._apply()
        self._tell(self._budget)

    def lift(self) -> None:
        """Hold this process to nothing until the next budget."""
        if resource is not None:
            _set_soft(resource.RLIMIT_CPU, None)
            _set_soft(resource.RLIMIT_AS, None)

    def _apply(self) -> None:
        if resource is None:
            return
        _set_soft(resource.RLIMIT_CPU, int(self._cpu + self._budget.cpu_seconds) + 1)
        if self._virtual is not None:
            _set_soft(resource.RLIMIT_AS, self._virtual + self._budget.memory_bytes)


def _set_soft(kind: int, limit: int | None) -> None:
    hard = resource.getrlimit(kind)[1]
    if limit is None or (hard != resource.RLIM_INFINITY and limit > hard):
        limit = hard
    with suppress(ValueError, OSError):  # of systems that do not take this limit
        resource.setrlimit(kind, (limit, hard))


def virtual_bytes() -> int | None:
    """Address space of this process, which is what the system limits; None where it does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


_limits: Limits | None = None


def hold_to(limits: Limits | None) -> None:
    """Make `announce` speak to these limits."""
    global _limits
    _limits = limits


def announce(value_bytes: int, extra_seconds: float = 0.0) -> None:
    """Say that voxels of so many bytes follow, once a header is read and believed; nothing outside a child."""
    if _limits is not None:
        _limits.announce(value_bytes, extra_seconds)


def announce_decoding(value_bytes: int, paths: Iterable[Path]) -> None:
    """As `announce`, of files whose voxels may be compressed in a way that is slow to undo."""
    if _limits is not None:
        stored_bytes = sum(_size(path) for path in paths)
        seconds = (_DECODING_SECONDS_PER_VALUE_BYTE * value_bytes, _DECODING_SECONDS_PER_BYTE * stored_bytes)
        announce(min(value_bytes, _MOST_EXPANSION * stored_bytes), min(seconds))
