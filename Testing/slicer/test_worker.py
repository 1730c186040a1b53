"""The inference worker: one thread, newest wins, everything else on the main thread."""

from __future__ import annotations

import ctypes
import logging
import sys
import threading
import time
from itertools import pairwise

import pytest
import qt
import slicer

from SAMLungSegSlicer.worker import DELIVERY_INTERVAL_MS, SWITCH_INTERVAL_S, THREAD_SHARE_S, InferenceWorker

PATIENCE_S = 20


@pytest.fixture
def worker():
    worker = InferenceWorker()
    yield worker
    worker.stop()


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


# ---- results


def test_work_runs_on_another_thread_and_its_result_comes_on_the_main_thread(worker):
    told = Told()
    worker.submit(lambda progress, cancelled: threading.current_thread(), channel="a", **callbacksOf(told))
    processEventsUntil(lambda: not worker.isBusy())
    ((name, thread),) = told.calls
    assert name == "done"
    assert thread is not threading.main_thread()
    assert told.threads == {threading.main_thread()}


def test_only_the_latest_progress_is_told_and_always_before_the_result(worker):
    def work(progress, cancelled):
        for index in range(1000):
            progress(index + 1, 1000)

    told = Told()
    worker.submit(work, channel="a", **callbacksOf(told))
    processEventsUntil(lambda: not worker.isBusy())
    assert told.calls[-2:] == [("progress", 1000, 1000), ("done", None)]
    assert len(told.calls) < 100


def test_an_error_of_the_work_is_handed_to_failed_and_the_worker_goes_on(worker):
    def broken(progress, cancelled):
        raise ValueError("no lungs")

    told = Told()
    worker.submit(broken, channel="a", **callbacksOf(told))
    worker.submit(lambda progress, cancelled: 7, channel="b", **callbacksOf(told))
    processEventsUntil(lambda: not worker.isBusy())
    (failed, error), done = told.calls
    assert (failed, str(error)) == ("failed", "no lungs")
    assert done == ("done", 7)


def test_an_error_nobody_asked_for_is_logged(worker, caplog):
    def broken(progress, cancelled):
        raise ValueError("no lungs")

    worker.submit(broken, channel="volume")
    processEventsUntil(lambda: not worker.isBusy())
    assert "volume failed" in caplog.text
    assert "no lungs" in caplog.text


def test_work_that_asks_to_exit_does_not_end_the_thread(worker):
    def leaving(progress, cancelled):
        raise SystemExit

    told = Told()
    worker.submit(leaving, channel="a", **callbacksOf(told))
    worker.submit(lambda progress, cancelled: 7, channel="b", **callbacksOf(told))
    processEventsUntil(lambda: not worker.isBusy())
    assert told.names == ["failed", "done"]


def test_a_callback_that_fails_harms_neither_the_worker_nor_other_work(worker, caplog):
    def broken(result):
        raise ValueError("no widget")

    told = Told()
    worker.submit(lambda progress, cancelled: 1, channel="a", done=broken)
    worker.submit(lambda progress, cancelled: 2, channel="b", **callbacksOf(told))
    processEventsUntil(lambda: not worker.isBusy())
    assert "no widget" in caplog.text
    assert told.calls == [("done", 2)]


def test_work_may_be_submitted_from_a_callback(worker):
    told = Told()

    def again(result):
        assert not worker.isBusy("a")
        worker.submit(lambda progress, cancelled: result + 1, channel="a", **callbacksOf(told))

    worker.submit(lambda progress, cancelled: 1, channel="a", done=again)
    processEventsUntil(lambda: told.calls)
    assert told.calls == [("done", 2)]


def test_a_callback_may_run_an_event_loop_of_its_own_as_a_dialog_does(worker):
    told = Told()

    def dialog(result):
        processEventsUntil(lambda: told.names.count("done") == 2)
        told.calls.append(("closed",))

    worker.submit(lambda progress, cancelled: 1, channel="dialog", done=dialog)
    worker.submit(lambda progress, cancelled: 2, channel="b", **callbacksOf(told))
    worker.submit(lambda progress, cancelled: 3, channel="c", **callbacksOf(told))
    processEventsUntil(lambda: not worker.isBusy() and "closed" in told.names)
    assert told.calls == [("done", 2), ("done", 3), ("closed",)]


# ---- newest wins, cancelling


def test_of_a_hundred_rapid_submissions_only_the_last_is_delivered(worker):
    ran, told = [], Told()

    def submit(number: int) -> None:
        def work(progress, cancelled):
            ran.append(number)
            time.sleep(0.005)
            return number

        worker.submit(work, channel="preview", done=told.done)

    for number in range(100):
        submit(number)
    processEventsUntil(lambda: not worker.isBusy())
    assert told.calls == [("done", 99)]
    assert len(ran) < 50
    assert ran[-1] == 99


