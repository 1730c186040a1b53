"""Every file this library writes: it appears whole or not at all.

A file is written under a random name in its own folder, brought to the disk, verified, and only then moved into place;
whatever goes wrong before leaves the earlier file as it was. Nothing else in the library opens a file for writing.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import shutil
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from SAMLungSegLib.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be deleted, which is all that the lock is for
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    import pandas as pd

_PART = ".part"
_LONGEST_NAME_BYTES = 255
_NEARLY_NOTHING_BYTES = 1 << 16
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}(\.\w+){0,2}|\..+\.\d+\.partial")  # the latter of versions up to 0.1
_NOT_FOLLOWED = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_FULL = "the disk is full, make room"
_READ_ONLY = "it is not allowed there, give another folder"
_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _FULL),
    errno.EFBIG: "no file of that size is allowed there, make room or give another folder",
    errno.ENAMETOOLONG: "the name is too long, rename the input or give a folder with a shorter path",
    errno.ENOENT: "its folder does not exist, create it first",
    errno.ENOTDIR: "its folder is a file, give another one",
    errno.EISDIR: "a folder has that name, remove it or give another name",
    errno.ELOOP: "a link has that name, remove it",
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _READ_ONLY),
}

Verify = Callable[[Path], object]


def write_bytes(content: bytes, path: Path, *, durable: bool = True) -> Path:
    """Write a file; its path.

    Args:
        content: of the file.
        path: to make or replace.
        durable: whether to return only when it is on the disk. Without, a machine that loses power may keep a part of
            it: for what carries a checksum of its own and costs nothing to lose.
    Raises:
        OutputError: it cannot be written; what was there before is unchanged.
    """
    with writing(path, durable=durable) as file:
        file.write(content)
    return path


def write_text(text: str, path: Path) -> Path:
    r"""Write a file as UTF-8, what is no text in it (of file names) as \udc80 to \udcff; its path.

    Raises:
        OutputError: as `write_bytes`.
    """
    return write_bytes(text.encode("utf-8", "backslashreplace"), path)


def write_csv(table: pd.DataFrame, path: Path) -> Path:
    """Write a table with six significant digits; its path.

    Raises:
        OutputError: as `write_bytes`.
    """
    return write_text(table.to_csv(index=False, float_format="%.6g"), path)


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together: all are on the disk before the first takes its place.

    Raises:
        OutputError: as `write_bytes`.
    """
    with contextlib.ExitStack() as files:
        for path, content in contents.items():
            file = files.enter_context(writing(path))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


