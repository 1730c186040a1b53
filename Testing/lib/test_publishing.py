"""What is published besides code: wheel and source archive, the extension's entry, citation, workflows, forms."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

import SAMLungSegLib
from SAMLungSegLib.cli import parser
from SAMLungSegLib.models.registry import MODELS

yaml = pytest.importorskip("yaml", reason="Dask, which brings PyYAML, is not installed")

REPOSITORY = Path(__file__).resolve().parents[2]
HOME = "https://github.com/SAMLungSeg/SlicerSAMLungSeg"
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
FORMS = [REPOSITORY / ".github" / "ISSUE_TEMPLATE" / name for name in ("bug.yml", "feature.yml")]


# ---- wheel and source archive


def build(kind: str, source: Path, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    pytest.importorskip("hatchling", reason="hatchling is not installed")
    return build("wheel", REPOSITORY, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def metadata(wheel) -> Message:
    with zipfile.ZipFile(wheel) as file:
        (name,) = [name for name in file.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_string(file.read(name).decode())


def files_of(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as file:
        return {name for name in file.namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_the_package_the_bundled_model_and_nothing_else(wheel):
    sources = (REPOSITORY / "SAMLungSegLib").rglob("*")
    package = {
        path.relative_to(REPOSITORY).as_posix()
        for path in sources
        if path.is_file() and path.name != "CMakeLists.txt" and "__pycache__" not in path.parts
    }
    models = {f"SAMLungSegLib/_resources/Models/{path.name}" for path in (REPOSITORY / "Resources/Models").iterdir()}
    assert files_of(wheel) == package | models


def test_the_source_archive_builds_the_same_wheel(wheel, tmp_path):
    archive = build("sdist", REPOSITORY, tmp_path / "sdist")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert not (unpacked / "Testing" / "models").exists()  # weights for trials
    again = build("wheel", unpacked, tmp_path / "wheel")
    assert again.name == wheel.name == f"samlungseg-{SAMLungSegLib.__version__}-py3-none-any.whl"
    assert files_of(again) == files_of(wheel)


def test_the_metadata_name_licences_pythons_and_addresses(metadata):
    assert metadata["Name"] == "samlungseg"
    assert metadata["Version"] == SAMLungSegLib.__version__
    assert metadata["License-Expression"] == "Apache-2.0 AND CC-BY-NC-SA-4.0"
    assert "CC BY-NC-SA 4.0" in MODELS["lung-compact"].licence
    assert all(address.split(", ")[1].startswith(HOME) for address in metadata.get_all("Project-URL"))
    minors = re.findall(r"Python :: 3\.(\d+)", " ".join(metadata.get_all("Classifier")))
    assert metadata["Requires-Python"] == f"<3.{int(minors[-1]) + 1},>=3.{minors[0]}"


def test_the_page_of_the_package_has_no_link_that_leads_nowhere_there(metadata):
    links = re.findall(r"\]\(([^)]+)\)", metadata.get_payload())
    assert len(links) > 10
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    paths = [re.sub(rf"{HOME}/blob/main/|https://raw.*?/main/|#.*", "", link) for link in links]
    assert [path for path in paths if not path.startswith("https:") and not (REPOSITORY / path).exists()] == []


def test_an_unpacked_wheel_runs_anywhere(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site"), "SAMLUNGSEG_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "SAMLungSegLib", "models", "verify", "lung-compact"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "lung-compact" in done.stdout and "ok" in done.stdout


# ---- the entry of the Extensions Index


def of_cmake() -> dict[str, str]:
    text = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"set\(EXTENSION_(\w+) \"([^\"]*)\"\)", text)) | dict(
        re.findall(r"\b(project)\((\w+)\)", text)
    )


def test_the_entry_and_the_cmake_list_agree():
    entry = json.loads((REPOSITORY / "SAMLungSeg.json").read_bytes())
    cmake = of_cmake()
    assert cmake["project"] == "SAMLungSeg"  # the name of the entry's file
    assert entry["build_dependencies"] == cmake["DEPENDS"].split()
    assert entry["scm_url"] == HOME and cmake["HOMEPAGE"] == f"{HOME}#readme"
    raw = f"https://raw.githubusercontent.com/SAMLungSeg/SlicerSAMLungSeg/{entry['scm_revision']}/"
    assert all(address.startswith(raw) for address in [cmake["ICONURL"], *cmake["SCREENSHOTURLS"].split()])


def test_the_entry_has_the_keys_of_the_indexs_schema_and_line_feeds_only():
    content = (REPOSITORY / "SAMLungSeg.json").read_bytes()
    entry = json.loads(content)
    required, optional = (
        {"$schema", "category", "scm_url"},
        {"scm_revision", "build_dependencies", "build_subdirectory"},
    )
    assert required <= entry.keys() <= required | optional | {"tier"}
    assert entry["category"] == "Segmentation" and 1 <= entry["tier"] <= 5
    assert b"\r" not in content


def test_the_extensions_description_names_both_licences():
    description = of_cmake()["DESCRIPTION"]
    assert "Apache-2.0" in description and MODELS["lung-compact"].licence.partition(",")[0] in description
    assert "research" in description


# ---- citation, workflows, forms


def load(path: Path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_citation_has_what_its_format_requires_and_this_version():
    citation = load(REPOSITORY / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["version"] == SAMLungSegLib.__version__
    assert citation["repository-code"] == HOME
    assert all(author.keys() == {"name"} for author in citation["authors"])


def commands(workflow: dict) -> list[str]:
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    return [line.strip() for step in steps for line in step.get("run", "").splitlines() if line.strip()]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_calls_what_is_there(path):
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    known = parser()._subparsers._group_actions[0].choices
    extras = re.findall(r"^(\w+) = \[", (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    said = commands(load(path))
    assert said
    for command in said:
        if command.startswith("make "):
            assert command.split()[1] in targets
        if command.startswith("samlungseg ") and "--version" not in command:
            assert shlex.split(command)[1] in known
        assert set(re.findall(r"\.\[(\w+)\]", command)) <= set(extras)
        for folder in re.findall(r"(?<![\w/.-])(?:Testing|SAMLungSeg|SegmentEditorSAMLungs)(?:/\w+)*(?= |$)", command):
            assert (REPOSITORY / folder).is_dir(), folder


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_only_read_and_ends(path):
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 90 for job in workflow["jobs"].values())


def test_tests_run_on_every_system_and_python_that_is_promised(metadata):
    jobs = load(REPOSITORY / ".github" / "workflows" / "tests.yml")["jobs"]
    promised = re.findall(r"Python :: (3\.\d+)", " ".join(metadata.get_all("Classifier")))
    assert all(job["strategy"]["matrix"]["python"] == promised for job in jobs.values())
    assert jobs["linux"]["runs-on"] == "ubuntu-latest"
    assert jobs["others"]["strategy"]["matrix"]["os"] == ["windows-latest", "macos-latest"]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_asks_each_thing_once_and_requires_what_matters(path):
    form = load(path)
    assert form["name"] and form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    ids = [field["id"] for field in fields]
    assert len(ids) == len(set(ids))
    assert all(field["attributes"]["label"] for field in fields)
    assert fields[0]["validations"]["required"]


def test_the_hooks_before_a_commit_are_those_of_make_lint():
    (local,) = load(REPOSITORY / ".pre-commit-config.yaml")["repos"]
    assert [hook["id"] for hook in local["hooks"]] == ["ruff", "ruff-format", "mypy"]
