"""What a run has done so far, one line of JSON for each event, so that the next run goes on from there.

Lines are only ever added, and those that finish a case are on the disk before the next case counts. A line that was cut
short, because the machine stopped in the middle of it, is as good as not written.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath, PureWindowsPath
from threading import Lock
from types import TracebackType
from typing import Any, NamedTuple

import filelock

from SAMLungSegLib.batch.settings import BatchError
from SAMLungSegLib.documents import DocumentError, is_matrix, parse_json, read_bytes
from SAMLungSegLib.files import open_to_append, sync_appended

logger = logging.getLogger(__name__)

JOURNAL_NAME = "journal.jsonl"
_MOST_BYTES = 1 << 30
_LOCK_NAME = ".journal.lock"

RUN, READING, SEGMENTING, DONE, FAILED = "run", "reading", "segmenting", "done", "failed"
STOPPED = "stopped"  # in an orderly way: what was begun is to be done, and not to blame


@dataclass(frozen=True)
class Entry:
    """How a case ended last.

    Attributes:
        state: 'done' or 'failed'.
        fingerprint: of the settings, see `Settings.fingerprint`.
        stamp: of the image's files.
        image: SHA-256 and matrix of the image, where it was read.
        files: results by kind, relative to the output folder.
        row: of the table.
        labelmap_sha256: of the labelmap's voxels, see `voxels_sha256`; None where the case failed, and of earlier
            versions.
    """

    state: str
    fingerprint: str
    stamp: str
    image: dict[str, Any] | None
    files: dict[str, str]
    row: dict[str, Any]
    labelmap_sha256: str | None = None


_ENTRY_FIELDS = {field.name for field in fields(Entry)} - {"state", "labelmap_sha256"}


class Deaths(NamedTuple):
    """How often a run ended, in no orderly way, while it was at a case.

    Attributes:
        runs: that ended so.
        alone: of them, those that were at nothing else.
    """

    runs: int = 0
    alone: int = 0

    @property
    def is_proven(self) -> bool:
        """Whether the case is what ended them: once may be a machine that stopped, or someone who killed the run."""
        return self.alone > 1


NO_DEATHS = Deaths()


@dataclass(frozen=True)
class History:
    """What a journal tells.

    Attributes:
        entries: how each case ended last, by id.
        deaths: of the runs that ended at a case which has not ended since, by its id.
    """

    entries: dict[str, Entry]
    deaths: dict[str, Deaths]

    @property
    def unfinished(self) -> set[str]:
        """Cases that were begun and did not end."""
        return set(self.deaths)


def read_history(folder: Path) -> History:
    """What the journal of an output folder tells; nothing where there is none.

    Raises:
        BatchError: it cannot be read.
    """
    history = History({}, {})
    begun: dict[str, bool] = {}  # whether alone, by id
    for event in _events(folder / JOURNAL_NAME):
        _take(event, history, begun)
    _count_deaths(history, begun)
    return history


def _take(event: dict[str, Any], history: History, begun: dict[str, bool]) -> None:
    """Add what one line tells."""
    kind, case = event["event"], event.get("id")
    if kind in (READING, SEGMENTING):
        begun[case] = event.get("alone") is True
    elif kind in (DONE, FAILED):
        begun.pop(case, None)
        history.deaths.pop(case, None)
        history.entries[case] = Entry(
            kind, **{name: event[name] for name in _ENTRY_FIELDS}, labelmap_sha256=event.get("labelmap_sha256")
        )
    elif kind == STOPPED:
        begun.clear()
    elif kind == RUN:
        _count_deaths(history, begun)


def _count_deaths(history: History, begun: dict[str, bool]) -> None:
    """A run has ended at these cases."""
    for case, is_alone in begun.items():
        deaths = history.deaths.get(case, NO_DEATHS)
        history.deaths[case] = Deaths(deaths.runs + 1, deaths.alone + is_alone)
    begun.clear()


def _events(path: Path) -> Iterator[dict[str, Any]]:
    """The lines that this program can have written; that there are others is said once."""
    try:
        content = read_bytes(path, most_bytes=_MOST_BYTES) if os.path.lexists(path) else b""
    except DocumentError as error:
        raise BatchError(f"{error}; give another output folder.") from error
    damaged = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            event = parse_json(line, "the line")
        except DocumentError:
            event = None
        if _is_event(event):
            yield event
        else:
            damaged.append(number)
    if damaged:
        logger.warning("%s: %d damaged lines do not count, the first is line %d.", path, len(damaged), damaged[0])


def _is_event(event: Any) -> bool:
    """Whether a line tells something, in full."""
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return False
    kind = event["event"]
    if kind in (READING, SEGMENTING, DONE, FAILED) and not isinstance(event.get("id"), str):
        return False
    return kind not in (DONE, FAILED) or _is_end(event)


def _is_end(event: dict[str, Any]) -> bool:
    image, files = event.get("image"), event.get("files")
    return (
        event.keys() >= _ENTRY_FIELDS
        and isinstance(event["fingerprint"], str)
        and isinstance(event["stamp"], str)
        and isinstance(event["row"], dict)
        and isinstance(files, dict)
        and all(_is_inside(file) for file in files.values())
        and (image is None or _is_image(image))
    )


def _is_image(image: Any) -> bool:
    return isinstance(image, dict) and isinstance(image.get("sha256"), str) and is_matrix(image.get("ijk_to_ras"))


def _is_inside(file: Any) -> bool:
    """Whether it is the name of a file in the output folder."""
    if not isinstance(file, str) or not file or "\0" in file:
        return False
    is_relative = not PurePosixPath(file).is_absolute() and not PureWindowsPath(file).anchor
    return is_relative and ".." not in PureWindowsPath(file).parts


class Journal:
    """The journal of an output folder, open for one run at a time.

    Attributes:
        folder: of the run.
        history: what it tells of this run and earlier ones.
        finished: cases that ended in this run.
    """

    def __init__(self, folder: Path) -> None:
        """Take the folder, which exists.

        Raises:
            BatchError: another run writes to it, or the journal cannot be written.
        """
        self.folder = folder
        self._lock = filelock.FileLock(folder / _LOCK_NAME)
        self._turn = Lock()
        try:
            self._lock.acquire(timeout=0)
            self._file = open_to_append(folder / JOURNAL_NAME)
            self.history = read_history(folder)
        except filelock.Timeout as error:
            raise BatchError(
                f"Another run is writing to {folder}; wait for it, or give another output folder."
            ) from error
        except (OSError, BatchError) as error:
            self._lock.release()
            reason = getattr(error, "strerror", error)
            raise BatchError(f"{folder} cannot be used for results ({reason}); give another folder.") from error
        self.finished: set[str] = set()
        if self._file.tell():
            self._file.write(b"\n")  # ends a line that was cut short; empty lines do not count

    def finish(self, case: str, entry: Entry) -> None:
        """Add how a case ended; when this returns, it is on the disk.

        Raises:
            BatchError: as `append`.
        """
        about, is_written = asdict(entry), True
        try:
            self.append(about.pop("state"), case, safely=True, **about)
        except BatchError:
            is_written = False
            raise
        finally:  # also where a request to stop comes while the line, which counts, is on its way to the disk
            if is_written:
                self.history.entries[case] = entry
                self.finished.add(case)

    def append(self, event: str, case: str | None = None, *, safely: bool = False, **about: Any) -> None:
        """Add one line.

        Args:
            event: what happened.
            case: id of the case that it happened to.
            safely: whether to return only when the line is on the disk.
            about: more about it.
        Raises:
            BatchError: the disk is full or gone.
        """
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = json.dumps({"event": event, "id": case, "at": now, **about}, allow_nan=False)
        try:
            with self._turn:
                self._file.write(line.encode() + b"\n")
                self._file.flush()
                if safely:
                    sync_appended(self._file, self.folder / JOURNAL_NAME)
        except OSError as error:
            raise BatchError(
                f"The journal in {self.folder} cannot be written ({error.strerror}); make room, and give the same "
                "command again to go on."
            ) from error

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except OSError:  # what could not be written was told when it was
            logger.debug("the journal could not be flushed", exc_info=True)
        finally:
            self._lock.release()
