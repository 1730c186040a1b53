"""Cases that end the process which works on them: each costs itself, not the cohort."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from cohorts import chest_picture, use_dark_is_lung, write_cohort, write_image
from mutants import write_endless
from processes import ready_processes

from SAMLungSegLib.batch import preview, run
from SAMLungSegLib.batch.journal import DONE, READING, RUN, SEGMENTING, STOPPED, Entry, Journal, read_history

REPOSITORY = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")


def journal_of(folder, *events):
    folder.mkdir(exist_ok=True)
    with Journal(folder) as journal:
        for event, case, about in events:
            journal.append(event, case, **about)
    return read_history(folder)


def test_a_run_that_ended_in_no_orderly_way_is_counted_for_the_cases_it_was_at(tmp_path):
    begun = [(RUN, None, {}), (READING, "a", {}), (SEGMENTING, "a", {}), (READING, "b", {})]
    assert journal_of(tmp_path / "once", *begun).deaths == {"a": (1, 0), "b": (1, 0)}
    assert journal_of(tmp_path / "twice", *begun, *begun).deaths == {"a": (2, 0), "b": (2, 0)}
    alone = [(RUN, None, {}), (SEGMENTING, "a", {"alone": True})]
    deaths = journal_of(tmp_path / "alone", *begun, *alone, *alone).deaths
    assert deaths == {"a": (3, 2), "b": (1, 0)}
    assert deaths["a"].is_proven and not deaths["b"].is_proven


def test_a_run_that_was_stopped_blames_no_case(tmp_path):
    assert journal_of(tmp_path, (RUN, None, {}), (READING, "a", {}), (STOPPED, None, {})).deaths == {}


def test_a_case_that_ends_is_blamed_no_more(tmp_path):
    with Journal(tmp_path) as journal:
        journal.append(SEGMENTING, "a")
        journal.append(RUN)
        journal.finish("a", Entry(DONE, "", "", None, {}, {}))
    assert read_history(tmp_path).deaths == {}


def test_a_cancelled_run_blames_no_case(cohort, tmp_path, dark_is_lung):
    run(cohort, tmp_path / "out", cancelled=lambda: True)
    assert preview(cohort, tmp_path / "out").alone == []


def use_a_killer() -> None:
    """Have a model answer that ends the process at pictures that are 50 rows high."""
    model = use_dark_is_lung()
    encode = model.encode

    def encode_or_die(slices):
        if slices[0].grey_hw.shape[0] == 50:
            os.kill(os.getpid(), signal.SIGKILL)
        return encode(slices)

    model.encode = encode_or_die


def run_with_a_killer(cohort, output) -> None:
    use_a_killer()
    run(cohort, output)


def cohort_with_a_killer(folder):
    cohort = write_cohort(folder, pictures=8, volumes=1, series=0)
    write_image(cohort / "xrays" / "0" / "killer.png", chest_picture(0, (50, 64)))
    return cohort


@pytest.mark.slow
def test_a_case_that_ends_the_program_again_and_again_costs_itself_only(tmp_path):
    cohort, codes = cohort_with_a_killer(tmp_path / "in"), []
    while not codes or (codes[-1] != 0 and len(codes) < 5):
        process = ready_processes().Process(target=run_with_a_killer, args=(cohort, tmp_path / "out"))
        process.start()
        process.join()
        codes.append(process.exitcode)
        if len(codes) == 2:  # everything else is done, and in the table, before the suspect's turn
            table = pd.read_csv(tmp_path / "out" / "table.csv").set_index("id")
            assert len(table) >= 6 and set(table["state"]) == {"done"}
    assert codes == [-signal.SIGKILL] * 3 + [0]
    table = pd.read_csv(tmp_path / "out" / "table.csv").set_index("id")
    assert list(table.index[table["state"] == "failed"]) == ["xrays__0__killer"]
    assert "ended the program twice when it was alone" in table.loc["xrays__0__killer", "reason"]
    assert len(table) == 10 and (tmp_path / "out" / "summary.html").is_file()


@pytest.mark.slow
def test_a_case_that_ends_its_workers_costs_neither_the_run_nor_its_neighbours(tmp_path):
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    dask = pytest.importorskip("dask")

    class Answers(distributed.WorkerPlugin):
        def setup(self, worker):
            use_a_killer()

    cohort = cohort_with_a_killer(tmp_path / "in")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=2, memory_limit=0, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.register_plugin(Answers())
        result = run(cohort, tmp_path / "out", scheduler=cluster.scheduler_address)
    assert [row["id"] for row in result.failed] == ["xrays__0__killer"]
    assert "ended the processes that took it, alone as well" in result.failed[0]["reason"]
    assert result.done == 9 and result.is_complete


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_request_to_stop_ends_the_run_within_seconds_whatever_its_readers_do(tmp_path, workers):
    if workers != "1":
        pytest.importorskip("distributed", reason="Dask is not installed")
    write_image(tmp_path / "in" / "a.png", chest_picture())
    for name in "bcdefghi":
        write_endless(tmp_path / "in" / f"{name}.nrrd")
    arguments = ["batch", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--workers", workers]
    process = subprocess.Popen([sys.executable, "-m", "SAMLungSegLib", *arguments], cwd=REPOSITORY)
    journal = tmp_path / "out" / "journal.jsonl"
    while process.poll() is None and not (journal.exists() and '"event": "done", "id": "a"' in journal.read_text()):
        time.sleep(0.02)
    time.sleep(0.5)
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    assert time.monotonic() - start < 5
    assert pd.read_csv(tmp_path / "out" / "table.csv")["state"].tolist()[0] == "done"
    assert read_history(tmp_path / "out").deaths == {}
