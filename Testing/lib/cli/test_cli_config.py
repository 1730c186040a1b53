"""Options from samlungseg.toml: which file, which table, what the command line takes back; and shell completion."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from SAMLungSegLib import cli
from SAMLungSegLib.cli import all_parsers, main, parser


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A working folder; the user has no settings, but could have them in a folder beside it."""
    monkeypatch.delenv("SAMLUNGSEG_NO_CONFIG")
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_, **__: tmp_path / "user")
    (tmp_path / "work").mkdir()
    (tmp_path / "user").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def parsed(*arguments: str) -> argparse.Namespace:
    return cli._parsed(arguments)


def refusal(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        parsed(*arguments)
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    return told


SEGMENT = ("segment", "x.nrrd", "-o", "out")


def test_without_a_file_options_are_as_ever(here, capsys):
    one = parsed(*SEGMENT)
    assert (one.threshold, one.device, one.overlay, one.from_file) == (0.5, "auto", False, frozenset())
    assert capsys.readouterr().err == ""


def test_the_command_line_wins_over_its_table_which_wins_over_defaults(here, capsys):
    (here / "samlungseg.toml").write_text(
        '[defaults]\nthreshold = 0.3\ndevice = "cpu"\nevery = 2\n'
        "[segment]\nthreshold = 0.4\nevery = 3\noverlay = true\n"
    )
    one = parsed(*SEGMENT, "--every", "5")
    assert (one.threshold, one.device, one.every, one.overlay) == (0.4, "cpu", 5, True)
    assert capsys.readouterr().err == ("samlungseg: samlungseg.toml gives --threshold 0.4, --device cpu, --overlay.\n")
    assert parsed("batch", "in", "-o", "out").threshold == 0.3
    assert not hasattr(parsed("models", "list"), "threshold")


def test_a_flag_of_the_file_is_taken_back_by_its_opposite(here):
    (here / "samlungseg.toml").write_text("[segment]\noverlay = true\nno-cache = true\noverwrite = false\n")
    one = parsed(*SEGMENT, "--no-overlay", "--cache")
    assert (one.overlay, one.no_cache, one.overwrite) == (False, False, False)
    one = parsed(*SEGMENT)
    assert (one.overlay, one.no_cache, one.overwrite) == (True, True, False)


def test_a_table_takes_back_a_flag_of_defaults(here, tmp_path):
    (tmp_path / "user" / "samlungseg.toml").write_text("[defaults]\noverwrite = true\n[segment]\noverwrite = false\n")
    assert parsed(*SEGMENT).overwrite is False and parsed("tune", "--images", "a", "--masks", "b", "-o", "c").overwrite


def test_lists_of_the_command_line_replace_those_of_the_file(here):
    (here / "samlungseg.toml").write_text('[segment]\npoint = ["1,2,+", "3,4,-"]\n[compare]\nnames = ["old", "new"]\n')
    assert parsed(*SEGMENT).point == ["1,2,+", "3,4,-"]
    assert parsed(*SEGMENT, "--point", "5,6,+").point == ["5,6,+"]
    assert parsed("compare", "a", "b", "c", "-o", "out").names == ["old", "new"]


def test_what_a_command_needs_may_come_from_the_file_relative_to_it(here, tmp_path):
    (tmp_path / "project").mkdir()
    file = tmp_path / "project" / "own.toml"
    file.write_text('[segment]\noutput = "results"\nweights = "/data/own.safetensors"\n')
    one = parsed("segment", "x.nrrd", "--config", str(file))
    assert one.output == tmp_path / "project" / "results" and one.weights == Path("/data/own.safetensors")
    assert parsed("segment", "x.nrrd", f"--config={file}", "-o", "here").output == Path("here")


def test_a_file_here_comes_before_that_of_the_user_and_none_can_be_asked_for(here, tmp_path):
    (tmp_path / "user" / "samlungseg.toml").write_text("[defaults]\nevery = 7\n")
    assert parsed(*SEGMENT).every == 7
    (here / "samlungseg.toml").write_text("[defaults]\nthreshold = 0.7\n")
    one = parsed(*SEGMENT)
    assert (one.every, one.threshold) == (1, 0.7)
    assert parsed(*SEGMENT, "--no-config").threshold == 0.5
    assert parsed("--no-config", *SEGMENT).threshold == 0.5


OF_SOMEBODY = '[defaults]\noverwrite = true\nthreshold = 0.4\n[batch]\nscheduler = "tcp://10.0.0.9:8786"\n'


def test_a_file_that_only_lies_here_neither_replaces_files_nor_sends_the_work_elsewhere(here, capsys):
    (here / "samlungseg.toml").write_text(OF_SOMEBODY)
    one = parsed(*SEGMENT)
    assert (one.overwrite, one.threshold, one.from_file) == (False, 0.4, {"threshold"})
    assert capsys.readouterr().err == (
        "samlungseg: samlungseg.toml gives --threshold 0.4. --overwrite of samlungseg.toml is passed over, for the "
        "file only lies here: give --overwrite yourself, or --config samlungseg.toml.\n"
    )
    assert parsed("batch", "in", "-o", "out").scheduler is None
    assert "--scheduler of samlungseg.toml is passed over" in capsys.readouterr().err
    assert parsed("tune", "--images", "a", "--masks", "b", "-o", "c").overwrite is None


def test_the_file_of_the_user_and_one_that_is_named_decide_everything(here, tmp_path, capsys):
    (here / "samlungseg.toml").write_text(OF_SOMEBODY)
    named = ("--config", "samlungseg.toml")
    assert parsed(*SEGMENT, *named).overwrite is True
    assert parsed("batch", "in", "-o", "out", *named).scheduler == "tcp://10.0.0.9:8786"
    (here / "samlungseg.toml").rename(tmp_path / "user" / "samlungseg.toml")
    assert parsed(*SEGMENT).overwrite is True
    assert "passed over" not in capsys.readouterr().err


def test_what_is_passed_over_is_not_told_to_whoever_says_it_and_is_read_all_the_same(here, capsys):
    (here / "samlungseg.toml").write_text("[segment]\noverwrite = true\n")
    assert parsed(*SEGMENT, "--overwrite").overwrite is True
    assert capsys.readouterr().err == ""
    (here / "samlungseg.toml").write_text("[segment]\noverwrite = false\n")
    assert parsed(*SEGMENT).overwrite is False
    assert capsys.readouterr().err == ""
    (here / "samlungseg.toml").write_text('[segment]\noverwrite = "yes"\n')
    assert "overwrite is 'yes'; expected true or false" in refusal(capsys, *SEGMENT)


def test_tables_of_subcommands_within_subcommands_have_their_path(here):
    (here / "samlungseg.toml").write_text("[study.zero-shot]\nlimit = 3\n[study.fine-tune]\nepochs = 2\n")
    assert parsed("study", "zero-shot", "data", "-o", "out").limit == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[segment]\ntreshold = 0.4\n", ("[segment]", "'treshold'", "did you mean 'threshold'", "lungs")),
        ("[defaults]\nnothing = 1\n", ("[defaults]", "'nothing'", "device")),
        ("[segments]\nthreshold = 0.4\n", ("[segments] is not known", "[segment]", "[defaults]")),
        ("[study]\nlimit = 3\n", ("[study]", "limit", "verbose")),
        ("threshold = 0.4\n", ("'threshold' outside all tables", "[segment]")),
        ('[segment]\nthreshold = "high"\n', ("[segment] threshold is 'high'; expected a number",)),
        ("[segment]\nthreshold = true\n", ("threshold is True; expected a number",)),
        ("[segment]\nevery = 1.5\n", ("every is 1.5; expected a whole number",)),
        ("[batch]\nworkers = 0\n", ("[batch] workers: '0' is not a whole number from 1 on",)),
        ('[segment]\noverlay = "yes"\n', ("overlay is 'yes'; expected true or false",)),
        ("[segment]\nwindow = 3\n", ("window is 3; expected text",)),
        ('[segment]\nlungs = "middle"\n', ("lungs is 'middle'; expected one of both, left, right",)),
        ('[segment]\npoint = "1,2,+"\n', ("point is '1,2,+'; expected a list",)),
        ('[compare]\nnames = ["a"]\n', ("names is ['a']; expected a list of 2",)),
        ("[segment]\ninputs = 3\n", ("no option 'inputs'",)),
        ("[segment\n", ("is not TOML",)),
    ],
)
def test_what_no_command_takes_is_refused_with_file_key_and_what_is_possible(here, capsys, content, words):
    (here / "samlungseg.toml").write_text(content)
    told = refusal(capsys, "models", "list")
    assert all(word in told for word in ("samlungseg.toml", *words)), told