def test_a_result_that_newer_work_supersedes_is_never_delivered(worker):
    told, gate = Told(), Gate()
    worker.submit(lambda progress, cancelled: "old", channel="a", **callbacksOf(told))
    time.sleep(0.05)  # it has ended by now, but no event loop ran
    worker.submit(gate, channel="a", **callbacksOf(told))
    gate.opened.set()
    processEventsUntil(lambda: not worker.isBusy())
    assert told.calls == [("cancelled",), ("done", "through")]


def test_channels_do_not_disturb_each_other(worker):
    told, gate = Told(), Gate()
    worker.submit(gate, channel="volume", **callbacksOf(told))
    for number in range(3):
        worker.submit(lambda progress, cancelled, number=number: number, channel="preview", **callbacksOf(told))
    gate.opened.set()
    processEventsUntil(lambda: not worker.isBusy())
    assert [call for call in told.calls if call[0] == "done"] == [("done", "through"), ("done", 2)]


def test_work_that_waits_is_cancelled_without_having_run(worker):
    told, gate, ran = Told(), Gate(), []
    worker.submit(gate, channel="volume", **callbacksOf(Told()))
    worker.submit(lambda progress, cancelled: ran.append(1), channel="preview", **callbacksOf(told))
    worker.cancel("preview")
    processEventsUntil(lambda: not worker.isBusy("preview"))
    assert worker.isBusy("volume")
    gate.opened.set()
    processEventsUntil(lambda: not worker.isBusy())
    assert told.names == ["cancelled"]
    assert not ran


def test_running_work_is_cancelled_and_its_error_is_not_a_failure(worker):
    told, gate = Told(), Gate()
    worker.submit(gate, channel="volume", **callbacksOf(told))
    gate.entered.wait(PATIENCE_S)
    worker.cancel()
    assert worker.isBusy("volume")
    processEventsUntil(lambda: not worker.isBusy())
    assert told.calls == [("cancelled",)]


def test_work_that_ends_in_spite_of_being_cancelled_delivers_nothing(worker):
    told = Told()

    def stubborn(progress, cancelled):
        while not cancelled():
            time.sleep(0.002)
        progress(1, 2)
        return "too late"

    ticket = worker.submit(stubborn, channel="volume", **callbacksOf(told))
    ticket.cancel()
    processEventsUntil(lambda: not worker.isBusy())
    assert told.calls == [("cancelled",)]


# ---- stopping


def test_stopping_in_the_middle_leaves_no_thread_and_calls_nobody(worker):
    told, gate = Told(), Gate()
    worker.submit(gate, channel="volume", **callbacksOf(told))
    worker.submit(lambda progress, cancelled: 1, channel="preview", **callbacksOf(told))
    gate.entered.wait(PATIENCE_S)
    assert worker.stop()
    assert not inferenceThreads()
    assert not worker.isBusy()
    for _ in range(10):
        slicer.app.processEvents()
        time.sleep(DELIVERY_INTERVAL_MS / 1000)
    assert not told.calls


def test_a_stopped_worker_can_be_used_again(worker):
    told = Told()
    worker.stop()
    worker.submit(lambda progress, cancelled: 1, channel="a", **callbacksOf(told))
    processEventsUntil(lambda: not worker.isBusy())
    worker.stop()
    worker.submit(lambda progress, cancelled: 2, channel="a", **callbacksOf(told))
    processEventsUntil(lambda: not worker.isBusy())
    assert told.calls == [("done", 1), ("done", 2)]


def test_work_that_does_not_listen_is_left_to_itself_and_disturbs_nothing_later(worker, caplog):
    release, told = threading.Event(), Told()
    worker.submit(lambda progress, cancelled: release.wait(PATIENCE_S), channel="deaf", **callbacksOf(told))
    processEventsUntil(lambda: inferenceThreads())
    with caplog.at_level(logging.WARNING):
        assert not worker.stop(timeoutSeconds=0.05)
    assert "still busy" in caplog.text
    worker.submit(lambda progress, cancelled: "new", channel="a", **callbacksOf(told))
    processEventsUntil(lambda: not worker.isBusy())
    release.set()
    worker.stop()
    processEventsUntil(lambda: not inferenceThreads())
    assert told.calls == [("done", "new")]


def test_a_callback_may_stop_the_worker_as_closing_the_scene_does(worker):
    told = Told()
    worker.submit(lambda progress, cancelled: 1, channel="a", done=lambda result: worker.stop())
    worker.submit(lambda progress, cancelled: 2, channel="b", **callbacksOf(told))
    time.sleep(0.05)
    processEventsUntil(lambda: not worker.isBusy())
    assert not told.calls
    assert not inferenceThreads()


