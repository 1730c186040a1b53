"""One child, from the side of its caller."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock, Timer
from typing import Any

from SAMLungSegLib import errors
from SAMLungSegLib.isolation.budget import Budget, memory_of_machine

logger = logging.getLogger(__name__)

_ROOT = str(Path(__file__).resolve().parents[2])
# `-c` and `-m` would put the current folder first, where a cohort may hold a file that is called numpy.py.
_PROGRAM = (
    "import sys; sys.path[:] = sys.argv.pop().splitlines(); from SAMLungSegLib.isolation.child import main; main()"
)
_START_SECONDS = 60.0
_ENVIRONMENT = {  # threads cost address space, which is what is limited
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "2",
    "MALLOC_ARENA_MAX": "4",
}


class StartError(Exception):
    """A child cannot be started here."""


class DeathError(Exception):
    """The child is gone in the middle of a call.

    Attributes:
        how: one phrase.
        is_deserved: whether it was stopped because the call took too long.
    """

    def __init__(self, how: str, is_deserved: bool) -> None:
        super().__init__(how)
        self.how, self.is_deserved = how, is_deserved


class RemoteError(Exception):
    """The function has raised what is no error of the library."""


class Process:
    """A child that answers one call at a time; it starts in the background.

    Attributes:
        is_worn: whether it should be replaced, because earlier calls have left much in its memory.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        """Start.

        Args:
            modules: to import before the first call.
        Raises:
            StartError: the system refuses.
        """
        paths = [path for path in sys.path if path]
        arguments = [json.dumps(list(modules)), "\n".join([*paths, *([] if _ROOT in paths else [_ROOT])])]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, *arguments],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **_ENVIRONMENT},
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            raise StartError(str(error)) from error
        self.is_worn = False
        self._is_ready, self._lock, self._stopped_for = False, Lock(), ""

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def stop(self, reason: str = "was stopped") -> None:
        """End it at once, from any thread; a call that it is at raises `DeathError` for this reason."""
        with self._lock:
            self._stopped_for = self._stopped_for or reason
        self._process.kill()
        with suppress(OSError, ValueError):  # Slicer's Python is started by another program, and ends by this
            self._process.stdin.close()

    def close(self) -> None:
        """End it, by the thread whose turn it is."""
        self.stop()
        self._process.wait()
        self._process.stdout.close()

    def wait_until_ready(self) -> None:
        """Wait for the end of its start.

        Raises:
            StartError: it ended, or took too long.
        """
        from SAMLungSegLib.isolation.wire import WireError, receive

        if self._is_ready:
            return
        with _Watch(self, _START_SECONDS):
            try:
                message = receive(self._process.stdout)
            except (WireError, OSError) as error:
                raise StartError(f"it ended at its start: {error}") from error
        self._is_ready = message == {"kind": "ready"}
        if not self._is_ready:
            raise StartError("it said something else than expected")

    def call(self, function: str, arguments: Sequence[Any], budget: Budget) -> Any:
        """The value of a function.

        Args:
            function: 'module:name'.
            arguments: of JSON's types.
            budget: of the call.
        Raises:
            SAMLungSegError: what the function raised.
            RemoteError: it raised anything else.
            DeathError: the child is gone.
        """
        from SAMLungSegLib.isolation.wire import WireError, receive, send

        request = {
            "function": function,
            "arguments": list(arguments),
            "budget": [budget.cpu_seconds, budget.memory_bytes],
            "folder": _current_folder(),
        }
        most_bytes, answer = memory_of_machine(), {}
        try:
            with _Watch(self, budget.wall_seconds) as watch:
                send(self._process.stdin, request)
                while True:
                    message = receive(self._process.stdout, most_bytes)
                    kind = message["kind"]
                    if kind == "log":
                        _log(message)
                    elif kind == "wait":
                        watch.extend(float(message["seconds"]))
                    elif kind == "idle":
                        self.is_worn = message["is_worn"] is True
                        break
                    else:
                        answer = message
        except (WireError, OSError, KeyError, TypeError, ValueError) as error:
            raise self._death(error) from error
        if answer.get("kind") != "value":
            raise _error_of(answer)
        return answer["value"]

    def _death(self, error: Exception) -> DeathError:
        self._process.kill()
        code = self._process.wait()
        logger.debug("The reader process ended with %s: %s", code, error)
        if self._stopped_for:
            return DeathError(self._stopped_for, True)
        if code == -_number_of("SIGXCPU"):
            return DeathError("took too long to read and was stopped", True)
        return DeathError(f"ended the process that read it ({_name_of(code)})", False)


class _Watch:
    """Stops a process that does not answer in time."""

    def __init__(self, process: Process, seconds: float) -> None:
        self._process, self._seconds = process, seconds
        self._timer = self._started()

    def extend(self, seconds: float) -> None:
        """Wait for so many seconds from now."""
        self._timer.cancel()
        self._seconds = seconds
        self._timer = self._started()

    def _started(self) -> Timer:
        timer = Timer(self._seconds, self._process.stop, ("took too long to read and was stopped",))
        timer.daemon = True
        timer.start()
        return timer

    def __enter__(self) -> _Watch:
        return self

    def __exit__(self, *about: object) -> None:
        self._timer.cancel()


def _current_folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def _log(message: dict[str, Any]) -> None:
    name = str(message["name"])
    if name.split(".")[0] == "SAMLungSegLib":
        logging.getLogger(name).log(int(message["level"]), "%s", message["message"])


def _error_of(message: dict[str, Any]) -> Exception:
    kind = getattr(errors, str(message["type"]), None)
    if isinstance(kind, type) and issubclass(kind, errors.SAMLungSegError):
        return kind(message["message"])
    return RemoteError(message["message"])


def _number_of(name: str) -> int:
    import signal

    return int(getattr(signal, name, 0)) or 1 << 16


def _name_of(code: int) -> str:
    import signal

    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit code {code}"
