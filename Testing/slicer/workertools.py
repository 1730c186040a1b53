"""What the tests of the inference worker share."""

from __future__ import annotations

import threading
import time

import slicer

PATIENCE_S = 20


def processEventsUntil(condition) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        slicer.app.processEvents()
        time.sleep(0.001)


def inferenceThreads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "SAMLungSeg inference"]


class Gate:
    """Work that waits to be let through, and stops when it is cancelled."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self, progress, cancelled) -> str:
        self.entered.set()
        while not self.opened.wait(0.002):
            if cancelled():
                raise RuntimeError("stopped")
        return "through"


class Told:
    """Callbacks that remember what they were told, and on which thread."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []
        self.threads: set[threading.Thread] = set()

    def __getattr__(self, name):
        def callback(*arguments) -> None:
            self.calls.append((name, *arguments))
            self.threads.add(threading.current_thread())

        return callback

    @property
    def names(self) -> list[str]:
        return [name for name, *_ in self.calls]


def callbacksOf(told: Told) -> dict:
    return {name: getattr(told, name) for name in ("done", "failed", "progress", "cancelled")}