@contextlib.contextmanager
def writing(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write into, which takes the place of `path` when the block ends without error.

    Raises:
        OutputError: as `write_bytes`.
    """
    with _placing(path, _PART, durable=durable) as (raw, _):
        file = io.BufferedWriter(raw)
        yield file
        file.flush()
        if os.fstat(raw.fileno()).st_size < file.tell():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def replacing(path: Path, verify: Verify) -> Iterator[Path]:
    """A temporary path beside `path`, which takes its place when the block ends and what lies there is whole.

    For libraries that take names only: some of them do not notice that a disk is full.

    Args:
        path: to make or replace; the temporary one has the same extension.
        verify: reads what was written back and raises where it is not what was meant.
    Raises:
        OutputError: as `write_bytes`, or `verify` raised.
    """
    endings = path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]
    with _placing(path, "".join(endings), verify) as (_, temporary):
        yield temporary


@contextlib.contextmanager
def _placing(
    path: Path, extension: str, verify: Verify | None = None, *, durable: bool = True
) -> Iterator[tuple[io.FileIO, Path]]:
    """A new file, open, and its name; where the block ends without error, it becomes `path`."""
    with _temporary(path, extension) as (file, temporary):
        yield file, temporary
        if durable:
            os.fsync(file.fileno())  # the system says now, if not before, that the bytes do not fit
        if not os.path.samestat(os.fstat(file.fileno()), os.lstat(temporary)):
            raise OSError(f"something else has replaced {temporary.name}")
        if verify is not None:
            _verified(temporary, verify)
        if fcntl is None:  # Windows does not move what is open
            file.close()
        os.replace(temporary, path)
        if durable:
            _sync_folder(path.parent)


@contextlib.contextmanager
def _temporary(path: Path, extension: str) -> Iterator[tuple[io.FileIO, Path]]:
    """A new file beside `path`, open, and its name; both are gone when the block ends."""
    file, temporary = _new_file(path, extension)
    try:
        yield file, temporary
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            file.close()
        with contextlib.suppress(OSError):
            temporary.unlink()


def _new_file(path: Path, extension: str) -> tuple[io.FileIO, Path]:
    """A new file beside `path` that nobody else could have put there; locked, so that it is known to be in use."""
    temporary = path.with_name(f".{uuid.uuid4().hex}{extension}")
    try:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with contextlib.suppress(FileNotFoundError):
            os.lstat(path)  # a name that is too long is refused before the work, not after
        file = _opened(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    except (OSError, ValueError) as error:
        raise cannot_write(path, error) from error
    if fcntl is not None:
        with contextlib.suppress(OSError):  # some network disks have no locks
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file, temporary


def _opened(path: Path, flags: int) -> io.FileIO:
    """A file opened without following a link of that name."""
    return io.FileIO(os.open(path, flags | _NOT_FOLLOWED, 0o666), "rb+")


def _verified(temporary: Path, verify: Verify) -> None:
    try:
        verify(temporary)
    except (OSError, RuntimeError, ValueError, EOFError, zlib.error) as error:
        raise OSError("It was cut short or changed on its way to the disk; check the disk") from error


def _sync_folder(folder: Path) -> None:
    """Bring the new name to the disk as well, where the system can."""
    with contextlib.suppress(OSError, AttributeError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def cannot_write(path: Path, error: Exception) -> OutputError:
    """What to tell the user of a file that cannot be written."""
    remedy = _REMEDIES.get(getattr(error, "errno", 0))
    reason = getattr(error, "strerror", None) or str(error)
    if remedy is not None:
        told = f"{remedy} ({reason})"
    else:  # libraries seldom say that a disk is full
        told = _FULL if _is_full(path.parent) else reason[:1].lower() + reason[1:]
    name = os.fsencode(path).decode(errors="replace")
    return OutputError(f"{name} cannot be written: {told}.")


@contextlib.contextmanager
def as_output_error(path: Path) -> Iterator[None]:
    """Errors of the system inside the block are told as of a file or folder that cannot be written."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


def _is_full(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free < _NEARLY_NOTHING_BYTES
    return False


# ---- Files that grow, and what is left of those that were not finished


def open_to_append(path: Path) -> BinaryIO:
    """A file to add to, made where there is none; a link of that name is not followed.

    Raises:
        OSError: it cannot be opened.
    """
    file = io.BufferedWriter(_opened(path, os.O_RDWR | os.O_CREAT | os.O_APPEND))
    file.seek(0, os.SEEK_END)
    return file


def sync_appended(file: BinaryIO, path: Path) -> None:
    """Bring what was added to the disk.

    Raises:
        OSError: it does not fit, or `path` is no longer that file, so that all that is in it is lost.
    """
    file.flush()
    os.fsync(file.fileno())
    if not os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
        raise FileNotFoundError(errno.ENOENT, "something else has replaced it")


def open_partial(path: Path, start: int) -> BinaryIO:
    """A file to write into from byte `start` on, made where there is none; a link of that name is not followed.

    What it holds from there on is cut away.

    Raises:
        OSError: it cannot be opened.
    """
    file = io.BufferedWriter(_opened(path, os.O_RDWR | os.O_CREAT))
    file.truncate(start)
    file.seek(start)
    return file


def move_into_place(partial: Path, path: Path) -> Path:
    """Bring a finished file to the disk and give it its name; the name.

    Raises:
        OutputError: it cannot be moved.
    """
    try:
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    _sync_folder(path.parent)
    return path


def has_room(folder: Path, size_bytes: int) -> bool:
    """Whether a file of that size can be written, at this moment."""
    try:
        with _temporary(folder / "probe", _PART) as (raw, _):
            file = io.BufferedWriter(raw)
            file.write(bytes(size_bytes))
            file.flush()
            os.fsync(raw.fileno())
    except OutputError:
        return False
    return True


def remove_leftovers(folder: Path) -> None:
    """Delete what processes that were killed had begun to write; what is being written just now stays."""
    with contextlib.suppress(OSError):
        for path in folder.glob(".*"):
            if _TEMPORARY.fullmatch(path.name) and path.is_file() and not path.is_symlink() and not _is_in_use(path):
                with contextlib.suppress(OSError):
                    path.unlink()


def _is_in_use(path: Path) -> bool:
    if fcntl is None:
        return False
    try:
        with path.open("rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no locks on this disk
        return False
    return False


# ---- Names and folders


def check_name_fits(path: Path) -> None:
    """Refuse a name that is too long for a file, before any work is done.

    Raises:
        OutputError: it is.
    """
    if len(os.fsencode(path.name)) > _LONGEST_NAME_BYTES:
        raise cannot_write(path, OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)))


def real_path(path: str | os.PathLike[str]) -> Path:
    """What a path leads to; where it leads nowhere or round in a circle, the path itself, from the root."""
    with contextlib.suppress(OSError, ValueError):
        return Path(os.path.realpath(path))
    return Path(os.path.abspath(path))


def check_writable(path: Path) -> None:
    """Refuse an output folder that could not be made, before any work is done; nothing is made yet.

    Raises:
        OutputError: it or what it would lie in is a file, or cannot be written to.
    """
    try:
        nearest = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    except (OSError, ValueError) as error:  # a name that is too long or no text
        raise cannot_write(path, error) from error
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        reason = "not writable" if nearest.is_dir() else "a file"
        raise OutputError(f"{path} cannot be an output folder, for {nearest} is {reason}; give another folder.")


def writable_folder(path: Path) -> Path:
    """The output folder `path`, made if it is not there.

    Raises:
        OutputError: as `check_writable`, or it cannot be made.
    """
    check_writable(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # the latter where a name holds a null
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"The folder {path} cannot be made ({reason}); give another folder.") from error
    return path


def check_written(files: Iterable[Path]) -> None:
    """Make sure that what was written is still there, before it is said to be done.

    Raises:
        OutputError: files are missing.
    """
    missing = [path for path in files if not path.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise OutputError(
            f"{missing[0]}{more} had been written and is gone: something has removed it meanwhile; give the same "
            "command again, and leave its output folder alone until it ends."
        )


def file_signature(files: Iterable[Path]) -> str:
    """What changes when one of `files` does: a digest of their names, sizes and times.

    Raises:
        OSError: one cannot be looked at.
    """
    digest = hashlib.sha256()
    for path in files:
        status = path.stat()
        digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]