def test_a_file_that_is_not_there_and_abbreviations_are_refused(here, capsys):
    assert "absent.toml is no file" in refusal(capsys, *SEGMENT, "--config", "absent.toml")
    assert "--config is abbreviated" in refusal(capsys, *SEGMENT, "--conf", "absent.toml")


def test_options_of_the_file_are_in_the_provenance_and_a_replay_passes_them_over(here, capsys):
    grey = np.random.default_rng(0).integers(0, 200, (64, 64), np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(grey), "x.png")
    (here / "samlungseg.toml").write_text('[segment]\nthreshold = 0.4\nlungs = "right"\n')
    assert main(["segment", "x.png", "-o", "out"]) == 0
    assert capsys.readouterr().err.count("samlungseg.toml gives --lungs right, --threshold 0.4.") == 1
    made = json.loads((here / "out" / "x_lungs.json").read_text())["options"]
    assert (made["threshold"], made["lungs"]) == (0.4, "right")
    (here / "samlungseg.toml").write_text("[segment]\nthreshold = 0.9\n")
    assert main(["segment", "--replay", "out/x_lungs.json", "-o", "again"]) == 0
    assert json.loads((here / "again" / "x_lungs.json").read_text())["options"]["threshold"] == 0.4


def test_help_states_what_the_file_says(here, capsys):
    (here / "samlungseg.toml").write_text("[segment]\nthreshold = 0.4\n")
    with pytest.raises(SystemExit):
        parsed("segment", "--help")
    assert "default: 0.4" in " ".join(capsys.readouterr().out.split())


