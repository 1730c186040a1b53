"""The one writer of all files: whole or not at all, whatever the disk does and whoever else is in the folder."""

from __future__ import annotations

import ast
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from small_disks import room_for

from SAMLungSegLib import files
from SAMLungSegLib.errors import OutputError
from SAMLungSegLib.evaluation.figures import save_figure
from SAMLungSegLib.volume import LABELMAP_EXTENSIONS, Volume, write_labelmap

LIBRARY = Path(files.__file__).parent
MODULE = LIBRARY.parent / "SAMLungSeg" / "SAMLungSegSlicer"
RNG = np.random.default_rng(0)
LABELMAP = RNG.integers(0, 3, (1, 60, 120)).astype(np.uint8)
VOLUME = Volume(LABELMAP.astype(np.int16), np.diag([-1.0, -1.0, 3.0, 1.0]), "scan")
TABLE = pd.DataFrame(RNG.random((200, 3)), columns=list("abc"))


def draw(path: Path) -> None:
    figure = Figure(figsize=(1, 1), dpi=50)
    figure.add_subplot().imshow(LABELMAP[0])
    save_figure(figure, path)


def pack(path: Path) -> None:
    with files.writing(path) as file:
        np.savez(file, labels=LABELMAP)


WRITERS: dict[str, Callable[[Path], object]] = {
    **{extension: lambda path: write_labelmap(LABELMAP, VOLUME, path) for extension in LABELMAP_EXTENSIONS},
    ".figure.png": draw,
    ".csv": lambda path: files.write_csv(TABLE, path),
    ".parquet": lambda path: files.write_bytes(TABLE.to_parquet(), path),
    ".npz": pack,
    ".txt": lambda path: files.write_text("lung " * 2000, path),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_wherever_the_room_ends_the_earlier_file_stays_and_nothing_is_left(tmp_path, kind):
    path = tmp_path / f"out{kind}"
    WRITERS[kind](path)
    size_bytes = path.stat().st_size
    path.write_bytes(b"earlier")
    for room in (1, size_bytes // 3, size_bytes // 2, *range(size_bytes - 12, size_bytes)):  # the end has a checksum
        with room_for(room), pytest.raises(OutputError, match=r"out.* cannot be written"):
            WRITERS[kind](path)
        assert path.read_bytes() == b"earlier"
        assert [one.name for one in tmp_path.iterdir()] == [path.name]
    WRITERS[kind](path)
    assert path.stat().st_size == size_bytes


ON_A_FULL_DISK = """
import os, sys
sys.path.insert(0, {here!r})
from pathlib import Path
import numpy as np
from test_files import WRITERS
from SAMLungSegLib.errors import OutputError
folder, rng = Path({folder!r}), np.random.default_rng(1)
for kind, write in WRITERS.items():
    path = folder / f"out{{kind}}"
    write(path)
    whole, outcomes = path.read_bytes(), []
    for _ in range(100):
        path.write_bytes(b"earlier")
        status = os.statvfs(folder)
        left = int(rng.integers(0, 1.3 * len(whole) + 8192))
        (folder / "filling").write_bytes(bytes(max(0, status.f_bavail * status.f_frsize - left)))
        try:
            write(path)
            assert path.read_bytes() == whole, kind
        except OutputError as error:
            assert "the disk is full" in str(error), error
            assert path.read_bytes() == b"earlier", kind
            outcomes.append("refused")
        (folder / "filling").unlink()
        assert [one.name for one in folder.iterdir()] == [path.name], kind
    assert 10 < len(outcomes) < 100, (kind, len(outcomes))
    path.unlink()
"""


@pytest.mark.slow
def test_a_hundred_full_disks_leave_no_broken_file_of_any_kind(tmp_path):
    script = ON_A_FULL_DISK.format(here=str(Path(__file__).parent), folder=str(tmp_path))
    mounted = 'mount -t tmpfs -o size=512k full "$1" && exec "$2" -c "$3"'
    command = ["unshare", "-rm", "sh", "-c", mounted, "sh", str(tmp_path), sys.executable, script]
    try:
        may_mount = subprocess.run([*command[:-1], "pass"], capture_output=True).returncode == 0
    except FileNotFoundError:
        may_mount = False
    if not may_mount:
        pytest.skip("this system lets nobody but its administrator mount a small disk")
    environment = os.environ | {"PYTHONPATH": str(LIBRARY.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_files_that_belong_together_are_replaced_together_or_not_at_all(tmp_path):
    small, large = tmp_path / "card.json", tmp_path / "weights.bin"
    for path in (small, large):
        path.write_bytes(b"earlier")
    contents = {small: b"new", large: bytes(5000)}
    for order in (contents, dict(reversed(contents.items()))):
        with room_for(4000), pytest.raises(OutputError, match=r"weights.bin cannot be written"):
            files.write_together(order)
        assert small.read_bytes() == large.read_bytes() == b"earlier"
    files.write_together(contents)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == contents


def test_a_link_of_the_name_is_replaced_not_followed(tmp_path):
    theirs, path = tmp_path / "theirs.txt", tmp_path / "out.txt"
    theirs.write_text("theirs")
    path.symlink_to(theirs)
    files.write_text("ours", path)
    assert theirs.read_text() == "theirs"
    assert not path.is_symlink() and path.read_text() == "ours"


@pytest.mark.parametrize("opened", [files.open_to_append, lambda path: files.open_partial(path, 0)])
def test_files_that_grow_are_not_opened_through_a_link(tmp_path, opened):
    (tmp_path / "theirs.txt").write_text("theirs")
    (tmp_path / "growing").symlink_to(tmp_path / "theirs.txt")
    with pytest.raises(OSError, match="symbolic link"):
        opened(tmp_path / "growing")
    assert (tmp_path / "theirs.txt").read_text() == "theirs"


def test_temporary_names_differ_each_time_and_are_taken_by_nobody_else(tmp_path):
    names = set()
    for _ in range(3):
        with files.replacing(tmp_path / "out.nii.gz", lambda path: None) as temporary:
            assert temporary.parent == tmp_path and temporary.name.endswith(".nii.gz")
            assert temporary.stat().st_size == 0  # it is there already, made by us
            names.add(temporary.name)
    assert len(names) == 3


def test_a_temporary_file_that_was_swapped_is_refused(tmp_path):
    def swap() -> None:
        with files.replacing(tmp_path / "out.txt", lambda path: None) as temporary:
            temporary.unlink()
            temporary.write_text("theirs")

    with pytest.raises(OutputError, match="something else has replaced"):
        swap()
    assert not (tmp_path / "out.txt").exists()


def test_an_error_of_the_caller_is_handed_on_and_leaves_the_earlier_file(tmp_path):
    def fail() -> None:
        with files.writing(tmp_path / "out.txt") as file:
            file.write(b"half")
            raise KeyError("theirs")

    files.write_text("earlier", tmp_path / "out.txt")
    with pytest.raises(KeyError):
        fail()
    assert (tmp_path / "out.txt").read_text() == "earlier"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere/out.txt", "its folder does not exist, create it first"),
        ("file/out.txt", "its folder is a file"),
        ("x" * 256, "the name is too long"),
        ("folder", "a folder has that name"),
        ("\0", "cannot be written"),
    ],
)
def test_why_a_file_cannot_be_written_is_said_before_the_work(tmp_path, name, reason):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=reason), files.writing(tmp_path / name):
        pytest.fail("the work has begun")


def test_a_name_as_long_as_a_name_can_be_is_written(tmp_path):
    path = tmp_path / ("x" * 251 + ".txt")
    assert files.write_text("text", path).read_text() == "text"


def test_names_of_files_that_are_no_text_can_be_written_down(tmp_path):
    assert files.write_text("caf\udce9.png", tmp_path / "out.txt").read_text() == "caf\\udce9.png"


def test_leftovers_go_and_what_is_in_use_or_of_others_stays(tmp_path):
    kept = (".mine", ".x.partial", f".{'0a' * 15}.nrrd", f"{'0a' * 16}.nrrd")
    left = (f".{'0a' * 16}.seg.nrrd", f".{'0b' * 16}.part", f".{'0c' * 16}", ".x_lungs.json.12.partial")
    for name in (*kept, *left):
        (tmp_path / name).touch()
    (tmp_path / f".{'0d' * 16}.nrrd").symlink_to(tmp_path / ".mine")
    with files.writing(tmp_path / "out.txt") as file:
        files.remove_leftovers(tmp_path)
        file.write(b"text")
    assert {one.name for one in tmp_path.iterdir()} == {*kept, f".{'0d' * 16}.nrrd", "out.txt"}


def test_a_lock_of_another_process_keeps_a_file_from_being_swept_up(tmp_path):
    path = tmp_path / f".{'0a' * 16}.nrrd"
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        files.remove_leftovers(tmp_path)
        assert path.exists()
    files.remove_leftovers(tmp_path)
    assert not path.exists()


def test_what_is_appended_to_a_file_that_was_removed_is_no_success(tmp_path):
    with files.open_to_append(tmp_path / "journal") as file:
        file.write(b"one\n")
        files.sync_appended(file, tmp_path / "journal")
        (tmp_path / "journal").unlink()
        file.write(b"two\n")
        with pytest.raises(FileNotFoundError):
            files.sync_appended(file, tmp_path / "journal")


def test_whether_there_is_room_is_tried(tmp_path):
    assert files.has_room(tmp_path, 5000)
    with room_for(4000):
        assert not files.has_room(tmp_path, 5000)
    assert not files.has_room(tmp_path / "nowhere", 5000)
    assert not list(tmp_path.iterdir())


def test_missing_files_are_told_with_their_number(tmp_path):
    (tmp_path / "there").touch()
    files.check_written([tmp_path / "there"])
    with pytest.raises(OutputError, match=r"a and 1 more had been written and is gone"):
        files.check_written([tmp_path / "a", tmp_path / "there", tmp_path / "b"])


# ---- Nothing else writes

METHODS = {"write_bytes", "write_text", "touch", "tofile", "imwrite", "copyfile", "copy2", "move", "save_file"}
INTO_MEMORY = {"savefig", "imsave", "savez", "to_csv", "to_parquet", "to_json", "to_html", "to_excel"}


def is_writing(call: ast.Call) -> bool:
    """Whether a call makes or replaces a file, as far as its name and its literals tell."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    owner = call.func.value.id if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) else ""
    if name == "open":
        given = (*call.args, *(word.value for word in call.keywords))
        modes = [one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        return any(set("wax+") & set(mode) and len(mode) < 4 for mode in modes)
    if name in INTO_MEMORY:
        return bool(call.args) and getattr(call.args[0], "id", "") not in ("content", "file")
    if name in ("replace", "rename"):  # of a string has two arguments, of a dataclass is a plain name
        return owner == "os" or (isinstance(call.func, ast.Attribute) and len(call.args) == 1 and not call.keywords)
    if name == "save":
        return owner == "torch" and getattr(call.args[1], "id", "") != "content"
    return (name in METHODS and isinstance(call.func, ast.Attribute)) or name == "WriteImage"


@pytest.mark.parametrize("root", [LIBRARY, MODULE], ids=lambda root: root.name)
def test_no_other_file_of_ours_writes_files(root):
    found = []
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and is_writing(node):
                found.append(f"{path.relative_to(root)}: {ast.unparse(node)[:80]}")
    allowed = (
        "files.py",
        "volume/writing.py: sitk.WriteImage",  # within `replacing`
        "isolation/child.py: Path('/proc",  # of the system, on no disk
        "runtime/dependencies.py: constraints.write_text",  # for pip, in a folder of its own
    )
    assert [one for one in found if not one.startswith(allowed)] == []


def test_the_search_for_writing_finds_it():
    calls = ["open(p, 'wb')", "p.open('a')", "p.write_text('')", "os.replace(a, b)", "a.replace(b)", "f.savefig(path)"]
    harmless = ["open(p)", "p.open('rb')", "write_text('', p)", "'a'.replace('b', 'c')", "f.savefig(content)"]
    parsed = [ast.parse(one, mode="eval").body for one in (*calls, *harmless)]
    assert [is_writing(one) for one in parsed] == [True] * len(calls) + [False] * len(harmless)
