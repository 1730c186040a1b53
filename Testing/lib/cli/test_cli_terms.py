"""The terms of the bundled weights on the command line: said once, on stderr, and nothing stops."""

from __future__ import annotations

import pytest
import SimpleITK as sitk  # noqa: N813

from SAMLungSegLib import load_model
from SAMLungSegLib.cli import main
from SAMLungSegLib.models.choice import forget_models
from SAMLungSegLib.models.terms import ACCEPT_VARIABLE, set_before_use
from SAMLungSegLib.phantom import chest_ct

SAID = "samlungseg: The bundled weights of lung-compact are licensed under CC BY-NC-SA 4.0, research use only"


@pytest.fixture(autouse=True)
def new_user(tmp_path, monkeypatch):
    """With an empty cache folder, and no model in memory before and after."""
    monkeypatch.delenv(ACCEPT_VARIABLE, raising=False)
    monkeypatch.setenv("SAMLUNGSEG_CACHE", str(tmp_path / "cache"))
    before = set_before_use(None)
    forget_models()
    yield
    forget_models()
    set_before_use(before)


@pytest.fixture
def segment(tmp_path):
    """Runs the command; its exit code."""
    image = sitk.GetImageFromArray(chest_ct(seed=0, size_kji=(4, 96, 96), spacing_mm=(70.0, 4.0, 4.0)).hu_kji)
    image.SetSpacing((4, 4, 70))
    sitk.WriteImage(image, str(tmp_path / "scan.nii.gz"))

    def run() -> int:
        forget_models()  # as another process
        return main(["segment", str(tmp_path / "scan.nii.gz"), "-o", str(tmp_path / "out"), "--overwrite"])

    return run


def test_they_are_said_once_to_a_user_and_stop_nothing(segment, tmp_path, capsys):
    assert segment() == 0
    first = capsys.readouterr()
    assert first.err.count(SAID) == 1 and "This is said once." in first.err
    assert "licensed" not in first.out
    assert (tmp_path / "out" / "scan_lungs.seg.nrrd").is_file()
    assert segment() == 0
    assert "licensed" not in capsys.readouterr().err


def test_terms_that_have_changed_are_said_again(segment, tmp_path, capsys):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "terms-lung-compact.txt").write_bytes(b"\xff other terms")
    assert segment() == 0
    assert capsys.readouterr().err.count(SAID) == 1


def test_where_nothing_can_be_kept_they_are_said_each_time(segment, tmp_path, capsys):
    (tmp_path / "cache").write_text("a file where the folder should be", encoding="utf-8")
    for _ in range(2):
        assert segment() == 0
        assert capsys.readouterr().err.count(SAID) == 1


def test_whoever_accepted_by_the_variable_is_told_nothing(segment, monkeypatch, capsys):
    monkeypatch.setenv(ACCEPT_VARIABLE, "1")
    assert segment() == 0
    assert "licensed" not in capsys.readouterr().err


def test_the_library_alone_and_commands_without_the_weights_say_nothing(tmp_path, capsys):
    assert main(["models", "list"]) == 0
    load_model("lung-compact", device="cpu")
    assert "licensed" not in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()