def test_the_example_of_the_docs_is_one(here, capsys):
    usage = (Path(cli.__file__).parents[2] / "docs" / "usage.md").read_text(encoding="utf-8")
    (here / "samlungseg.toml").write_text(usage.partition("```toml\n")[2].partition("```")[0])
    one = parsed("batch", "in", "-o", "out", "--device", "cpu")
    assert (one.window, one.device, one.overlays, one.workers) == ("1600/-550", "cpu", "full", 4)


# ---- completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_the_script_of_a_shell_knows_all_subcommands(capsys, shell):
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit) as stop:
        main(["--print-completion", shell])
    script = capsys.readouterr().out
    names = {word for one in all_parsers(parser()) for word in one.prog.split()[1:]}
    assert stop.value.code == 0 and {"segment", "zero-shot"} <= names
    assert all(name in script for name in names) and "--print-completion" in script


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_a_subcommand_an_option_and_a_choice(tmp_path, capsys):
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit):
        main(["--print-completion", "bash"])
    (tmp_path / "script").write_text(capsys.readouterr().out)
    for words, expected in (
        (["samlungseg", "seg"], "segment"),
        (["samlungseg", "segment", "--over"], "--overlay"),
        (["samlungseg", "segment", "--lungs", "ri"], "right"),
    ):
        code = (
            f"source {tmp_path / 'script'}; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
            "$(complete -p samlungseg | sed 's/.*-F \\([^ ]*\\).*/\\1/') ; printf '%s\\n' \"${COMPREPLY[@]}\""
        )
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, cwd=tmp_path)
        assert expected in done.stdout.split(), (words, done)


def test_completion_without_shtab_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit) as stop:
        main(["--print-completion", "bash"])
    assert stop.value.code == 2 and "samlungseg[completion]" in capsys.readouterr().err
