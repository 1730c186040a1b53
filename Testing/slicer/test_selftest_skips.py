"""The self-test goes through all of its parts, by button and under unittest, and says what is skipped or fails."""

from __future__ import annotations

import logging
import types
import unittest

import pytest
import slicer

import SAMLungSeg
from SAMLungSegSlicer.runtime import dependencies

FIRST, SECOND, *_OTHERS = JOBS = [name for name in dir(SAMLungSeg.SAMLungSegTest) if name.startswith("test_")]


@pytest.fixture(autouse=True)
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was run, in order; nothing of it does anything."""
    names: list[str] = []
    for name in (*JOBS, "tearDown"):
        monkeypatch.setattr(SAMLungSeg.SAMLungSegTest, name, lambda self, name=name: names.append(name))
    monkeypatch.setattr(SAMLungSeg.SAMLungSegTest, "setUp", lambda self: None)
    return names


@pytest.fixture
def press() -> object:
    """Slicer's button *Test*."""
    SAMLungSeg.SAMLungSeg(types.SimpleNamespace(path=SAMLungSeg.__file__))
    return slicer.selfTests["SAMLungSeg"]


@pytest.fixture
def withoutPackages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependencies, "missing", lambda feature: ["torch", "pandas"])


def skip(self: unittest.TestCase) -> None:
    self.skipTest("Slicer runs without its window")


def fail(self: unittest.TestCase) -> None:
    self.assertEqual(1, 2)


def crash(self: unittest.TestCase) -> None:
    raise OSError("disk full")


def test_a_skipped_part_is_logged_with_its_reason_and_the_others_are_run(ran, press, monkeypatch, caplog) -> None:
    monkeypatch.setattr(SAMLungSeg.SAMLungSegTest, FIRST, skip)
    press()
    assert [name for name in ran if name != "tearDown"] == JOBS[1:]
    assert ran.count("tearDown") == len(JOBS)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert FIRST in caplog.text
    assert "Slicer runs without its window" in caplog.text


def test_failures_are_raised_together_when_all_parts_have_run(ran, press, monkeypatch) -> None:
    monkeypatch.setattr(SAMLungSeg.SAMLungSegTest, FIRST, fail)
    monkeypatch.setattr(SAMLungSeg.SAMLungSegTest, SECOND, crash)
    with pytest.raises(AssertionError) as caught:
        press()
    for said in (FIRST, "in fail", "1 != 2", SECOND, "in crash", "disk full"):
        assert said in str(caught.value)
    assert [name for name in ran if name != "tearDown"] == JOBS[2:]
    assert ran.count("tearDown") == len(JOBS)


def test_messages_are_shown_as_long_as_slicer_wants(press, monkeypatch) -> None:
    shown: list[int] = []
    monkeypatch.setattr(slicer.util, "delayDisplay", lambda message, msec: shown.append(msec))
    monkeypatch.setattr(SAMLungSeg.SAMLungSegTest, FIRST, lambda self: self.delayDisplay("Opening the module"))
    press(msec=700)
    assert shown == [700]


@pytest.mark.usefixtures("withoutPackages")
def test_in_testing_mode_without_the_packages_all_is_skipped_and_says_why(ran, press, slicer_app, caplog) -> None:
    slicer_app.setTestingEnabled(True)
    suite = unittest.TestLoader().loadTestsFromName("SAMLungSeg")  # as slicer.testing.runUnitTest
    result = suite.run(unittest.TestResult())
    assert result.wasSuccessful()
    ((_test, reason),) = result.skipped
    assert "torch, pandas" in reason
    assert "testing mode" in reason
    press()
    assert reason in caplog.text
    assert not ran


@pytest.mark.usefixtures("withoutPackages")
def test_a_user_who_does_not_install_the_packages_is_asked_once(ran, press, monkeypatch, caplog) -> None:
    asked: list[str] = []
    monkeypatch.setattr(dependencies, "ensure", lambda feature: bool(asked.append(feature)))
    press()
    assert asked == ["batch"]
    assert "were not installed" in caplog.text
    assert not ran