def test_an_idle_worker_has_neither_timer_nor_thread(worker, monkeypatch):
    monkeypatch.setattr("SAMLungSegSlicer.worker.IDLE_S", 0.05)
    assert not inferenceThreads()
    told = Told()
    for number in range(3):
        worker.submit(lambda progress, cancelled, number=number: number, channel="a", **callbacksOf(told))
        processEventsUntil(lambda: not worker.isBusy())
        assert worker._timer is None
        processEventsUntil(lambda: not inferenceThreads())
    assert told.calls == [("done", 0), ("done", 1), ("done", 2)]


def test_results_are_not_kept_alive_after_they_were_delivered(worker):
    class Voxels:
        pass

    import gc
    import weakref

    kept = []

    def work(progress, cancelled):
        voxels = Voxels()
        kept.append(weakref.ref(voxels))
        return voxels

    worker.submit(work, channel="a", done=lambda voxels: None)
    processEventsUntil(lambda: not worker.isBusy())
    gc.collect()
    assert kept[0]() is None


# ---- the window stays responsive


def test_the_event_loop_is_never_blocked_for_long_by_busy_python_work(worker):
    ticks: list[float] = []
    timer = qt.QTimer()
    timer.setInterval(5)
    timer.connect("timeout()", lambda: ticks.append(time.monotonic()))
    timer.start()

    def busy(progress, cancelled):
        total, until = 0, time.monotonic() + 0.5
        while time.monotonic() < until:
            total += sum(range(1000))
            progress(total)

    worker.submit(busy, channel="a")
    processEventsUntil(lambda: not worker.isBusy())
    timer.stop()
    waits = [later - earlier for earlier, later in pairwise(ticks)]
    assert len(waits) >= 4
    assert sorted(waits)[len(waits) // 2] < 0.1


@pytest.mark.parametrize("end", [lambda gate, worker: gate.opened.set(), lambda gate, worker: worker.stop()])
def test_only_while_there_is_work_the_window_gets_the_interpreter_lock_quickly(worker, end):
    usual, gate = sys.getswitchinterval(), Gate()
    worker.submit(gate, channel="a")
    worker.submit(lambda progress, cancelled: 1, channel="b")
    assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S)
    end(gate, worker)
    processEventsUntil(lambda: not worker.isBusy())
    assert sys.getswitchinterval() == usual


def test_work_goes_on_although_the_event_loop_keeps_the_interpreter_lock(worker):
    """Slicer's loop does: it calls Python, but does not let go of the lock while it waits for events."""
    holdingTheLock = ctypes.PyDLL(None)

    def work(progress, cancelled):
        for _ in range(300):
            time.sleep(0.0002)  # lets go of the lock and takes it again, as every call into torch does

    worker.submit(work, channel="a")
    turns = 0
    while worker.isBusy():
        holdingTheLock.usleep(int(1e6 * (DELIVERY_INTERVAL_MS / 1000 - THREAD_SHARE_S)))
        slicer.app.processEvents()
        turns += 1
        assert turns < 300, "one call for each turn of the event loop"


# ---- work that steps aside


def test_background_work_is_cancelled_by_whatever_comes_later(worker):
    gate, told = Gate(), Told()
    worker.submit(gate, channel="background", background=True, **callbacksOf(told))
    processEventsUntil(gate.entered.is_set)
    other = Told()
    worker.submit(lambda progress, cancelled: "other", channel="a", **callbacksOf(other))
    processEventsUntil(lambda: not worker.isBusy())
    assert told.calls == [("cancelled",)]
    assert other.calls == [("done", "other")]


def test_background_work_leaves_what_was_there_before_alone(worker):
    gate, told, background = Gate(), Told(), Told()
    worker.submit(gate, channel="a", **callbacksOf(told))
    worker.submit(lambda progress, cancelled: "late", channel="background", background=True, **callbacksOf(background))
    gate.opened.set()
    processEventsUntil(lambda: not worker.isBusy())
    assert told.calls == [("done", "through")]
    assert background.calls == [("done", "late")]


def test_background_work_that_has_not_begun_never_does(worker):
    gate, background = Gate(), Told()
    worker.submit(gate, channel="a")
    worker.submit(lambda progress, cancelled: "late", channel="background", background=True, **callbacksOf(background))
    worker.submit(lambda progress, cancelled: "other", channel="b")
    gate.opened.set()
    processEventsUntil(lambda: not worker.isBusy())
    assert background.calls == [("cancelled",)]
