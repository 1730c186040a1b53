"""What README and docs/ show is true: options exist, and commands and Python run, on a generated chest."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from dicomfiles import ct_series, write_dicom
from snippets import (
    Block,
    blocks,
    code_in_sentences,
    commands,
    has_name,
    is_synopsis,
    names_imported,
    pages,
    parsed,
)

from SAMLungSegLib import Volume, segment
from SAMLungSegLib.cli import all_parsers, main, parser
from SAMLungSegLib.phantom import chest_ct, chest_xray

# Commands that are parsed but not run, and why.
NOT_RUN = {
    r"--model (sam|medsam)|--weights mine|models fetch|merge mine": "needs the weights of SAM",
    r"--weights (?!mine)": "needs weights that another command of the page would write",
    r"^samlungseg (adapt|study|train|tune) ": "learns or predicts for minutes",
    r" [A-Z]{3,}": "has a place for what the user has",
    r"^samlungseg (cache|models (verify|export))": "is about files in the user's own folders, or writes for long",
    r"^samlungseg demo": "takes seconds; Testing/lib/cli/test_cli.py runs it",
    r"--workers|--scheduler": "starts processes, or needs a cluster",
}
# Blocks of Python that are compiled, and whose names are looked for, but that are not run: by page and a piece of it.
PYTHON_NOT_RUN = {
    ("docs/adaptation.md", 'load_model("sam-vit-b"'): "needs the weights of SAM",
    ("docs/adaptation.md", 'BaseCheckpoint("sam-vit-b")'): "needs the weights of SAM",
    ("docs/adaptation.md", "@register_method"): "is a piece of a file; Testing/lib/adaptation run what is like it",
    ("docs/adapters.md", 'load_model("sam-vit-b")'): "needs the weights of SAM",
    ("docs/adapters.md", "@register_adapter"): "is a piece of a file; Testing/lib/adapters run what is like it",
    ("docs/cohorts.md", "import slicer"): "runs in Slicer",
    ("docs/cohorts.md", "dask_jobqueue"): "needs a cluster",
    ("docs/slicer-console.md", ""): "runs in Slicer; Testing/slicer/test_logic.py runs it",
    ("docs/slicer.md", "SampleData"): "runs in Slicer; Testing/slicer/test_sampledata.py runs it",
    ("docs/studies.md", "run_zero_shot"): "predicts for minutes; Testing/lib/studies run it",
    ("docs/usage.md", "automatic_masks"): "predicts for seconds; Testing/lib/automatic run it",
    ("docs/tuning.md", "tune("): "learns for minutes; Testing/lib/training run it",
}
NOT_OUR_OPTIONS = {"--testing"}  # Slicer's

ALL_BLOCKS = [block for page in pages() for block in blocks(page)]
ALL_COMMANDS = [(block.page, command) for block in ALL_BLOCKS for command in commands(block)]
PARSERS = {one.prog: one for one in all_parsers(parser())}
OPTIONS = {option for one in PARSERS.values() for option in one._option_string_actions}


def why_not_run(command: str) -> str | None:
    if is_synopsis(command):
        return "is a synopsis"
    return next((reason for pattern, reason in NOT_RUN.items() if re.search(pattern, command)), None)


def why_python_not_run(block: Block) -> str | None:
    return next(
        (why for (page, piece), why in PYTHON_NOT_RUN.items() if page == block.page and piece in block.text), None
    )


# ---- what is shown exists


@pytest.mark.parametrize(("page", "command"), ALL_COMMANDS)
def test_the_command_line_knows_every_command_that_is_shown(page, command, capsys):
    try:
        parsed(command)
    except SystemExit:
        pytest.fail(f"{page}: {capsys.readouterr().err}")


@pytest.mark.parametrize("page", pages())
def test_the_command_line_knows_every_option_in_a_sentence(page):
    for code in code_in_sentences(page):
        if code.startswith("samlungseg ") and not is_synopsis(code):
            words = [word for word in code.split() if not word.startswith("--")]
            known = PARSERS[next(" ".join(words[:n]) for n in (3, 2, 1) if " ".join(words[:n]) in PARSERS)]
            options = set(known._option_string_actions)
        elif code.startswith("--"):
            options = OPTIONS
        else:
            continue
        assert set(re.findall(r"(?<!\S)--[a-z][a-z-]*", code)) <= options | NOT_OUR_OPTIONS, code


@pytest.mark.parametrize("block", [one for one in ALL_BLOCKS if one.language == "python"], ids=lambda one: one.page)
def test_python_that_is_shown_compiles_and_the_library_has_its_names(block):
    compile(block.text, f"{block.page}:{block.line}", "exec")
    assert [f"{module}.{name}" for module, name in names_imported(block) if not has_name(module, name)] == []


def test_every_exception_is_still_needed():
    of_commands = [command for _, command in ALL_COMMANDS if not is_synopsis(command)]
    assert [one for one in NOT_RUN if not any(re.search(one, command) for command in of_commands)] == []
    texts = {page: "".join(one.text for one in ALL_BLOCKS if one.page == page) for page in pages()}
    assert [key for key in PYTHON_NOT_RUN if key[1] not in texts[key[0]]] == []


# ---- what is shown runs


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder with the files that the pages speak of: a generated chest of six slices, and its X-ray."""
    folder = tmp_path_factory.mktemp("pages")
    phantom = chest_ct(seed=0, size_kji=(6, 64, 64), spacing_mm=(50.0, 6.0, 6.0))
    hu, truth = (array.repeat(5, 1).repeat(5, 2) for array in (phantom.hu_kji, phantom.labelmap_kji))
    frontal = chest_xray(chest_ct(seed=0, size_kji=(48, 64, 64), spacing_mm=(6.0, 6.0, 6.0)), (512, 512))[0]
    for name, array in {"scan": hu, "reference": truth, "scans/p7": hu}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((1.2, 1.2, 50.0))
        sitk.WriteImage(image, str(folder / f"{name}.nii.gz"))
    sitk.WriteImage(sitk.GetImageFromArray(frontal), str(folder / "frontal.png"))
    write_dicom(folder / "frontal.dcm", frontal.astype(np.uint16), PatientOrientation=["L", "F"])
    for name in ("dicom-folder", "ct-folder"):
        ct_series(folder / name, hu, spacing_kji=(50.0, 1.2, 1.2))
    return folder


