"""The site of `make docs`: built without a warning, every page is in it, every link leads somewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="the extra 'docs' is not installed")
pytest.importorskip("mkdocstrings", reason="the extra 'docs' is not installed")

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "Testing" / "tools"))
from site_docstrings import separated_sections  # noqa: E402
from site_hooks import SOURCES, reference_pages, with_links_of_site  # noqa: E402
from site_links import check_site  # noqa: E402

AT = "https://example.org/repository"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_every_page_is_in_the_site_and_in_its_navigation(site):
    navigation = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    pages = {path.relative_to(REPOSITORY / "docs").as_posix() for path in (REPOSITORY / "docs").rglob("*.md")}
    assert sorted(page for page in pages | SOURCES.keys() if f": {page}\n" not in navigation) == []
    built = pages | SOURCES.keys() | reference_pages().keys()
    assert [page for page in built if not (site / page).with_suffix(".html").is_file()] == []


@pytest.mark.slow
def test_every_link_of_the_site_leads_somewhere(site):
    problems, outside = check_site(site)
    assert problems == []
    assert any(target.endswith("/blob/main/LICENSE.txt") for target in outside)


@pytest.mark.slow
def test_the_reference_has_the_public_names_with_what_they_take_and_raise(site):
    page = (site / "api" / "pipeline.html").read_text(encoding="utf-8")
    assert 'id="SAMLungSegLib.pipeline.volume.segment"' in page
    assert page.count('id="SAMLungSegLib.pipeline.volume.Segmentation"') == 1
    assert "Raises: " not in page  # sections that griffe took for text
    assert "volume.html#SAMLungSegLib.volume.types.Volume" in (site / "api" / "index.html").read_text(encoding="utf-8")


def test_links_lead_from_page_to_page_or_else_to_the_repository():
    def of(page: str, markdown: str) -> str:
        text, missing = with_links_of_site(markdown, page, AT)
        assert missing == []
        return text

    assert of("index.md", "[a](docs/usage.md#segment) ![b](docs/images/corrections.png)") == (
        "[a](usage.md#segment) ![b](images/corrections.png)"
    )
    assert of("usage.md", "[a](../README.md), [b](cohorts.md)") == "[a](index.md), [b](cohorts.md)"
    assert of("usage.md", "[a](../LICENSE.txt) [b](../Resources/Studies)") == (
        f"[a]({AT}/blob/main/LICENSE.txt) [b]({AT}/tree/main/Resources/Studies)"
    )
    assert of("lung-compact.md", "[a](../../docs/model.md)") == "[a](model.md)"


def test_addresses_places_and_code_stay_as_they_are():
    text = "[a](https://a.org/x) [b](#here)\n```\n[c](../README.md)\n```\n"
    assert with_links_of_site(text, "usage.md", AT) == (text, [])


def test_a_link_that_is_nowhere_in_the_repository_is_named():
    assert with_links_of_site("[a](api/index.md)", "usage.md", AT)[1] == ["api/index.md"]


def test_what_leads_nowhere_in_a_site_is_said(tmp_path):
    (tmp_path / "404.html").write_text("<a href='/nowhere.html'>")
    (tmp_path / "a.html").write_text(
        "<h1 id='top'><a href='#top'><a href='b.html#low'><img src='c.png'><a href='b.html#high'><a href='https://d.org'>"
    )
    (tmp_path / "b.html").write_text("<p id='low'><a href='a.html'>")
    problems, outside = check_site(tmp_path)
    assert problems == [
        "a.html leads to c.png, which is not there.",
        "a.html leads to b.html#high, which is not there.",
    ]
    assert outside == ["https://d.org"]


def test_sections_of_a_docstring_are_set_apart():
    assert separated_sections("Do.\n\nArgs:\n    a: it.\nRaises:\n    E: no.") == (
        "Do.\n\nArgs:\n    a: it.\n\nRaises:\n    E: no."
    )
