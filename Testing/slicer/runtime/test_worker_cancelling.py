"""The inference worker: newer work wins, work is cancelled, background work steps aside."""

from __future__ import annotations

import time

from workertools import PATIENCE_S, Gate, Told, callbacksOf, processEventsUntil

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