@pytest.fixture(scope="module")
def given(files) -> dict[str, object]:
    """What the Python of the pages takes for given, as their sentences say."""
    image = sitk.ReadImage(str(files / "scan.nii.gz"))
    labels = np.zeros((60, 40, 40), np.uint8)
    labels[:, 10:30, 10:30] = 1
    hu = np.where(labels > 0, -850, 40).astype(np.int16)
    corrected = labels[41].copy()
    corrected[20:30, 10:30] = 0
    matrix = np.diag([-1.2, -1.2, 50.0, 1.0])
    case = Volume(labels[:5], matrix, "case")
    return {
        "sitk_image": image,
        "array_kji": sitk.GetArrayFromImage(image),
        "matrix": matrix,
        "grey_slice": sitk.GetArrayFromImage(sitk.ReadImage(str(files / "frontal.png"))),
        "segmentation": segment(files / "frontal.png"),
        "read": [(case, case, case, patient) for patient in ("p1", "p2", "p3")],
        "automatic_nhw": labels,
        "hu_nhw": hu,
        "corrected_hw": corrected,
    }


def runs(block: Block) -> bool:
    """Whether anything of a block is run."""
    if block.language == "python":
        return why_python_not_run(block) is None
    return any(why_not_run(command) is None for command in commands(block))


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in pages() if any(map(runs, blocks(page)))])
def test_what_a_page_shows_runs(page, files, given, monkeypatch, capsys):
    monkeypatch.chdir(files)
    names = {**given, "__name__": "shown"}
    for block in blocks(page):
        for command in commands(block):
            if why_not_run(command) is None:
                assert main(shlex.split(command)[1:]) == 0, f"{command}\n{capsys.readouterr().err}"
        if block.language == "python" and why_python_not_run(block) is None:
            exec(compile("\n" * (block.line - 1) + block.text, page, "exec"), names)
