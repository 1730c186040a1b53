"""The inference worker: one thread, results on the main thread, an end at any time, a window that answers."""

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
from workertools import PATIENCE_S, Gate, Told, callbacksOf, inferenceThreads, processEventsUntil

from SAMLungSegSlicer.runtime.worker import DELIVERY_INTERVAL_MS, SWITCH_INTERVAL_S, THREAD_SHARE_S, InferenceWorker

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
    monkeypatch.setattr("SAMLungSegSlicer.runtime.worker.IDLE_S", 0.05)
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


def test_the_usual_switch_interval_comes_back_after_the_last_of_two_workers(worker):
    usual, first, second, other = sys.getswitchinterval(), Gate(), Gate(), InferenceWorker()
    worker.submit(first, channel="a")
    other.submit(second, channel="a")
    first.opened.set()
    processEventsUntil(lambda: not worker.isBusy())
    assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S)
    second.opened.set()
    processEventsUntil(lambda: not other.isBusy())
    assert sys.getswitchinterval() == usual
    other.stop()


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
