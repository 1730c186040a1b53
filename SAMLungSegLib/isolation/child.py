"""What runs in the child: one call after the other until the caller is gone."""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from threading import Lock, Thread
from typing import IO, Any

from SAMLungSegLib.errors import SAMLungSegError
from SAMLungSegLib.isolation.budget import Budget, Limits, hold_to, resource, virtual_bytes
from SAMLungSegLib.isolation.wire import WireError, receive, send

_MOST_LEFT_BYTES = 1 << 28
_LIBRARY = logging.getLogger("SAMLungSegLib")


class _Replies:
    """The way back to the caller, for one thread at a time."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._turn = file, Lock()

    def send(self, **message: Any) -> None:
        with self._turn:
            send(self._file, message)


class _Forwarder(logging.Handler):
    """Hands what the library logs to the caller."""

    def __init__(self, replies: _Replies) -> None:
        super().__init__()
        self._replies = replies

    def emit(self, record: logging.LogRecord) -> None:
        self._replies.send(kind="log", name=record.name, level=record.levelno, message=record.getMessage())


def main() -> None:
    """Answer calls on the standard input until it ends; argument: JSON list of modules to import beforehand."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the caller decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    replies = _Replies(os.fdopen(os.dup(1), "wb", buffering=0))
    _silence()
    _be_the_first_to_go()
    for module in json.loads(sys.argv[1]):
        import_module(module)
    _LIBRARY.setLevel(logging.INFO)
    _LIBRARY.addHandler(_Forwarder(replies))
    _LIBRARY.propagate = False
    calls: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    Thread(target=_listen, args=(requests, calls), daemon=True).start()
    replies.send(kind="ready")
    idle_bytes = virtual_bytes()
    while True:
        _answer(calls.get(), replies, idle_bytes)
        replies.send(kind="idle", is_worn=_is_worn(idle_bytes))


def _is_worn(idle_bytes: int | None) -> bool:
    """Whether earlier calls have left much behind: libraries leak where they fail."""
    return idle_bytes is not None and (virtual_bytes() or 0) - idle_bytes > _MOST_LEFT_BYTES


def _listen(requests: IO[bytes], calls: queue.SimpleQueue) -> None:
    """Hand on what is asked; end the process with its caller, whatever it is at."""
    try:
        while True:
            calls.put(receive(requests))
    except (WireError, OSError):
        os._exit(0)


def _silence() -> None:
    """Libraries in C write to the terminal as they like."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)


def _be_the_first_to_go() -> None:
    """When memory is short, end this process, not its caller; and leave no core file."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _answer(request: dict[str, Any], replies: _Replies, idle_bytes: int | None) -> None:
    def tell(budget: Budget) -> None:
        replies.send(kind="wait", seconds=budget.wall_seconds)

    limits = Limits(Budget(*request["budget"]), tell, idle_bytes)
    hold_to(limits)
    try:
        if request["folder"] is not None:
            os.chdir(request["folder"])
        module, _, name = request["function"].partition(":")
        value = getattr(import_module(module), name)(*request["arguments"])
        limits.lift()
        replies.send(kind="value", value=value)
    except SAMLungSegError as error:
        replies.send(kind="error", type=type(error).__name__, message=str(error))
    except MemoryError:
        limits.lift()
        replies.send(kind="error", type=None, message="it needs more memory than it may take")
    except Exception as error:
        limits.lift()
        replies.send(kind="error", type=None, message=f"{type(error).__name__}: {error}"[:500])
    finally:
        limits.lift()
        hold_to(None)
