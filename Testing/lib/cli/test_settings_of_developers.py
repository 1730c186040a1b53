"""Tests read no settings but their own, whatever the developer has in the working folder or for all folders."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest

from SAMLungSegLib.cli import main
from SAMLungSegLib.cli.config import config_file

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def developer(tmp_path, monkeypatch) -> Path:
    """A working folder and a settings folder whose files would stop every command."""
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "SAMLungSeg").mkdir()
    for folder in (tmp_path, tmp_path / "SAMLungSeg"):
        (folder / "samlungseg.toml").write_text("[broken")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_developers_settings_are_read_in_no_process_of_a_test(developer, capsys):
    assert config_file(["models", "list"]) is None
    assert main(["models", "list"]) == 0
    assert capsys.readouterr().err == ""
    with get_context("spawn").Pool(1) as pool:
        assert pool.apply(config_file, (["models", "list"],)) is None
    command = [sys.executable, "-m", "SAMLungSegLib", "models", "list"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    assert subprocess.run(command, env=environment, cwd=developer, capture_output=True).returncode == 0
    del environment["SAMLUNGSEG_NO_CONFIG"]
    assert subprocess.run(command, env=environment, cwd=developer, capture_output=True).returncode == 2


def test_a_file_that_is_named_is_read_all_the_same(developer):
    assert config_file(["models", "list", "--config", "samlungseg.toml"]) == (Path("samlungseg.toml"), True)


def test_every_process_that_tests_start_inherits_what_keeps_the_settings_away():
    bare = re.compile(r"env=\{(?!\s*\*\*os\.environ)")
    files = [path for path in (REPOSITORY / "Testing").rglob("*.py") if path != Path(__file__)]
    assert [path.name for path in files if bare.search(path.read_text(encoding="utf-8"))] == []
