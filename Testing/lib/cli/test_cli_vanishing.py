"""Output folders that vanish in the midst of studies, tuning, the demo and automatic masks, or cannot be made."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cohorts import chest_picture, use_dark_is_lung, write_image
from tuning_sets import write_set

from SAMLungSegLib import files
from SAMLungSegLib.cli import main
from SAMLungSegLib.errors import OutputError
from SAMLungSegLib.models.tuned import PromptRecipe
from SAMLungSegLib.studies.fine_tune.study import Tuned
from SAMLungSegLib.studies.zero_shot import report

SMALL_STUDY = ("--ablation-slices", "0", "--negatives", "0", "--no-cache")
OF_A_SET = {
    "zero-shot": lambda data: ["study", "zero-shot", str(data), *SMALL_STUDY],
    "quality": lambda data: ["study", "quality", str(data)],
    "fine-tune": lambda data: ["study", "fine-tune", str(data), "--device", "cpu"],
    "tune": lambda data: ["tune", "--images", str(data / "images"), "--masks", str(data / "masks"), "--device", "cpu"],
    "train": lambda data: ["train", "smoke", str(data), "--device", "cpu"],
}
OF_AN_IMAGE = {
    "demo": lambda image: ["demo", "--input", str(image)],
    "automatic": lambda image: ["automatic", str(image), "--points-per-side", "2", "--no-cache"],
}


@pytest.fixture
def data(tmp_path) -> Path:
    return write_set(tmp_path / "data", 2)


@pytest.fixture
def commands(tmp_path, data) -> dict[str, list[str]]:
    image = write_image(tmp_path / "frontal.png", chest_picture())
    of_a_set = {name: arguments(data) for name, arguments in OF_A_SET.items()}
    return of_a_set | {name: arguments(image) for name, arguments in OF_AN_IMAGE.items()}


def vanish_before(monkeypatch, folder: Path, number: int) -> None:
    """Remove `folder` just before the file of that number is begun, from 1."""
    new_file, begun = files._new_file, []

    def begin(path: Path, extension: str):
        begun.append(path)
        if len(begun) == number:
            shutil.rmtree(folder)
        return new_file(path, extension)

    monkeypatch.setattr(files, "_new_file", begin)


def run(command: list[str], output: Path, capfd) -> tuple[int, list[str]]:
    """The exit code, and what the command says in its own name."""
    code = main([*command, "-o", str(output)])
    return code, [line for line in capfd.readouterr().err.splitlines() if line.startswith("samlungseg: ")]


@pytest.mark.parametrize(
    ("name", "number"),
    [("zero-shot", 1), ("zero-shot", 3), ("demo", 1), ("demo", 2), ("automatic", 2), ("tune", 1)],
)
def test_a_folder_that_vanishes_is_an_error_in_words(tmp_path, commands, monkeypatch, capfd, name, number):
    if name in ("zero-shot", "demo"):
        use_dark_is_lung(monkeypatch)
    command = commands[name]
    if name == "tune":
        write_set(tmp_path / "data", 8)
        command = [*command, "--epochs", "1", "--batch", "8"]
    vanish_before(monkeypatch, tmp_path / "out", number)
    code, (line,) = run(command, tmp_path / "out", capfd)
    assert code == 2
    assert f"{tmp_path / 'out'}/" in line and "cannot be written: its folder does not exist" in line


def test_a_study_whose_measurements_vanish_before_its_report_is_not_done(tmp_path, commands, monkeypatch, capfd):
    use_dark_is_lung(monkeypatch)
    writable_folder = report.writable_folder

    def vanished(path: Path) -> Path:
        shutil.rmtree(path.parent)
        return writable_folder(path)

    monkeypatch.setattr(report, "writable_folder", vanished)
    code, (line,) = run(commands["zero-shot"], tmp_path / "out", capfd)
    assert code == 2
    assert "study.json and 1 more had been written and is gone" in line
    monkeypatch.undo()
    use_dark_is_lung(monkeypatch)
    assert run(commands["zero-shot"], tmp_path / "out", capfd) == (0, [])


@pytest.mark.parametrize("output", ["file/below", "x" * 300, "a\0b"], ids=["below a file", "too long", "a null"])
@pytest.mark.parametrize("name", [*OF_A_SET, *OF_AN_IMAGE])
def test_a_folder_that_cannot_be_made_is_refused_in_words(tmp_path, commands, monkeypatch, capfd, name, output):
    (tmp_path / "file").write_text("a file")
    command = commands[name]
    if name == "fine-tune":
        write_set(tmp_path / "data", 6)
        command = [*command, "--folds", "3", "--include-training-images"]
    if name in ("zero-shot", "demo"):
        use_dark_is_lung(monkeypatch)
    code, (line,) = run(command, tmp_path / output, capfd)
    assert code == 2
    assert any(words in line for words in ("give another folder", "give a folder with a shorter path"))


def test_a_decoder_of_a_study_that_vanishes_is_told_by_name(tmp_path):
    tuned = Tuned(tmp_path / "fold_2", PromptRecipe("none", ()), 0.5, {})
    with pytest.raises(OutputError, match=r"fold_2.decoder\.safetensors had been written and is gone"):
        tuned.state()
