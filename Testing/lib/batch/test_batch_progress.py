"""What a run says of its progress, however far its journal is ahead."""

from __future__ import annotations

import sys

import pytest
from cohorts import chest_picture, write_cohort, write_image

from SAMLungSegLib.batch import BatchError, run
from SAMLungSegLib.batch.executors import process_overlapped

pytestmark = pytest.mark.usefixtures("dark_is_lung")


@pytest.fixture
def fast_disk(monkeypatch):
    """All cases are in the journal before the first is told."""
    module = sys.modules["SAMLungSegLib.batch.run"]  # the function hides it
    monkeypatch.setattr(module, "process_overlapped", lambda *given: iter(list(process_overlapped(*given))))


@pytest.mark.usefixtures("fast_disk")
def test_each_case_is_counted_once_where_the_journal_is_ahead(tmp_path):
    cohort, told = write_cohort(tmp_path / "in", pictures=3, volumes=0, series=0), []
    run(cohort, tmp_path / "out", progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    write_image(tmp_path / "in" / "later.png", chest_picture(4))
    run(cohort, tmp_path / "out", progress=lambda done, total: told.append((done, total)))
    assert told[3:] == [(4, 4)]


@pytest.mark.usefixtures("fast_disk")
def test_a_journal_that_vanishes_when_the_last_case_is_in_it_is_missed(tmp_path):
    cohort = write_cohort(tmp_path / "in", pictures=2, volumes=0, series=0)
    with pytest.raises(BatchError, match=r"journal\.jsonl had been written and is gone"):
        run(cohort, tmp_path / "out", progress=lambda done, _: done == 2 and (tmp_path / "out/journal.jsonl").unlink())
