"""What goes wrong is said in the status line, in words, and the panel goes on."""

from __future__ import annotations

import chests
import pytest
import qt
import widgettools as tools


class Failing(chests.DarknessModel):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def encode(self, views):
        raise self.error


def press(window, button):
    window.click(button)
    tools.idle(window)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 7.38 GiB."), "device cpu"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory"), "smaller part"),
        (MemoryError(), "smaller part"),
    ],
)
def test_a_full_memory_is_one_line_with_advice(module_window, monkeypatch, dialogs, error, advice):
    tools.show(chests.axialChest())
    tools.answer_at_once(monkeypatch, Failing(error))
    window = module_window(size=(1100, 800))
    press(window, window.ui.segmentVolumeButton)
    assert not dialogs.take()
    assert window.ui.statusLabel.text.startswith("⚠") and advice in window.ui.statusLabel.text
    assert window.ui.segmentVolumeButton.enabled


def test_words_of_others_in_the_status_line_are_no_markup(module_window):
    assert module_window(size=(1100, 800)).ui.statusLabel.textFormat == qt.Qt.PlainText


def test_an_unexpected_error_does_not_leave_the_panel_starting(module_window, monkeypatch, dialogs, faults):
    tools.show(chests.axialChest())
    tools.answer_at_once(monkeypatch, Failing(ZeroDivisionError("by zero")))
    window = module_window(size=(1100, 800))
    press(window, window.ui.segmentVolumeButton)
    assert [one.kind for one in dialogs.take()] == ["error"]
    faults.take()
    assert window.ui.statusLabel.text == "⚠ That failed: by zero"
    assert window.ui.segmentVolumeButton.enabled
