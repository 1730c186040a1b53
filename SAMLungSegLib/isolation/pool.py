"""Children that are kept between calls, one for each thread that calls at a time."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from threading import Lock
from typing import Any

from SAMLungSegLib.errors import SAMLungSegError, VolumeError
from SAMLungSegLib.isolation.budget import Budget
from SAMLungSegLib.isolation.process import DeathError, Process, RemoteError, StartError

logger = logging.getLogger(__name__)

_MODULES = ("SAMLungSegLib.volume",)
_MOST_IDLE = 2


class ReaderDeathError(VolumeError):
    """A file ended, or would have ended, the process that read it."""


class _Pool:
    """The children of this process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._idle: list[Process] = []
        self._busy: set[Process] = set()
        self.is_usable, self.has_worked = _is_python(sys.executable), False

    def take(self) -> Process:
        """A child that is idle, or a new one.

        Raises:
            StartError: there is none.
        """
        with self._lock:
            process = next((one for one in reversed(self._idle) if one.is_alive), None)
            gone = [one for one in self._idle if not one.is_alive]
            self._idle = [one for one in self._idle if one is not process and one not in gone]
            if process is not None:
                self._busy.add(process)
        for one in gone:
            one.close()
        if process is None:
            process = Process(_MODULES)
            with self._lock:
                self._busy.add(process)
        try:
            process.wait_until_ready()
        except BaseException:
            self.discard(process)
            raise
        self.has_worked = True
        return process

    def put_back(self, process: Process) -> None:
        """It has answered."""
        with self._lock:
            self._busy.discard(process)
            is_kept = len(self._idle) < _MOST_IDLE and process.is_alive and not process.is_worn
            if is_kept:
                self._idle.append(process)
        if not is_kept:
            process.close()
            self.prepare()

    def discard(self, process: Process) -> None:
        """It has not answered."""
        with self._lock:
            self._busy.discard(process)
        process.close()
        self.prepare()

    def prepare(self) -> None:
        """Have one start in the background, where there is none."""
        with self._lock:
            is_needed = self.is_usable and not self._idle and not self._busy
        if is_needed:
            try:
                process = Process(_MODULES)
            except StartError:
                return
            with self._lock:
                self._idle.append(process)

    def interrupt(self) -> None:
        """End what is being read."""
        with self._lock:
            busy = list(self._busy)
        for process in busy:
            process.stop("was left unread, because the run was stopped")

    def close(self) -> None:
        """End all."""
        with self._lock:
            processes = [*self._idle, *self._busy]
        for process in processes:
            process.stop()


def _is_python(executable: str | None) -> bool:
    """Whether `sys.executable` starts Python, and not the program that Python is part of."""
    return "python" in os.path.basename(executable or "").lower() and not getattr(sys, "frozen", False)


_pool = _Pool()
atexit.register(lambda: _pool.close())


def _renew() -> None:
    """A forked process has no children of its own."""
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def prepare() -> None:
    """Start a child in the background, so that the first call need not wait for it."""
    _pool.prepare()


def interrupt() -> None:
    """Stop all calls that this process waits for: they raise `ReaderDeathError`."""
    _pool.interrupt()


def call(function: str, arguments: Sequence[Any], source: object, budget: Budget, *, attempts: int = 2) -> Any:
    """What a function returns that runs in a child; what it logs is logged here.

    A child that dies may be the victim of an earlier file: the call is made again in a new one.

    Args:
        function: 'module:name', of this library.
        arguments: of JSON's types.
        source: the file or folder that it reads, for errors.
        budget: of the call.
        attempts: processes that may die of it.
    Returns:
        Of JSON's types and arrays; tuples have become lists.
    Raises:
        SAMLungSegError: what the function raised.
        ReaderDeathError: the file has ended as many children as it may, or takes too long.
        VolumeError: the function raised anything else.
    """
    how = ""
    for _ in range(attempts):
        process = _taken(source, bool(how))
        if process is None:
            return _called_here(function, arguments, source)
        try:
            value = process.call(function, arguments, budget)
        except DeathError as death:
            _pool.discard(process)
            how = death.how
            if death.is_deserved:
                break
        except RemoteError as error:
            _pool.put_back(process)
            raise VolumeError(_refusal(source, error)) from error
        except SAMLungSegError as error:
            _pool.put_back(process)
            raise _naming(source, error) from error
        except Exception:
            _pool.discard(process)
            raise
        except BaseException:  # Ctrl-C while it reads
            _pool.discard(process)
            raise
        else:
            _pool.put_back(process)
            return value
    raise ReaderDeathError(f"{source} {how}; it is corrupted or too large, copy or convert it again.")


def _taken(source: object, is_second_try: bool) -> Process | None:
    """A child; None where none can be started at all, which is told once."""
    if not _pool.is_usable and not is_second_try:
        return None
    try:
        return _pool.take()
    except StartError as error:
        if is_second_try or _pool.has_worked:
            raise ReaderDeathError(f"No process could be started to read {source} in ({error}); try again.") from error
        _pool.is_usable = False
        logger.warning("Images are read without protection against corrupted files: no process starts (%s).", error)
        return None


def _called_here(function: str, arguments: Sequence[Any], source: object) -> Any:
    module, _, name = function.partition(":")
    try:
        return getattr(import_module(module), name)(*arguments)
    except SAMLungSegError as error:
        raise _naming(source, error) from error
    except Exception as error:
        raise VolumeError(_refusal(source, f"{type(error).__name__}: {error}")) from error


def _naming(source: object, error: SAMLungSegError) -> SAMLungSegError:
    """The error, which says where it is from: one of many files, perhaps."""
    stem = os.path.basename(str(source)).partition(".")[0]
    return error if stem in str(error) else type(error)(f"{source}: {error}")


def _refusal(source: object, reason: object) -> str:
    return f"{source} is corrupted and cannot be read ({reason}); copy or export it again."
