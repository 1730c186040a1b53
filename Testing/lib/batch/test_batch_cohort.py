"""A hundred cases, twelve of them broken: in one go, killed again and again, and on Dask workers."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from cohorts import BROKEN, run_with_dark_is_lung, use_dark_is_lung, write_cohort
from processes import ready_processes

from SAMLungSegLib.batch import run
from SAMLungSegLib.batch.table import Row

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="needs links, pipes and SIGKILL"),
]

KILLS = 12
MOST_IN_FLIGHT = 3  # one that the model answers, one that is written, one that waits for that


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    """88 sound cases and 12 broken ones."""
    return write_cohort(tmp_path_factory.mktemp("cohort") / "in", pictures=70, volumes=12, series=6, broken=BROKEN)


@pytest.fixture(scope="module")
def expected(cohort, tmp_path_factory) -> tuple[Path, pd.DataFrame]:
    """Folder and table of a run that nothing disturbed."""
    output = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        use_dark_is_lung(patch)
        result = run(cohort, output)
    return output, comparable(result.rows)


def comparable(rows: tuple[Row, ...]) -> pd.DataFrame:
    """The table without what every run has its own: times."""
    table = pd.DataFrame(rows).set_index("id")
    return table.drop(columns=[name for name in table if name.startswith("seconds")])


def files_in(output: Path) -> set[str]:
    return {path.relative_to(output).as_posix() for path in output.rglob("*")}


def events_in(output: Path) -> list[dict]:
    events = []
    path = output / "journal.jsonl"
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            events.append(json.loads(line))
        except ValueError:
            continue
    return events


def test_88_are_done_and_12_have_a_reason_of_their_own(expected):
    _, table = expected
    failed = table[table["state"] == "failed"]
    assert Counter(table["state"]) == {"done": 88, "failed": 12}
    assert sorted(failed.index) == sorted(f"broken__{kind.replace(' ', '_')}" for kind in BROKEN)
    assert failed["reason"].nunique() == 12 and failed["reason"].str.len().min() > 30


def test_killed_again_and_again_it_ends_as_if_nothing_had_been(cohort, expected, tmp_path):
    folder, table = expected
    output, chance = tmp_path / "out", random.Random(0)
    processes = ready_processes()
    for _ in range(KILLS):
        process = processes.Process(target=run_with_dark_is_lung, args=(cohort, output, 0.004))
        process.start()
        wait_for_new_cases(output, chance.randrange(8), chance.random() / 20)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
    with pytest.MonkeyPatch.context() as patch:
        use_dark_is_lung(patch)
        result = run(cohort, output)
    pd.testing.assert_frame_equal(comparable(result.rows), table)
    assert files_in(output) == files_in(folder)
    check_that_little_was_done_twice(output)


def wait_for_new_cases(output: Path, count: int, seconds: float) -> None:
    """Until so many cases more have ended, then a while."""
    wanted, stop = ended(output) + count, time.monotonic() + 60
    begun = len(events_in(output))
    while (ended(output) < wanted or len(events_in(output)) == begun) and time.monotonic() < stop:
        time.sleep(0.005)
    time.sleep(seconds)


def ended(output: Path) -> int:
    return sum(event["event"] in ("done", "failed") for event in events_in(output))


def check_that_little_was_done_twice(output: Path) -> None:
    """No case is begun after its end, and a kill costs no more than what was in flight."""
    done, begun = set(), Counter()
    for event in events_in(output):
        if event["event"] == "segmenting":
            assert event["id"] not in done
            begun[event["id"]] += 1
        elif event["event"] in ("done", "failed"):
            assert event["id"] not in done
            done.add(event["id"])
    assert len(done) == 100
    assert 0 < sum(begun.values()) - len(begun) <= KILLS * MOST_IN_FLIGHT


def test_two_workers_one_of_which_is_killed_give_the_same(cohort, expected, tmp_path):
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")

    class Answers(distributed.WorkerPlugin):
        def setup(self, worker):
            use_dark_is_lung(seconds=0.01)

    victims = []

    def kill_one(done: int, total: int) -> None:
        if done == 30:
            victims.append(next(iter(client.run(os.getpid).values())))
            os.kill(victims[0], signal.SIGKILL)

    local = distributed.LocalCluster(n_workers=2, threads_per_worker=2, memory_limit=0, dashboard_address=None)
    with local as cluster, distributed.Client(cluster) as client:
        client.register_plugin(Answers())
        result = run(cohort, tmp_path / "out", scheduler=cluster.scheduler_address, progress=kill_one)
    assert len(victims) == 1
    pd.testing.assert_frame_equal(comparable(result.rows), expected[1])
    assert files_in(tmp_path / "out") == files_in(expected[0])
    ends = Counter(event["id"] for event in events_in(tmp_path / "out") if event["event"] in ("done", "failed"))
    assert len(ends) == 100 and set(ends.values()) == {1}
